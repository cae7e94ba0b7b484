"""Which cores ranks run on: a rank of short actions keeps to one, one of long actions does not."""

import os
import sys
from pathlib import Path

import pytest
from engine.one_process import batch, linears
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.cores import _LONG, Seat, cores
from pipelab.schedules import one_f_one_b

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux seats processes")


def cores_of(pid):
    """For each thread of a process, the cores that it may run on."""
    return [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]


def test_ranks_of_short_actions_keep_to_a_core_with_all_their_threads():
    num_ranks = 2 * cores()
    schedule = one_f_one_b(num_ranks, 2)
    with Pipeline(linears(depth=num_ranks), schedule, loss=cross_entropy) as pipeline:
        for _ in range(3):
            pipeline.step(*batch(8))
        found = [cores_of(pid) for pid in pipeline.pids]
    for threads in found:
        assert len(threads) > 1 and all(len(seat) == 1 for seat in threads)
    assert {next(iter(seat)) for (seat, *_) in found} == os.sched_getaffinity(0)


def test_a_seat_is_left_where_actions_are_long_and_taken_again():
    before = os.sched_getaffinity(0)
    seat = Seat(rank=1, num_ranks=len(before), threads=1)
    try:
        for seconds, number in ((_LONG / 2, 1), (_LONG * 2, len(before)), (_LONG / 2, 1)):
            seat.choose(seconds)
            assert [len(found) for found in cores_of(os.getpid())] == [number] * len(
                cores_of(os.getpid())
            )
    finally:
        seat.leave()
    assert os.sched_getaffinity(0) == before


def test_where_ranks_leave_cores_free_the_system_alone_decides():
    seat = Seat(rank=0, num_ranks=len(os.sched_getaffinity(0)) - 1, threads=1)
    before = os.sched_getaffinity(0)
    seat.choose(0.0)
    assert os.sched_getaffinity(0) == before

"""Which cores ranks run on: a rank of short actions keeps to one, one of long actions does not."""

import os
import sys
import time
from pathlib import Path

import pytest
from engine.one_process import batch, linears
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.cores import _CROWD, _LONG, Seat, cores
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


def test_a_seat_is_left_where_actions_are_long_or_another_program_sits_there():
    before = os.sched_getaffinity(0)
    try:
        for ranks_a_core, stays_crowded in ((1, False), (2, True)):
            seat = Seat(rank=0, num_ranks=ranks_a_core * len(before), threads=1)
            for action, crowd, is_seated in (
                (_LONG / 2, 0.0, True),
                (_LONG * 2, 0.0, False),
                (
                    _LONG / 2,
                    2 * _CROWD,
                    stays_crowded,
                ),  # sharing is no crowd
                (_LONG / 2, 0.0, True),
            ):
                seat.choose(action, crowd)
                for found in cores_of(os.getpid()):
                    assert found == ({min(before)} if is_seated else before)
            seat.leave()
    finally:
        seat.leave()
    assert os.sched_getaffinity(0) == before


def test_a_step_counts_what_the_rank_computed():
    seat, seen = Seat(0, len(os.sched_getaffinity(0)), 1), []
    seat.choose = lambda action, crowd: seen.append((action, crowd))
    seat.begin()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    time.sleep(0.1)  # asleep is neither on a core nor in line for one
    seat.end(10)
    ((action, crowd),) = seen
    assert 0.004 < action < 0.01 and crowd >= 0.0


def test_where_ranks_leave_cores_free_the_system_alone_decides():
    before = os.sched_getaffinity(0)
    seat = Seat(rank=0, num_ranks=len(before) - 1, threads=1)
    seat.begin()
    seat.end(1)
    seat.choose(0.0, 0.0)
    assert os.sched_getaffinity(0) == before

"""Which cores ranks run on: a rank of short actions keeps to one, one of long actions does not."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch
from engine.one_process import batch, linears
from torch.nn.functional import cross_entropy

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.engine.rank.affinity import _CROWD, _LONG, _RECENT, Seat, cores
from pipelab.schedules import gpipe, one_f_one_b

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux seats processes")


def cores_of(pid):
    """For each thread of a process, the cores that it may run on."""
    return [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]


@pytest.mark.timing
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
        for ranks_a_core, stays_crowded in ((1, False), (2, True)):  # sharing is no crowd
            seat = Seat(rank=0, num_ranks=ranks_a_core * len(before), threads=1)
            for action, crowd, is_seated in (
                (_LONG / 2, 0.0, True),
                (_LONG * 2, 0.0, False),
                (_LONG / 2, 0.9 * _CROWD / _RECENT, True),  # a guest by chance, for one step
                (_LONG / 2, 2 * _CROWD / _RECENT, stays_crowded),
                *[(_LONG / 2, 0.0, None)] * 10,
                (_LONG / 2, 0.0, True),
            ):
                seat.choose(action, crowd)
                for found in cores_of(os.getpid()) if is_seated is not None else ():
                    assert found == ({min(before)} if is_seated else before)
            seat.leave()
    finally:
        seat.leave()
    assert os.sched_getaffinity(0) == before


def test_a_rank_gives_way_where_nobody_but_its_own_threads_waits_for_its_core(monkeypatch):
    given = []
    monkeypatch.setattr(os, "sched_yield", lambda: given.append(1))

    def gives_way(seat):
        given.clear()
        seat.give_way()
        return bool(given)

    alone, shares = (Seat(0, ranks * len(os.sched_getaffinity(0)), 1) for ranks in (1, 2))
    try:
        assert not gives_way(alone)  # before its first step nobody knows
        for seat in (alone, shares):
            seat.choose(_LONG / 2, 0.0)
            assert gives_way(seat) == (seat is alone)
        alone.choose(_LONG * 2, 0.0)
        assert gives_way(alone)  # long actions hold messages up the most
        alone.choose(_LONG / 2, 2 * _CROWD / _RECENT)
        assert not gives_way(alone)
    finally:
        alone.leave()
        shares.leave()
    alone.choose(_LONG / 2, -alone.crowd)
    alone.leave()  # paced from now on
    assert not gives_way(alone)


@pytest.mark.slow  # wants a quiet machine: a rank that has no core of its own gives no way
def test_a_message_does_not_wait_until_its_sender_is_through_with_all_its_forwards():
    """Once it did: gloo's thread, which does not cut in, had no turn before the first WAIT."""
    num_ranks, in_time, steps = cores(), 0, 0
    inputs, targets = torch.randn(256, 256), torch.randint(0, 256, (256,))
    layers = [torch.nn.Linear(256, 256) for _ in range(4 * num_ranks)]
    with Pipeline(layers, gpipe(num_ranks, 16), loss=cross_entropy) as pipeline:
        for _ in range(60):
            seated = all(len(os.sched_getaffinity(pid)) == 1 for pid in pipeline.pids)
            events = pipeline.step(inputs, targets).trace.events
            forwards = {(e.rank, e.microbatch): e for e in events if e.kind is Kind.F}
            if seated:
                steps += 1
                in_time += forwards[1, 0].start < forwards[0, 12].start
    assert steps >= 20, "other programs use the cores: try again on a quiet machine"
    assert in_time > steps / 2


@pytest.mark.timing
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

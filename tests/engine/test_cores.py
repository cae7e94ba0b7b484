"""Which cores ranks run on: a rank of short actions keeps to one, one of long actions does not."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline
from pipelab.engine.rank.affinity import LONG_ACTION, MAX_CONTENTION, SMOOTHING, Affinity, cores
from pipelab.schedules import gpipe, one_f_one_b
from tests.engine.one_process import batch, linears

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds processes")


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
        assert len(threads) > 1 and all(len(allowed) == 1 for allowed in threads)
    assert {next(iter(allowed)) for (allowed, *_) in found} == os.sched_getaffinity(0)


def test_a_core_is_released_where_actions_are_long_or_another_program_uses_it():
    before = os.sched_getaffinity(0)
    try:
        for ranks_a_core, stays_shared in ((1, False), (2, True)):  # sharing is no contention
            affinity = Affinity(rank=0, num_ranks=ranks_a_core * len(before), threads=1)
            for action, contention, is_bound in (
                (LONG_ACTION / 2, 0.0, True),
                (LONG_ACTION * 2, 0.0, False),
                (
                    LONG_ACTION / 2,
                    0.9 * MAX_CONTENTION / SMOOTHING,
                    True,
                ),  # for one step, by chance
                (LONG_ACTION / 2, 2 * MAX_CONTENTION / SMOOTHING, stays_shared),
                *[(LONG_ACTION / 2, 0.0, None)] * 10,
                (LONG_ACTION / 2, 0.0, True),
            ):
                affinity.decide(action, contention)
                for found in cores_of(os.getpid()) if is_bound is not None else ():
                    assert found == ({min(before)} if is_bound else before)
            affinity.release()
    finally:
        affinity.release()
    assert os.sched_getaffinity(0) == before


def test_a_rank_yields_where_only_its_own_threads_wait_for_its_core(monkeypatch):
    yielded = []
    monkeypatch.setattr(os, "sched_yield", lambda: yielded.append(1))

    def yields(affinity):
        yielded.clear()
        affinity.before(Action(0, Kind.F, 0))
        return bool(yielded)

    alone, shares = (Affinity(0, ranks * len(os.sched_getaffinity(0)), 1) for ranks in (1, 2))
    try:
        assert not yields(alone)  # before its first step nobody knows
        for affinity in (alone, shares):
            affinity.decide(LONG_ACTION / 2, 0.0)
            assert yields(affinity) == (affinity is alone)
        alone.decide(LONG_ACTION * 2, 0.0)
        assert yields(alone)  # long actions hold messages up the most
        alone.decide(LONG_ACTION / 2, 2 * MAX_CONTENTION / SMOOTHING)
        assert not yields(alone)
    finally:
        alone.release()
        shares.release()
    alone.decide(LONG_ACTION / 2, -alone.contention)
    alone.release()  # paced from now on
    assert not yields(alone)


@pytest.mark.slow  # wants a quiet machine: a rank without its own core does not yield
def test_a_message_does_not_wait_until_its_sender_has_finished_all_its_forwards():
    """Once it did: gloo's thread, which does not preempt, did not run before the first WAIT."""
    num_ranks, in_time, steps = cores(), 0, 0
    inputs, targets = torch.randn(256, 256), torch.randint(0, 256, (256,))
    layers = [torch.nn.Linear(256, 256) for _ in range(4 * num_ranks)]
    with Pipeline(layers, gpipe(num_ranks, 16), loss=cross_entropy) as pipeline:
        for _ in range(60):
            bound = all(len(os.sched_getaffinity(pid)) == 1 for pid in pipeline.pids)
            events = pipeline.step(inputs, targets).trace.events
            forwards = {(e.rank, e.microbatch): e for e in events if e.kind is Kind.F}
            if bound:
                steps += 1
                in_time += forwards[1, 0].start < forwards[0, 12].start
    assert steps >= 20, "other programs use the cores: try again on a quiet machine"
    assert in_time > steps / 2


@pytest.mark.timing
def test_a_step_counts_what_the_rank_computed():
    affinity, seen = Affinity(0, len(os.sched_getaffinity(0)), 1), []
    affinity.decide = lambda action, contention: seen.append((action, contention))
    affinity.begin_step()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    time.sleep(0.1)  # asleep is neither on a core nor in line for one
    affinity.end_step(10)
    ((action, contention),) = seen
    assert 0.004 < action < 0.01 and contention >= 0.0


def test_where_ranks_leave_cores_free_the_system_alone_decides():
    before = os.sched_getaffinity(0)
    affinity = Affinity(rank=0, num_ranks=len(before) - 1, threads=1)
    affinity.begin_step()
    affinity.end_step(1)
    affinity.decide(0.0, 0.0)
    assert os.sched_getaffinity(0) == before

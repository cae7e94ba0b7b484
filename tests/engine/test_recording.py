"""Recorded means recorded: every event is what a rank did, on one clock."""

import itertools
import threading
import time
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

X, Y = torch.randn(16, 16), torch.randint(10, (16,))
PACE = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010)


def record(schedule, steps=3, **options):
    adam = partial(torch.optim.AdamW, lr=1e-3)
    with Pipeline(mlp(), schedule, loss=cross_entropy, optimizer=adam, **options) as pipeline:
        return [pipeline.step(X, Y).trace for _ in range(steps)]


@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
def test_every_action_is_an_event_once_in_schedule_order(build):
    schedule = build(4, 8)
    for trace in record(schedule):
        assert trace.source == "recorded"
        for rank, row in enumerate(schedule.ranks):
            events = [e for e in trace.events if e.rank == rank]
            computed = [(e.stage, e.kind, e.microbatch) for e in events if e.kind in "FB"]
            assert computed == [tuple(a) for a in row]
            assert all(a.end <= b.start for a, b in itertools.pairwise(events))
            kinds = [e.kind for e in events]
            assert kinds.count(Kind.STEP) == 1
            assert kinds.count(Kind.SEND_F) == 8 * (rank < 3)
            assert kinds.count(Kind.SEND_B) == 8 * (rank > 0)
            assert kinds.count(Kind.WAIT) == 8 * ((rank > 0) + (rank < 3))


def test_one_clock_no_effect_before_its_cause():
    (trace,) = record(one_f_one_b(4, 8), steps=1)
    at = {(e.kind, e.stage, e.microbatch): e for e in trace.events if e.kind in ("F", "B")}
    for stage in range(1, 4):
        for i in range(8):
            assert at["F", stage, i].start >= at["F", stage - 1, i].end
            assert at["B", stage - 1, i].start >= at["B", stage, i].end
    assert min(e.start for e in trace.events) == 0


@pytest.mark.timing
def test_waiting_is_not_hidden_in_computation():
    trace = record(gpipe(2, 2), pace=PACE)[-1]
    first = next(e for e in trace.events if e.rank == 1 and e.kind is Kind.F)
    wait = next(e for e in trace.events if e.rank == 1 and e.kind is Kind.WAIT)
    assert wait.peer == 0
    assert wait.end <= first.start
    assert wait.end - wait.start > 0.005  # rank 1 waited while rank 0 was in 0F0
    assert first.end - first.start < 0.018


@pytest.mark.timing
def test_another_thread_sees_what_each_rank_began_and_when():
    pace, schedule = 0.03, gpipe(2, 3)
    with Pipeline(
        mlp(), schedule, loss=cross_entropy, pace=Cost(pace, pace / 2, pace / 2)
    ) as pipeline:
        before = pipeline.begun
        began = time.monotonic()
        thread = threading.Thread(target=pipeline.step, args=(X, Y))
        thread.start()
        seen = set()
        while thread.is_alive():
            seen |= {(rank, *begun[:3]) for rank, begun in enumerate(pipeline.begun)}
            time.sleep(0.001)
    assert pipeline.begun == () and len(before) == 2
    for rank, row in enumerate(schedule.ranks):
        mine = sorted((number, action, since) for r, number, action, since in seen if r == rank)
        new = [(action, since) for number, action, since in mine if number > before[rank].number]
        computed = [(action, since) for action, since in new if action.kind in COMPUTE]
        order = [row.index(action) for action, _ in computed]
        assert len(order) >= 3 and order == sorted(set(order))
        assert all(isinstance(action, Action) and since >= began for action, since in new)
        for (_, a), (_, b) in itertools.pairwise(computed):
            assert b - a >= 0.9 * pace, "the time of its begin, not of the look at it"


@pytest.mark.timing
def test_paced_runs_match_their_prediction():
    # structure exactly, time as a ratio with room for a busy machine: fastest of five steps
    for build in (gpipe, one_f_one_b):
        schedule = build(4, 4)
        predicted = simulate(schedule, PACE)
        best = min(record(schedule, 5, pace=PACE), key=lambda trace: trace.duration)
        assert 0.98 <= best.duration / predicted.duration < 1.25
        bubble, formula = best.bubble_fraction, predicted.bubble_fraction
        assert formula - 0.02 < bubble < formula + 0.1, "late hand-overs are not the device's"
        assert best.setting.paced == "F 10 ms, B 20 ms"
        short = min(e.end - e.start for e in best.events if e.kind is Kind.F)
        assert short > 0.00899  # an action makes up for at most a tenth


def test_peak_activations_of_1f1b_and_gpipe():
    # every rank but the first and last keeps the same bytes per microbatch
    one, all_m = record(one_f_one_b(4, 8))[-1], record(gpipe(4, 8))[-1]
    unit = {e.rank: e.bytes for e in one.events if e.kind is Kind.F}
    assert min(unit.values()) > 0
    assert one.peak_activation_bytes == tuple(unit[r] * (4 - r) for r in range(4))
    assert all_m.peak_activation_bytes == tuple(unit[r] * 8 for r in range(4))


def test_saved_bytes_are_those_of_autograd():
    # one Linear + Tanh on the middle ranks: it saves its input (2 rows x 64) and tanh's output,
    # each 4 bytes wide; the output is tanh's own
    trace = record(gpipe(8, 8))[-1]
    (size,) = {e.bytes for e in trace.events if e.kind is Kind.F and e.rank == 3}
    assert size == 2 * 64 * 4 * 2


def test_memory_of_each_rank():
    model = mlp()
    trace = record(gpipe(2, 2))[-1]
    assert sum(m.parameters for m in trace.memory) == sum(p.nbytes for p in model.parameters())
    for memory in trace.memory:
        assert memory.gradients == memory.parameters
        assert 2 * memory.parameters <= memory.optimizer < 2 * memory.parameters + 200  # + counters
    assert max(m.parameters for m in trace.memory) < sum(m.parameters for m in trace.memory) * 0.6


def test_message_bytes_and_peers():
    (trace,) = record(gpipe(3, 4), steps=1)
    for e in trace.events:
        if e.kind is Kind.SEND_F:
            assert (e.bytes, e.peer) == (4 * 64 * 4, e.rank + 1)
        if e.kind is Kind.SEND_B:
            assert (e.bytes, e.peer) == (4 * 64 * 4, e.rank - 1)


def test_a_recorded_trace_survives_the_file(tmp_path):
    (trace,) = record(one_f_one_b(3, 4), steps=1)
    assert Trace.load(trace.save(tmp_path / "trace.json")) == trace
    assert trace.source_line.startswith(
        "recorded · 1f1b · 3 ranks · 4 microbatches · shared memory/cpu"
    )

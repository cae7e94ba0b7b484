"""DualPipeV: its numbers, its pairs on the simulator, in traces, pictures and on real ranks."""

import pytest
import torch
from torch import nn

from pipelab.action import Action, Kind, Overlap
from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import DeadlockError, ScheduleError
from pipelab.overlapping import overlapping_pairs
from pipelab.plots import plot_timeline
from pipelab.plots.terminal import timeline_text
from pipelab.schedules import Schedule, dual_pipe_v, validate
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.trace import critical_path
from pipelab.trace.metrics import busy
from pipelab.widgets.data import head


@pytest.mark.parametrize(
    ("p", "m", "costs", "makespan", "idle"),
    [
        (2, 8, (1, 1, 1, 3), 50, [2, 2]),
        (4, 10, (1, 1, 1, 3), 66, [6, 6, 6, 6]),
        (4, 10, (1, 1, 1, 2), 52, [1, 2, 3, 3]),
        (4, 10, (1, 1.2, 0.8, 3), 67.2, [7.2, 7.2, 7.2, 7.2]),
    ],
)
def test_the_makespans_of_the_table(p, m, costs, makespan, idle):
    schedule = dual_pipe_v(p, m)
    for written in (schedule, lower(schedule), Schedule.from_csv(schedule.to_csv())):
        trace = simulate(written, Cost(*costs[:3], overlapped=costs[3]))
        assert trace.duration == pytest.approx(makespan)
        computed = busy(trace.events, p)
        assert [trace.duration - seconds for seconds in computed] == pytest.approx(idle)


@pytest.mark.parametrize("p", range(2, 9))
def test_memory_is_2p_plus_1_activations_of_a_stage_on_every_rank(p):
    for m in (2 * p, 2 * p + 3, 4 * p):
        validate(dual_pipe_v(p, m))
        assert [2 * peak for peak in peak_activations(dual_pipe_v(p, m))] == [2 * p + 1] * p


@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (4, 7)])
def test_fewer_than_two_microbatches_a_rank_are_refused(p, m):
    with pytest.raises(ScheduleError, match=f"wants at least {2 * p} microbatches"):
        dual_pipe_v(p, m)


def test_a_pair_starts_when_both_messages_are_there_and_ends_as_one():
    trace = simulate(dual_pipe_v(3, 8), Cost(1, 1, 1, latency=0.25, overlapped=2.5))
    pairs = overlapping_pairs(trace.events)
    assert {(a.kind, b.kind) for a, b in pairs} == {("F", "B")}
    assert len(pairs) == len(dual_pipe_v(3, 8).overlaps)
    sent = {(e.kind, e.stage, e.microbatch): e for e in trace.events if e.kind.startswith("SEND")}
    for forward, backward in pairs:
        assert (forward.start, forward.end) == (backward.start, backward.end)
        assert forward.end - forward.start == 2.5
        for event, kind, step in ((forward, "SEND_F", -1), (backward, "SEND_B", 1)):
            came = sent.get((kind, event.stage + step, event.microbatch))
            assert came is None or came.end <= event.start
            left = sent.get((kind, event.stage, event.microbatch))
            assert left is None or left.start == event.end
    path = critical_path(trace)
    assert path[0].event.start == 0 and path[-1].event.end == trace.duration


def rows(*tokens):
    return Schedule.from_tokens([row.split() for row in tokens])


def test_pairs_that_cannot_be_are_refused():
    one = "0F0 (0F1;0B0)OVERLAP_F_B 0B1"
    validate(rows(one))
    with pytest.raises(ScheduleError, match="of one microbatch"):
        validate(rows("(0F0;0B0)OVERLAP_F_B"))
    apart = Schedule(
        rows("0F0 0F1 0B0 0B1").ranks,
        overlaps=frozenset([Overlap(Action(0, Kind.F, 0), Action(0, Kind.B, 0))]),
    )
    with pytest.raises(ScheduleError, match="do not stand one after the other"):
        validate(apart)
    # one after the other they run; as pairs, each waits for what the other one makes
    first, second = "0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1"
    validate(rows(first, second))
    with pytest.raises(DeadlockError):
        validate(rows("0F0 (0F1;0B0)OVERLAP_F_B 0B1", "1F0 1F1 1B0 1B1"))


def test_costs_come_back_from_a_trace_with_pairs():
    for cost in (Cost(1, 1.5, 0.5, overlapped=2.25), Cost(1, 2, 1)):
        schedule = dual_pipe_v(2, 6)
        found = Cost.from_trace(simulate(schedule, cost))
        assert simulate(schedule, found).duration == simulate(schedule, cost).duration


def test_pictures_show_both_of_a_pair():
    schedule = dual_pipe_v(2, 6)
    trace = simulate(schedule, Cost(0.01, 0.01, 0.01, overlapped=0.025))
    assert "+3B1 3F2" in str(schedule)
    text = timeline_text(trace, 160)
    assert "0F3+3B1" in text and "F+B both at the same time" in text and "F&B 25 ms" in text
    labels = {
        t.get_text(): t.get_position()[1] for t in plot_timeline(trace, width=14).axes[0].texts
    }
    assert labels["F3"] != labels["W5"]  # not in the middle of its row
    places = head(trace)["pairs"]
    assert [(trace.events[i], trace.events[j]) for i, j in places] == overlapping_pairs(
        trace.events
    )


@pytest.mark.parametrize("worker", ["pipelab", "torch"])
def test_gradients_and_order_on_real_ranks(worker):
    torch.manual_seed(0)
    rows = 11 if worker == "pipelab" else 10  # torch has buffers of one size
    schedule, x = dual_pipe_v(2, 5), torch.randn(rows, 8)
    model = [nn.Linear(8, 8) for _ in range(4)]
    report = verify_gradients(model, schedule, x, x, nn.functional.mse_loss, worker=worker)
    assert report.ok and (worker == "torch" or all(row.exact for row in report.parameters)), report


@pytest.mark.parametrize("worker", ["pipelab", "torch"])
def test_paced_pairs_are_recorded_as_one_and_torchs_are_two(worker):
    """torch runs what it calls an overlap as F, then B, so there F&B is F + B."""
    schedule, x = dual_pipe_v(2, 4), torch.ones(8, 8)
    cost = Cost(0.02, 0.02, 0.02, overlapped=0.04)
    model = [nn.Linear(8, 8) for _ in range(4)]
    with Pipeline(
        model, schedule, loss=nn.functional.mse_loss, pace=cost, worker=worker
    ) as pipeline:
        trace = [pipeline.step(x, x).trace for _ in range(2)][-1]
    found = overlapping_pairs(trace.events)
    assert len(found) == (len(schedule.overlaps) if worker == "pipelab" else 0)
    assert all(a.start == b.start for a, b in found)
    assert trace.duration > 0.9 * simulate(schedule, cost).duration

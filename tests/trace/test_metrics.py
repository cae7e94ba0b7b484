"""The formulas of the papers, on predicted traces: exact."""

import pytest

from pipelab.action import Kind
from pipelab.schedules import gpipe, one_f_one_b, sequential, zero_bubble_v
from pipelab.schedules.builders import eager_one_f_one_b
from pipelab.schedules.counts import count_messages
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace, expected_bubble_fraction
from pipelab.trace.metrics import gaps
from tests.trace.hidden_messages import hidden_message_share
from tests.traces import recorded_like, two_stages_a_rank, with_messages

UNIT = Cost(1, 1, 1)


def weighing_one(trace: Trace) -> Trace:
    """The same trace where each F keeps one byte: peaks then count microbatches in flight."""
    weighed = (e._replace(bytes=int(e.kind is Kind.F)) for e in trace.events)
    return Trace(tuple(weighed), trace.source, trace.setting)


@pytest.mark.parametrize(
    ("build", "p", "m", "latency", "makespan", "bubble", "peaks"),
    [
        (gpipe, 2, 4, 0.0, 15, 0.2000, (4, 4)),
        (one_f_one_b, 2, 4, 0.0, 15, 0.2000, (2, 1)),
        (gpipe, 4, 8, 0.0, 33, 0.2727, (8, 8, 8, 8)),
        (one_f_one_b, 4, 8, 0.0, 33, 0.2727, (4, 3, 2, 1)),
        # equal on paper, different in practice: 1F1B pays the hop in its steady state
        (gpipe, 4, 8, 0.1, 33.6, 0.2857, (8, 8, 8, 8)),
        (one_f_one_b, 4, 8, 0.1, 34.6, 0.3064, (4, 3, 2, 1)),
    ],
)
def test_oracle_numbers(build, p, m, latency, makespan, bubble, peaks):
    trace = weighing_one(simulate(build(p, m), Cost(1, 1, 1, latency=latency)))
    assert trace.duration == pytest.approx(makespan, rel=1e-12)
    assert trace.bubble_fraction == pytest.approx(bubble, abs=5e-5)
    assert trace.peak_activation_bytes == peaks


@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
@pytest.mark.parametrize("p", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("m", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("cost", [UNIT, Cost(1, 2, 0.5), Cost(0.01, 0.01, 0.02)])
def test_gpipe_and_1f1b_have_the_same_bubble(build, p, m, cost):
    trace = weighing_one(simulate(build(p, m), cost))
    each = cost.forward + cost.backward_input + cost.backward_weight
    assert trace.duration == pytest.approx((m + p - 1) * each)
    assert trace.bubble_fraction == pytest.approx(expected_bubble_fraction(p, m))
    assert trace.bubble_overhead == pytest.approx((p - 1) / m)
    assert trace.utilisation == pytest.approx([m / (m + p - 1)] * p)
    peaks = [m if build is gpipe else min(m, p - rank) for rank in range(p)]
    assert trace.peak_activation_bytes == tuple(peaks)


def test_1f1b_with_equal_forward_and_backward_takes_no_shortcut():
    # A result cannot be used in the slot that produced it: that would give 2m + p - 1.
    trace = simulate(one_f_one_b(4, 8), Cost(1, 0.5, 0.5))
    assert trace.duration == 2 * (8 + 4 - 1)


def test_sequential_stages_leave_all_but_one_rank_idle():
    assert simulate(sequential(4, 3), UNIT).bubble_fraction == pytest.approx(1 - 1 / 4)


def test_the_halves_of_a_backward_hold_activations_until_w():
    trace = weighing_one(simulate(two_stages_a_rank(), UNIT))
    assert trace.peak_activation_bytes == (4, 4)
    last_w = max(e.end for e in trace.events if e.kind is Kind.W)
    without_w = Trace(
        tuple(e for e in trace.events if e.kind is not Kind.W), "predicted", trace.setting
    )
    assert last_w == trace.duration
    assert without_w.peak_activation_bytes == (4, 4)


def test_waits_messages_and_steps_are_no_work():
    trace = recorded_like(one_f_one_b(4, 8))
    bare = Trace(
        tuple(e for e in trace.events if e.kind in (Kind.F, Kind.B)), "recorded", trace.setting
    )
    assert {e.kind for e in trace.events} > {Kind.WAIT, Kind.SEND_F, Kind.RECV_B, Kind.STEP}
    assert trace.duration == bare.duration
    assert trace.bubble_fraction == bare.bubble_fraction
    assert trace.bubble_fraction > expected_bubble_fraction(4, 8)


def test_overlapping_work_counts_once():
    events = (Event(0, Kind.F, 0, 0, 0.0, 2.0), Event(0, Kind.B, 0, 1, 1.0, 3.0))
    assert Trace(events, "recorded", Setting(ranks=2)).utilisation == (1.0, 0.0)


def test_replicas_that_share_stage_numbers_do_not_share_memory():
    # Two ranks hold stage 0 as replicas: each gives its own bytes back, not the other's.
    events = tuple(
        Event(rank, kind, 0, i, 2.0 * i + at, 2.0 * i + at + 1, 10 if kind is Kind.F else 0)
        for rank in (0, 1)
        for i in range(3)
        for kind, at in ((Kind.F, 0), (Kind.B, 1))
    )
    assert Trace(events, "recorded", Setting(ranks=2)).peak_activation_bytes == (10, 10)


def test_a_trace_without_events_has_numbers_too():
    trace = Trace((), "recorded", Setting(ranks=2))
    assert (trace.duration, trace.bubble_fraction, trace.bubble_overhead) == (0.0, 0.0, 0.0)
    assert trace.utilisation == (0.0, 0.0)
    assert trace.peak_activation_bytes == (0, 0)


def test_messages_of_a_v_stay_home_at_its_foot():
    schedule = zero_bubble_v(3, 4)
    sends = [
        (e.kind, e.rank, e.peer)
        for e in with_messages(schedule, Cost()).events
        if e.kind in (Kind.SEND_F, Kind.SEND_B)
    ]
    assert len(sends) == count_messages(schedule)
    assert (Kind.SEND_F, 2, 2) not in sends
    assert sends.count((Kind.SEND_F, 1, 0)) == 4  # the second half of the V goes back up


def test_gaps_are_what_nothing_covers():
    def at(start, end):
        return Event(0, Kind.F, 0, 0, start, end)

    assert gaps([], 0, 5) == [(0, 5)]
    assert gaps([at(0, 5)], 0, 5) == []
    assert gaps([at(3, 4), at(1, 2)], 0, 5) == [(0, 1), (2, 3), (4, 5)]
    assert gaps([at(1, 3), at(2, 4)], 0, 5) == [(0, 1), (4, 5)]
    assert gaps([at(1, 4), at(2, 3)], 0, 5) == [(0, 1), (4, 5)]
    assert gaps([at(-2, 1), at(4, 9)], 0, 5) == [(1, 4)]
    assert gaps([at(7, 8)], 0, 5) == [(0, 5)]


def test_eager_1f1b_hides_what_1f1b_cannot():
    # 1F1B needs each message at once: of a message of F/4 only the half is hidden on average
    cost = Cost(latency=0.25)
    assert 0.45 < hidden_message_share(simulate(one_f_one_b(4, 16), cost)) < 0.55
    assert hidden_message_share(simulate(eager_one_f_one_b(4, 16), cost)) == 1.0
    blocking = simulate(eager_one_f_one_b(4, 16), cost, overlap=False)
    assert hidden_message_share(blocking) < 0.6
    assert hidden_message_share(simulate(one_f_one_b(4, 16), Cost())) == 0.0  # none takes time

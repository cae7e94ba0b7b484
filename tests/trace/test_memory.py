"""The bytes that a rank holds: what came is what goes, and what stays is trace.memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import Kind
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost
from pipelab.trace import Event, Memory, Setting, Trace
from pipelab.trace.memory import MemoryPoint, memory_curve, peak_bytes
from tests.traces import recorded_like, two_stages_a_rank, with_messages


def test_one_rank_by_hand():
    events = (
        Event(1, Kind.RECV_F, 1, 0, 0.0, 0.1, 16, 0),
        Event(1, Kind.WAIT, 1, 0, 0.1, 1.0, 0, 0),
        Event(1, Kind.F, 1, 0, 1.0, 2.0, 100),
        Event(1, Kind.RECV_B, 1, 0, 2.0, 2.1, 32, 2),
        Event(1, Kind.I, 1, 0, 3.0, 4.0, 3),
        Event(1, Kind.W, 1, 0, 4.0, 5.0, 40),
        Event(1, Kind.STEP, 1, None, 5.0, 6.0, 80),
    )
    memory = (Memory(), Memory(50, 43, 90), Memory())
    trace = Trace(events, "recorded", Setting(ranks=3), memory)
    assert memory_curve(trace, 1) == [
        MemoryPoint(0.0, 50, 0, 10, 0, 0),
        MemoryPoint(0.0, 50, 0, 10, 0, 16),  # posted: a buffer is there at once
        MemoryPoint(2.0, 50, 0, 10, 100, 0),  # from now on the input counts in what F keeps
        MemoryPoint(2.0, 50, 0, 10, 100, 32),
        MemoryPoint(4.0, 50, 3, 10, 100, 0),  # I uses the message, W still needs the activations
        MemoryPoint(5.0, 50, 43, 10, 0, 0),
        MemoryPoint(6.0, 50, 43, 90, 0, 0),
    ]
    assert [point.total for point in peak_bytes(trace)] == [0, 50 + 10 + 100 + 32, 0]


TRACES = {
    "gpipe": recorded_like(gpipe(3, 5)),
    "1f1b": recorded_like(one_f_one_b(4, 8)),
    "two stages a rank": recorded_like(two_stages_a_rank()),
    "one rank": recorded_like(one_f_one_b(1, 1)),
}


@pytest.mark.parametrize("name", TRACES)
def test_it_ends_with_what_stays_and_begins_without_what_came(name):
    trace = TRACES[name]
    for rank, after in enumerate(trace.memory):
        first, *_, last = memory_curve(trace, rank)
        assert first[1:] == (after.parameters, 0, 0, 0, 0)
        assert last[1:] == (*after, 0, 0)


@pytest.mark.parametrize("name", TRACES)
def test_peaks_are_the_highest_points_and_agree_with_the_activations(name):
    trace = TRACES[name]
    for rank, peak in enumerate(peak_bytes(trace)):
        curve = memory_curve(trace, rank)
        assert peak in curve
        assert peak.total == max(sum(point[1:]) for point in curve)
        assert max(p.activations for p in curve) == trace.peak_activation_bytes[rank]


@given(st.integers(1, 5), st.integers(1, 8))
@settings(max_examples=30)
def test_1f1b_holds_as_many_activations_as_the_paper_says(p, m):
    trace = with_messages(one_f_one_b(p, m), Cost(1, 1, 1, latency=0.25))
    events = tuple(e._replace(bytes=7 if e.kind is Kind.F else 0) for e in trace.events)
    weighed = Trace(events, "predicted", trace.setting)
    assert [point.total for point in peak_bytes(weighed)] == [7 * min(m, p - r) for r in range(p)]


def test_where_nothing_was_noted_the_level_after_the_step_is_the_level():
    events = (Event(0, Kind.B, 0, 0, 0.0, 1.0), Event(0, Kind.STEP, 0, None, 1.0, 2.0))
    curve = memory_curve(Trace(events, "recorded", Setting(), (Memory(5, 6, 7),)), 0)
    assert {point[1:] for point in curve} == {(5, 6, 7, 0, 0)}
    more = (Event(0, Kind.B, 0, 0, 0.0, 1.0, 99),)  # than is there in the end
    assert memory_curve(Trace(more, "recorded", Setting(), (Memory(5, 6, 7),)), 0)[0].gradients == 0
    assert memory_curve(Trace((), "recorded", Setting()), 0) == [MemoryPoint(0.0, 0, 0, 0, 0, 0)]

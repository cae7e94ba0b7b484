"""The critical path: without a hole in a prediction, and as long as the step."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Action, Kind
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from pipelab.schedules.counts import count_messages
from pipelab.simulator import Cost
from pipelab.trace import Event, Setting, Trace, critical_path
from pipelab.trace.links import link
from tests.traces import latencies, predictions, recorded_like, times, with_messages


def tokens(path):
    return [Action(e.stage, e.kind, e.microbatch).token for e, _ in path]


def computing_seconds(path):
    return sum(link.event.end - link.event.start for link in path if link.event.kind in COMPUTE)


@given(st.sampled_from([gpipe, one_f_one_b]), st.integers(1, 6), st.integers(1, 12), times, times)
@settings(max_examples=100)
def test_with_equal_stages_it_computes_for_the_whole_step(builder, p, m, forward, backward):
    trace = with_messages(builder(p, m), Cost(forward, backward, backward))
    path = critical_path(trace)
    assert computing_seconds(path) == trace.duration
    assert computing_seconds(path) == (m + p - 1) * (forward + 2 * backward)


@given(predictions())
@settings(max_examples=150)
def test_each_event_of_a_prediction_starts_when_the_one_before_it_ends(trace):
    path = critical_path(trace)
    assert path[0].why == "start"
    assert path[0].event.start == 0
    assert path[-1].event.end == trace.duration
    for (before, _), (event, why) in pairwise(path):
        assert event.start == before.end
        match why:
            case "rank":
                assert event.rank == before.rank
            case "sent":
                assert (event.rank, event.stage) == (before.rank, before.stage)
                assert event.kind in (Kind.SEND_F, Kind.SEND_B)
            case "message":
                assert event.rank == before.peer
                assert abs(event.stage - before.stage) == 1
            case _:
                pytest.fail(f"{why} in mid-path")


def test_the_drawing_in_the_docstring():
    schedule = Schedule.from_tokens([["0F0", "0F1", "0B0", "0B1"], ["1F0", "1F1", "1B0", "1B1"]])
    trace = with_messages(schedule, Cost([2, 1], [0.5, 1], 0, latency=0.5))
    assert tokens(critical_path(trace)) == [
        *("0F0", "0F1", "0SEND_F1", "1F1", "1B0", "1B1", "1SEND_B1", "0B1")
    ]
    assert [why for _, why in critical_path(trace)] == [
        *("start", "rank", "sent", "message", "rank", "rank", "sent", "message")
    ]


@given(st.integers(2, 5), st.data(), latencies)
@settings(max_examples=50)
def test_a_slow_rank_holds_most_of_it(p, data, latency):
    slow = data.draw(st.integers(0, p - 1))
    each = [8.0 if stage == slow else 1.0 for stage in range(p)]
    path = critical_path(with_messages(one_f_one_b(p, 4 * p), Cost(each, each, each, latency)))
    on_slow = computing_seconds([link for link in path if link.event.rank == slow])
    assert on_slow > 0.8 * (path[-1].event.end - path[0].event.start)


def test_in_a_recording_only_overhead_comes_between():
    trace = recorded_like(one_f_one_b(4, 8))
    path = critical_path(trace)
    assert path[0].event.start == 0
    assert path[-1].event.end == trace.duration
    assert computing_seconds(path) > 0.9 * trace.duration
    computing = [link.event for link in path if link.event.kind in COMPUTE]
    assert all(a.end <= b.start for a, b in pairwise(computing))
    # jitter aside, as the prediction: down with 0F0, up and down the ranks to the last backward
    assert tokens(path)[:7] == ["0F0", "0SEND_F0", "1F0", "1SEND_F0", "2F0", "2SEND_F0", "3F0"]
    assert tokens(path)[-1] == "0B7"


@pytest.mark.parametrize(("waited", "why"), [(1.0, "message"), (0.05, "rank")])
def test_a_message_of_unknown_arrival_is_late_where_its_rank_waited_noticeably(waited, why):
    # 0F1 was made at 3, before rank 1 was free at 4: the wait shows whether it was still in transit
    at = 4 + waited
    events = (
        Event(0, Kind.F, 0, 0, 0.0, 1.0),
        Event(0, Kind.F, 0, 1, 1.0, 3.0),
        Event(1, Kind.F, 1, 0, 1.5, 4.0),
        Event(1, Kind.WAIT, 1, 1, 4.0, at, 0, 0),
        Event(1, Kind.F, 1, 1, at, at + 1),
    )
    assert critical_path(Trace(events, "recorded", Setting(ranks=2)))[-1].why == why


def test_events_that_go_round_in_circles_end_somewhere():
    # 1F0 needs 0F0, which comes after 0B9, which needs 1B9, which comes after 1F0
    events = (
        Event(0, Kind.B, 0, 9, 0.0, 1.0),
        Event(0, Kind.F, 0, 0, 1.0, 2.0),
        Event(1, Kind.F, 1, 0, 0.0, 1.0),
        Event(1, Kind.B, 1, 9, 1.0, 2.0),
    )
    assert len(critical_path(Trace(events, "recorded", Setting(ranks=2)))) == len(events)


@pytest.mark.parametrize("name", ["zero_bubble_v", "interleaved"])
def test_what_is_made_on_the_same_rank_needs_no_message(name):
    schedule = build(name, 2, 4)
    trace = with_messages(schedule, Cost())
    found = [(n, n.producer) for row in link(trace) for n in row if n.producer]
    assert all(producer.event.rank != node.event.rank for node, producer in found)
    assert len(found) == count_messages(schedule)


def test_nothing_has_no_path():
    assert critical_path(Trace((), "recorded", Setting(ranks=2))) == ()

"""Idle time explained: every piece once, with its reason and the rank that is to blame."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Kind
from pipelab.schedules import gpipe, one_f_one_b, sequential
from pipelab.simulator import Cost
from pipelab.trace import Event, Setting, Trace, critical_path, explain_idle
from pipelab.trace.idle import explained, idle_seconds, idle_texts
from pipelab.trace.links import link
from pipelab.trace.metrics import busy, gaps
from tests.traces import (
    computing_only,
    latencies,
    predictions,
    recorded_like,
    two_stages_a_rank,
    with_messages,
)


def pieces_of(trace, rank):
    return [idle for idle in explain_idle(trace) if idle.rank == rank]


def merged(stretches):
    """Those that touch become one."""
    found = []
    for start, end in stretches:
        if found and found[-1][1] == start:
            start, _ = found.pop()
        found.append((start, end))
    return found


def covers_exactly_what_is_idle(trace):
    """Every piece is some time long and begins where the last one ended: none twice, none left."""
    computing = [e for e in trace.events if e.kind in COMPUTE]
    first, last = min(e.start for e in computing), max(e.end for e in computing)
    for rank in range(trace.num_ranks):
        pieces = [(idle.start, idle.end) for idle in pieces_of(trace, rank)]
        assert all(start < end for start, end in pieces)
        assert merged(pieces) == merged(gaps([e for e in computing if e.rank == rank], first, last))


@given(predictions())
@settings(max_examples=150)
def test_the_pieces_of_a_prediction_are_its_idle_time(trace):
    covers_exactly_what_is_idle(trace)
    seconds = busy(trace.events, trace.num_ranks)
    for rank, row in enumerate(idle_seconds(trace)):
        assert sum(row.values()) == trace.duration - seconds[rank]  # exact: halves add up exactly
        # nothing comes between two actions of a prediction
        assert {reason for reason, _ in row} <= {"waiting", "imbalance", "message", "done"}


@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
@pytest.mark.parametrize("p", [1, 2, 5])
def test_pieces_of_a_recording_are_its_idle_time(build, p):
    covers_exactly_what_is_idle(recorded_like(build(p, 8)))


def test_two_ranks_by_hand():
    trace = with_messages(gpipe(2, 2), Cost(1, 1, 1, latency=0.25))
    assert [tuple(idle) for idle in explain_idle(trace)] == [
        (0, 2.0, 5.25, "warmup", "waiting", 1, 1),
        (0, 5.25, 5.5, "warmup", "message", 1, 1),
        (1, 0.0, 1.0, "warmup", "waiting", 0, 0),
        (1, 1.0, 1.25, "warmup", "message", 0, 0),
        (1, 7.25, 9.5, "cooldown", "done", None, None),
    ]


def test_of_equal_stages_and_free_messages_warmup_and_cooldown_are_all():
    trace = with_messages(one_f_one_b(4, 8), Cost())
    for rank, row in enumerate(idle_seconds(trace)):
        below = 3 - rank
        wanted = {
            ("waiting", "warmup"): rank * 1.0 + below * 2.0,  # F comes down, B comes back up
            ("waiting", "cooldown"): below * 1.0,  # where an F stood in the steady phase
            ("done", "cooldown"): rank * 2.0,
        }
        assert row == {key: seconds for key, seconds in wanted.items() if seconds}


@given(st.integers(2, 5), st.data())
@settings(max_examples=60)
def test_the_slow_rank_is_the_root(p, data):
    slow = data.draw(st.integers(0, p - 1))
    factor = data.draw(st.sampled_from([1.5, 2.0, 4.0]))
    each = [factor if stage == slow else 1.0 for stage in range(p)]
    trace = with_messages(one_f_one_b(p, 6 * p), Cost(each, each, each))
    blamed = {}
    for idle in explain_idle(trace):
        if idle.phase == "steady":
            blamed[idle.reason, idle.root] = blamed.get((idle.reason, idle.root), 0) + idle.seconds
    assert {root for reason, root in blamed if reason == "imbalance"} == {slow}
    assert blamed["imbalance", slow] > 0.8 * sum(blamed.values()), blamed


@given(predictions(("gpipe", "1f1b")))
@settings(max_examples=60)
def test_the_first_wait_of_each_rank_goes_back_to_rank_0(trace):
    for rank in range(1, trace.num_ranks):
        first = pieces_of(trace, rank)[0]
        assert (first.start, first.reason, first.peer, first.root) == (0, "waiting", rank - 1, 0)


@given(st.integers(2, 5), st.integers(1, 20), latencies)
@settings(max_examples=60)
def test_equal_stages_are_never_called_imbalanced(p, m, latency):
    for schedule in (one_f_one_b(p, m), gpipe(p, m), sequential(p, m)):
        trace = with_messages(schedule, Cost(1, 1, 1, latency))
        assert "imbalance" not in {idle.reason for idle in explain_idle(trace)}


def test_waiting_that_the_schedule_asks_for_is_no_imbalance():
    # rank 0 has more work, but ranks 3 and 4 wait mostly for all others: nothing overlaps
    slow = [1.5, 1, 1, 1, 1]
    found = explain_idle(with_messages(sequential(5, 4), Cost(slow, slow, slow)))
    blamed = {i.rank for i in found if i.reason == "imbalance"}
    assert {i.root for i in found if i.phase == "steady" and i.rank == 4} == {0}
    assert not blamed & {3, 4}
    assert 1 in blamed  # for what it waits, rank 0 computes alone


def test_a_recorded_run_has_overhead_sends_and_steps():
    trace = recorded_like(one_f_one_b(4, 8))
    sums = [{}, {}, {}, {}]
    for idle in explain_idle(trace):
        sums[idle.rank][idle.reason] = sums[idle.rank].get(idle.reason, 0) + idle.seconds
    for rank, row in enumerate(sums):
        sends = [e for e in trace.events if e.rank == rank and e.kind in (Kind.SEND_F, Kind.SEND_B)]
        rest = 0.0 if rank == 0 else sends[-1].end - sends[-1].start  # after the last computation
        assert row["blocked"] == pytest.approx(sum(e.end - e.start for e in sends) - rest)
        assert row["overhead"] > 0
        assert ("step" in row) == ("done" in row) == (rank > 0)
        if rank > 0:
            assert row["step"] == pytest.approx(0.002)


def wait_is_cut(*extra):
    """Rank 1 waits from 0 to 5; 0F0 ends at 3. Then 1F0 from 5 to 6, while rank 0 computes on."""
    events = (
        Event(0, Kind.F, 0, 0, 0.0, 3.0),
        Event(0, Kind.F, 0, 1, 6.0, 9.0),
        Event(1, Kind.WAIT, 1, 0, 0.0, 5.0, 0, 0),
        Event(1, Kind.F, 1, 0, 5.0, 6.0),
        *extra,
    )
    return Trace(events, "recorded", Setting(ranks=2))


def test_a_wait_is_cut_where_the_result_was_made():
    assert [tuple(i) for i in pieces_of(wait_is_cut(), 1)][:2] == [
        (1, 0.0, 3.0, "warmup", "waiting", 0, 0),
        (1, 3.0, 5.0, "warmup", "message", 0, 0),
    ]


def test_waiting_for_all_ranks_before_a_step_is_step():
    step = Event(1, Kind.WAIT, 1, None, 7.0, 8.0), Event(1, Kind.STEP, 1, None, 8.0, 8.5)
    found = [(i.start, i.end, i.reason) for i in pieces_of(wait_is_cut(*step), 1)][2:]
    assert found == [(6.0, 7.0, "done"), (7.0, 8.0, "step"), (8.0, 8.5, "step"), (8.5, 9.0, "done")]


def test_a_send_blocks_only_if_its_rank_does_nothing_else():
    send = Event(0, Kind.SEND_F, 0, 0, 3.0, 5.0, 8, 1)
    posted = Event(0, Kind.RECV_B, 0, 0, 3.5, 3.5, 8, 1)
    found = [(i.start, i.end, i.reason) for i in pieces_of(wait_is_cut(send), 0)]
    assert found == [(3.0, 5.0, "blocked"), (5.0, 6.0, "overhead")]
    found = [(i.start, i.end, i.reason) for i in pieces_of(wait_is_cut(send, posted), 0)]
    assert found == [(3.0, 6.0, "overhead")]


def test_an_evaluation_has_no_backward_and_is_not_all_warmup():
    trace = computing_only(with_messages(gpipe(2, 4), Cost([1, 2], 1, 1)))
    forwards = tuple(e for e in trace.events if e.kind is Kind.F)
    phases = [(i.rank, i.phase) for i in explain_idle(Trace(forwards, "predicted", trace.setting))]
    assert phases == [(0, "cooldown"), (1, "warmup")]


def replicated(trace, replicas):
    """The same trace run by several replicas, each a little later, its ranks apart by a stride."""
    p = trace.num_ranks
    events = tuple(
        e._replace(
            rank=e.rank * replicas + i,
            peer=None if e.peer is None else e.peer * replicas + i,
            start=e.start + i,
            end=e.end + i,
        )
        for i in range(replicas)
        for e in trace.events
    )
    setting = Setting("1f1b", p * replicas, trace.setting.microbatches, replicas=replicas)
    return Trace(events, trace.source, setting)


def test_replicas_wait_for_ranks_of_their_own():
    one = with_messages(one_f_one_b(3, 4), Cost(1, 1, 1, latency=0.25))
    both = replicated(one, 2)
    covers_exactly_what_is_idle(both)
    peers = {(i.rank, i.peer) for i in explain_idle(both) if i.peer is not None}
    assert peers == {
        (2 * i.rank + r, 2 * i.peer + r)
        for i in explain_idle(one)
        if i.peer is not None
        for r in (0, 1)
    }
    assert len(critical_path(both)) == len(critical_path(one))


def texts_of(trace):
    """(rank, sentence, token) of each piece of idle time."""
    rows = link(trace)
    pieces = explained(trace, rows)
    return [(p.rank, *text) for p, text in zip(pieces, idle_texts(rows, pieces), strict=True)]


def test_in_words():
    trace = with_messages(one_f_one_b(3, 8), Cost([1, 3, 1], [1, 3, 1], [1, 3, 1], latency=0.5))
    texts = texts_of(trace)
    held_up = "waits for 1F0 of rank 1, held up by rank 0"
    assert (2, held_up, "1F0") in texts
    message = "waits for the message with 1F0 from rank 1"
    assert (2, message, "1F0") in texts
    more = "waits for 1B1 of rank 1: rank 1 has more work"
    assert (0, more, "1B1") in texts
    assert (2, "has nothing left to compute", "") in texts


def test_without_computation_there_is_no_idle_time():
    assert explain_idle(Trace((), "recorded", Setting(ranks=2))) == ()
    assert idle_seconds(Trace((), "recorded", Setting(ranks=2))) == ({}, {})
    one = Trace((Event(0, Kind.F, 0, 0, 0.0, 2.0),), "recorded", Setting(ranks=2))
    assert explain_idle(one) == ((1, 0.0, 2.0, "cooldown", "done", None, None),)


@st.composite
def damaged(draw):
    """Events as no rank ever ran them: what loads from a file must not hang or lose time."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from([k for k in Kind if k not in (Kind.STEP, Kind.REDUCE_GRAD)]))
        start, end = sorted((draw(st.integers(0, 9)), draw(st.integers(0, 9))))
        rank, stage, microbatch, peer = (draw(st.integers(0, 2)) for _ in range(4))
        rows.append(Event(rank, kind, stage, microbatch, start, end, 0, peer))
    rows.append(Event(0, Kind.F, 0, 0, 0, 1))
    return Trace(tuple(rows), draw(st.sampled_from(["predicted", "recorded"])), Setting(ranks=3))


@given(damaged())
@settings(max_examples=300)
def test_any_events_are_explained(trace):
    covers_exactly_what_is_idle(trace)
    assert critical_path(trace)
    assert all(sentence for _, sentence, _ in texts_of(trace))


def test_waits_that_overlap_are_cut_where_they_end():
    # found by the test above: a second wait, longer than the gap, left a piece of no length
    waits = [Event(0, Kind.WAIT, 0, m, 0, end, 0, 0) for m, end in ((2, 2), (0, 3))]
    work = [
        Event(0, Kind.F, 0, m, at, end, 0, 0) for m, at, end in ((2, 0, 0), (0, 0, 1), (0, 2, 2))
    ]
    covers_exactly_what_is_idle(Trace((*waits, *work), "predicted", Setting(ranks=3)))


def test_two_stages_on_a_rank_need_no_message_between_them():
    trace = recorded_like(two_stages_a_rank())
    covers_exactly_what_is_idle(trace)
    assert {i.peer for i in explain_idle(trace) if i.peer is not None and i.rank == 0} <= {1}


def test_time_grows_with_the_events_not_with_their_square():
    # 16,000 computations; where each wait were searched for in all events, this took a minute
    trace = with_messages(sequential(8, 1000), Cost(latency=0.1))
    start = time.process_time()
    explain_idle(trace)
    critical_path(trace)
    assert time.process_time() - start < 10

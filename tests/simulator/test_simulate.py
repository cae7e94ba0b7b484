"""What a predicted trace holds, by hand on small schedules and by rule on random ones."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, SENDS, Action, Kind
from pipelab.errors import DeadlockError, ScheduleError
from pipelab.schedules import Schedule, gpipe, interleaved, one_f_one_b
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import count_messages
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event
from tests.schedules.strategies import valid_schedules

F, B, W, STEP, REDUCE = Kind.F, Kind.B, Kind.W, Kind.STEP, Kind.REDUCE_GRAD


def only(trace, *kinds):
    return [e for e in trace.events if e.kind in kinds]


def test_one_microbatch_over_two_ranks_event_by_event():
    cost = Cost(
        [1, 2],
        [1, 1],
        [0.5, 1],
        latency=0.5,
        bandwidth=100,
        message_bytes=[50, 999],
        activation_bytes=[7, 8],
        step=[0.25, 0.75],
    )
    assert simulate(sequential_pair(), cost).events == (
        Event(0, F, 0, 0, 0, 1, 7),
        Event(0, Kind.SEND_F, 0, 0, 1, 2, 50, 1),  # 0.5 of latency, 50 bytes at 100 a second
        Event(0, Kind.WAIT, 0, 0, 1, 7, 0, 1),
        Event(0, B, 0, 0, 7, 8.5),
        Event(0, STEP, 0, None, 8.5, 8.75),
        Event(1, Kind.WAIT, 1, 0, 0, 2, 0, 0),
        Event(1, F, 1, 0, 2, 4, 8),
        Event(1, B, 1, 0, 4, 6),
        Event(1, Kind.SEND_B, 1, 0, 6, 7, 50, 0),  # the gradient is as large as the output
        Event(1, STEP, 1, None, 6, 6.75),
    )


def sequential_pair():
    return Schedule.from_tokens([["0F0", "0B0"], ["1F0", "1B0"]])


def test_without_overlap_a_send_keeps_its_rank_busy():
    cost = Cost(1, 1, 1, latency=0.5)
    beside, blocking = (simulate(gpipe(2, 3), cost, overlap=o) for o in (True, False))
    assert [e.start for e in only(beside, F) if e.rank == 0] == [0, 1, 2]
    assert [e.start for e in only(blocking, F) if e.rank == 0] == [0, 1.5, 3]
    # last F of rank 0 at 4, its message at 4.5, F to 5.5, then B and SEND of 2.5 each, last B
    assert blocking.duration == 5.5 + 3 * 2.5 + 2
    # rank 1 receives nothing while it computes, and is not asked to: sends are buffered
    for trace in (beside, blocking):
        assert all(e.end - e.start == 0.5 for e in only(trace, *SENDS))


@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
def test_bandwidth_is_latency_for_messages_of_one_size(build):
    as_latency = simulate(build(4, 8), Cost(latency=0.1))
    as_bytes = simulate(build(4, 8), Cost(bandwidth=1000, message_bytes=100))
    assert as_bytes.duration == pytest.approx(as_latency.duration)
    assert as_bytes.duration == pytest.approx(33.6 if build is gpipe else 34.6)


@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_unequal_stages_wait_for_the_slowest(m):
    # gpipe: each half is a flow shop; the slowest stage works without a break once it has begun
    cost = Cost([1, 3, 2], [1, 4, 1], [0.5, 1, 0.5])
    forward = 1 + 3 + 2 + (m - 1) * 3
    backward = 1.5 + 5 + 1.5 + (m - 1) * 5
    assert simulate(gpipe(3, m), cost).duration == forward + backward


def test_steps_and_reductions_come_after_the_backwards_they_need():
    schedule = lower(interleaved(2, 4), replicas=2)
    cost = Cost(1, 0.5, 0.5, step=0.25, reduce=3)
    trace = simulate(schedule, cost)
    plain = simulate(interleaved(2, 4), Cost(1, 0.5, 0.5))
    assert trace.duration == plain.duration  # reductions travel beside the computation
    reduced = {e.stage: e for e in only(trace, REDUCE)}
    assert len(reduced) == 4
    for step in only(trace, STEP):
        last = max(e.end for e in only(trace, B) if e.stage == step.stage)
        assert reduced[step.stage].start == last
        assert reduced[step.stage].end == last + 3 <= step.start
        assert step.end == step.start + 0.25
    blocking = simulate(schedule, cost, overlap=False)
    assert blocking.duration > plain.duration  # ... else the earlier stages wait for it
    for rank in range(2):
        row = [e for e in blocking.events if e.rank == rank]
        assert all(a.end <= b.start for a, b in pairwise(row))


def test_messages_by_hand_are_taken_as_they_stand():
    rows = [["0F0", "0SEND_F0", "0F1", "0SEND_F1", "0RECV_B0", "0B0", "0RECV_B1", "0B1"]]
    late = [["1RECV_F0", "1F0", "1B0", "1RECV_F1", "1F1", "1SEND_B0", "1B1", "1SEND_B1"]]
    trace = simulate(Schedule.from_tokens(rows + late), Cost(1, 1, 1, step=1))
    # no STEP was written, and 1SEND_B0 stands behind 1F1
    assert {e.kind for e in trace.events} == {F, B, Kind.SEND_F, Kind.SEND_B, Kind.WAIT}
    (sent,) = (e for e in only(trace, Kind.SEND_B) if e.microbatch == 0)
    assert sent.start == 5
    assert trace.duration == 9
    stuck = [row[:] for row in rows + late]
    stuck[1].remove("1RECV_F0")
    stuck[1].insert(1, "1RECV_F0")
    with pytest.raises(DeadlockError, match="rank 1 cannot start 1F0: it waits for 1RECV_F0"):
        simulate(Schedule.from_tokens(stuck), Cost())


def test_a_cost_of_too_few_stages_says_so():
    with pytest.raises(ScheduleError, match="has 3 numbers, the schedule has 4 stages:"):
        simulate(gpipe(4, 2), Cost([1, 1, 1]))
    with pytest.raises(ScheduleError, match=r"message_bytes=.* has 2 numbers, the schedule has 4"):
        simulate(gpipe(4, 2), Cost(message_bytes=[1, 1]))


times = st.sampled_from([0.25, 0.5, 1.0, 2.0])


@given(valid_schedules(), times, times, times, times, st.booleans())
@settings(max_examples=150)
def test_rules_that_every_prediction_keeps(schedule, f, i, w, latency, overlap):
    trace = simulate(schedule, Cost(f, i, w, latency, message_bytes=10), overlap)
    computed = only(trace, *COMPUTE)
    for rank, row in enumerate(schedule.ranks):
        mine = [e for e in computed if e.rank == rank]
        assert [Action(e.stage, e.kind, e.microbatch) for e in mine] == list(row)
    sends = only(trace, *SENDS)
    assert len(sends) == count_messages(schedule)
    arrival = {(e.kind, e.stage, e.microbatch): e for e in sends}
    waited = {(e.rank, e.end): e for e in only(trace, Kind.WAIT)}
    for e in computed:
        kind, stage = (Kind.SEND_F, e.stage - 1) if e.kind is F else (Kind.SEND_B, e.stage + 1)
        if e.kind is not W and (message := arrival.get((kind, stage, e.microbatch))):
            assert message.end <= e.start
            if wait := waited.pop((e.rank, e.start), None):
                assert (wait.stage, wait.microbatch) == (e.stage, e.microbatch)
                assert wait.peer == message.rank
                assert wait.end == message.end > wait.start  # not a moment longer than needed
    assert not waited  # nobody waits but for a message
    busy = COMPUTE | {Kind.WAIT} if overlap else COMPUTE | {Kind.WAIT, *SENDS}
    for rank in range(schedule.num_ranks):
        row = [e for e in trace.events if e.rank == rank]
        assert [e.start for e in row] == sorted(e.start for e in row)
        row = [e for e in row if e.kind in busy]
        assert row[0].start == 0
        assert all(a.end == b.start for a, b in pairwise(row))  # busy or waiting, without a gap


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("overlap", [True, False])
def test_free_messages_are_no_events_of_length(name, overlap):
    trace = simulate(build(name, 3, 6), Cost(), overlap)
    assert all(e.start == e.end for e in only(trace, *SENDS))
    assert not only(trace, STEP, REDUCE)
    assert trace.duration == simulate(build(name, 3, 6), Cost()).duration

"""Costs per microbatch: predicted by another way of counting, searched with, read back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import Action, Kind, needs, produces
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b, seq1f1b
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost, best_schedule, simulate
from tests.traces import times

LATENCY = 0.25


def rows(data, stages, m):
    """One number, one per stage, rows per microbatch for some stages, or one row for all."""
    row = st.lists(times, min_size=m, max_size=m)
    each = st.lists(st.one_of(times, row), min_size=stages, max_size=stages)
    return data.draw(st.one_of(times, each, row.map(lambda numbers: [numbers])))


def number(value, stage, microbatch):
    """The same number, looked up plainly."""
    if isinstance(value, tuple):
        value = value[stage if len(value) > 1 or not isinstance(value[0], tuple) else 0]
    return value[microbatch] if isinstance(value, tuple) else value


def ends(schedule, cost):
    """When each computation ends, rank after rank, again and again until nothing changes."""
    home, n = schedule.rank_of_stage, schedule.num_stages
    fields = {Kind.F: ("forward",), Kind.I: ("backward_input",), Kind.W: ("backward_weight",)}
    fields[Kind.B] = fields[Kind.I] + fields[Kind.W]
    found = {}
    while True:
        before = dict(found)
        for rank, row in enumerate(schedule.ranks):
            now = 0.0
            for action in row:
                wanted = needs(action, n)
                if any(result not in found for result in wanted):
                    break
                for result in wanted:
                    now = max(now, found[result] + LATENCY * (home[result.stage] != rank))
                stage, kind, microbatch = action
                now += sum(number(getattr(cost, f), stage, microbatch) for f in fields[kind])
                found[produces(action)] = found[action] = now
        if found == before:
            return found


@given(st.data())
@settings(max_examples=80)
def test_every_schedule_is_predicted_with_each_microbatchs_own_costs(data):
    name = data.draw(st.sampled_from([*BUILDERS]))
    p, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    m = max(m, BUILDERS[name].fewest(p))
    order = build(name, p, p * m if name == "interleaved" else m).ranks
    schedule = Schedule(order)  # nothing overlaps: what does has its own price
    n, m = schedule.num_stages, schedule.num_microbatches
    cost = Cost(*(rows(data, n, m) for _ in range(3)), latency=LATENCY)
    expected = ends(schedule.compute, cost)
    trace = simulate(schedule, cost)
    computed = [e for e in trace.events if e.kind in "FBIW"]
    assert len(computed) == sum(map(len, schedule.compute.ranks))
    assert all(e.end == expected[Action(e.stage, e.kind, e.microbatch)] for e in computed)


@given(st.lists(times, min_size=6, max_size=6), st.integers(1, 4))
@settings(max_examples=40)
def test_gpipes_bubble_is_one_fill_of_the_longest(lengths, p):
    """A flow shop of equal machines: the sum of all jobs, and the longest once per further rank."""
    trace = simulate(gpipe(p, 6), Cost(1, 1, 1).by_microbatch(lengths))
    assert trace.duration == 3 * (sum(lengths) + (p - 1) * max(lengths))


def test_bytes_and_messages_follow_the_length():
    cost = Cost(bandwidth=100, message_bytes=100, activation_bytes=[10, 20])
    cost = cost.by_microbatch([1, 3])
    trace = simulate(gpipe(2, 2), cost)
    sends = {e.microbatch: e for e in trace.events if e.kind is Kind.SEND_F}
    assert [sends[i].bytes for i in (0, 1)] == [100, 300]
    assert [sends[i].end - sends[i].start for i in (0, 1)] == [1, 3]
    assert trace.peak_activation_bytes == (40, 80)


@given(st.lists(times, min_size=5, max_size=5), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=30)
def test_the_search_knows_the_lengths(lengths, p, limit):
    cost = Cost(1, 1, 1, latency=LATENCY).by_microbatch(lengths)
    best = best_schedule(p, 5, cost, limit)
    assert best.bound <= best.duration == simulate(best.schedule, cost).duration
    alike = best_schedule(p, 5, Cost(1, 1, 1).by_microbatch([2] * 5), limit)
    assert alike.bound == best_schedule(p, 5, Cost(2, 2, 2), limit).bound


@given(st.data())
@settings(max_examples=30)
def test_a_trace_gives_the_costs_of_each_microbatch_back(data):
    schedule = one_f_one_b(data.draw(st.integers(1, 3)), 4)
    n = schedule.num_stages
    row = st.lists(times, min_size=4, max_size=4)
    forward, half = ([data.draw(row) for _ in range(n)] for _ in range(2))
    cost = Cost(forward, half, half, latency=LATENCY)
    trace = simulate(schedule, cost)
    found = Cost.from_trace(trace, by_microbatch=True)
    assert (found.forward, found.backward_input) == (cost.forward, cost.backward_input)
    assert simulate(schedule, found).duration == trace.duration
    several = simulate(schedule, cost, steps=3)
    assert Cost.from_trace(several, by_microbatch=True).forward == cost.forward
    sliced = seq1f1b(schedule.num_ranks, 2, 2)
    trace = simulate(sliced, cost)
    assert Cost.from_trace(trace, by_microbatch=True).forward == cost.forward


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"forward": [[1, 2]]}, "row of 2 numbers, the schedule has 3 microbatches"),
        ({"backward_weight": [1, [1] * 4]}, "row of 4 numbers, the schedule has 3 microbatches"),
        ({"activation_bytes": [[1, 2, 3]] * 3}, "has 3 numbers, the schedule has 2 stages"),
    ],
)
def test_rows_of_other_microbatches_are_refused(numbers, said):
    with pytest.raises(ScheduleError, match=said):
        simulate(gpipe(2, 3), Cost(**numbers))


@pytest.mark.parametrize(
    "wrong", [{"forward": [[]]}, {"forward": [[1, -1]]}, {"step": [[1, 2]]}, {"forward": [[[1]]]}]
)
def test_rows_that_are_no_numbers_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ScheduleError, match=f"Cost\\({name}="):
        Cost(**wrong)


def test_rows_are_named_from_least_to_most():
    assert str(Cost(0.01, 0.01, 0.01).by_microbatch([1, 3, 2])) == "F 10 to 30 ms, B 20 to 60 ms"
    assert str(Cost([0.01, [0.01, 0.02]], 0.01, 0.01)) == "F 10/10 to 20 ms, B 20 ms"
    with pytest.raises(ScheduleError, match="names its microbatches already"):
        Cost([[1, 2]]).by_microbatch([1, 2])


def test_each_step_in_flight_has_the_same_microbatches():
    cost = Cost(1, 1, 1).by_microbatch([1, 4, 2])
    one, three = (simulate(one_f_one_b(2, 3), cost, steps=n) for n in (1, 3))
    for number in range(3):
        lengths = [
            sorted((e.rank, e.kind, e.microbatch, e.end - e.start) for e in t.events
                   if e.kind in "FB")
            for t in (one, three.step(number))
        ]  # fmt: skip
        assert lengths[0] == lengths[1]
    assert one.duration < three.duration <= 3 * one.duration

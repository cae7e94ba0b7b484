import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.levels.level import Level
from pipelab.schedules import gpipe, one_f_one_b, validate, zero_bubble_h1
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.counts import count_messages, peak_activations
from pipelab.simulator import Cost, best_schedule, simulate
from pipelab.simulator.greedy import Preference, greedy
from pipelab.simulator.search import lower_bound
from tests.levels.shortest import Shortest

times = st.sampled_from([0.5, 1.0, 1.5, 3.0])


@st.composite
def problems(draw):
    p, m = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    per_stage = st.lists(times, min_size=p, max_size=p)
    latency = draw(st.sampled_from([0.0, 0.25, 1.0]))
    bandwidth = draw(st.sampled_from([1.0, float("inf")]))
    per_message = st.lists(st.integers(0, 2), min_size=p, max_size=p)
    cost = Cost(
        draw(per_stage), draw(per_stage), draw(per_stage), latency, bandwidth, draw(per_message)
    )
    return p, m, cost, draw(st.integers(1, 9))


@given(problems(), st.booleans(), st.integers(0, 5))
@settings(max_examples=150)
def test_greedy_is_valid_fits_and_takes_what_it_planned(problem, halves, forward_first):
    p, m, cost, limit = problem
    schedule = greedy(p, m, cost, limit, Preference(halves, forward_first))
    validate(schedule)
    assert (schedule.num_ranks, schedule.num_microbatches) == (p, m)
    assert max(peak_activations(schedule)) <= limit
    for row in schedule.ranks:
        for kind in (Kind.F, Kind.B, Kind.I, Kind.W):
            numbers = [a.microbatch for a in row if a.kind is kind]
            assert numbers == sorted(numbers)


@given(problems())
@settings(max_examples=60)
def test_never_worse_than_a_builder_that_fits_never_below_the_bound(problem):
    p, m, cost, limit = problem
    best = best_schedule(p, m, cost, limit)
    assert best.peak <= limit
    assert best.duration == simulate(best.schedule, cost).duration
    assert best.duration >= best.bound - 1e-9
    assert best.bound == lower_bound(p, m, cost)
    for builder in BUILDERS.values():
        if builder.stages_per_rank == 1:
            schedule = builder.build(p, m, 1)
            if max(peak_activations(schedule)) <= min(limit, m):
                assert best.duration <= simulate(schedule, cost).duration + 1e-9


@pytest.mark.parametrize("times", [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (3.0, 2.0, 2.0)])
@pytest.mark.parametrize("latency", [0.0, 0.5])
def test_in_small_cases_nothing_is_shorter(times, latency):
    for p, m in ((2, 2), (2, 4), (3, 2), (3, 3)):
        for limit in range(1, min(m, p + 1) + 1):
            start = tuple(f"{rank}F0 {rank}I0 {rank}W0" for rank in range(p))
            level = Level("", "", "", start, ("", "", ""), "", 0, 0, times, m, limit, latency)
            found = best_schedule(p, m, Cost(*times, latency=latency), limit)
            shortest = Shortest(level).seconds(found.duration + 1.0)
            assert found.duration == pytest.approx(shortest), (p, m, limit)


def test_it_finds_better_where_messages_are_slow():
    cost = Cost(latency=0.25)
    best = best_schedule(4, 8, cost, memory_limit=6)
    assert best.schedule.name == "greedy"
    assert best.duration < simulate(zero_bubble_h1(4, 8), cost).duration
    assert [c.duration for c in best.tried] == sorted(c.duration for c in best.tried)


def test_memory_for_one_microbatch_and_for_none():
    best = best_schedule(4, 8, Cost(), memory_limit=1)
    assert best.peak == 1
    with pytest.raises(ScheduleError, match="memory_limit is 0"):
        best_schedule(4, 8, Cost(), memory_limit=0)


def test_catalogue():
    for name, builder in BUILDERS.items():
        m = max(4, builder.fewest(3))
        schedule = build(name, 3, m)
        assert schedule.name == name
        v = builder.stages_per_rank or 2
        assert schedule.num_stages == 3 * v
        local = 1 if BUILDERS[name].stages_per_rank == 2 else 0  # the V turns on one rank
        assert count_messages(schedule) == 2 * m * (schedule.num_stages - 1 - local)
    assert peak_activations(gpipe(4, 8)) == (8, 8, 8, 8)
    assert peak_activations(one_f_one_b(4, 8)) == (4, 3, 2, 1)
    assert peak_activations(build("interleaved", 4, 8)) == (5.5, 4.5, 3.5, 2.5)
    with pytest.raises(ScheduleError, match="no schedule is called 'dapple': choose from sequ"):
        build("dapple", 2, 2)


def test_bandwidth_is_planned_for_as_latency_is():
    late, slow = Cost(latency=0.25), Cost(bandwidth=4, message_bytes=1)
    assert greedy(4, 8, slow, 6, Preference()) == greedy(4, 8, late, 6, Preference())
    assert greedy(4, 8, slow, 6, Preference()) != greedy(4, 8, Cost(), 6, Preference())
    assert lower_bound(4, 8, slow) == lower_bound(4, 8, late) > lower_bound(4, 8, Cost())

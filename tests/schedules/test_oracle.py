"""The formulas of the papers hold exactly on the simulator."""

from collections import defaultdict

import pytest

from pipelab.action import COMPUTE, Kind
from pipelab.schedules import gpipe, interleaved, one_f_one_b, validate, zero_bubble_h1
from pipelab.schedules.interleaved import looped_bfs
from pipelab.schedules.zero_bubble import zero_bubble_h2, zero_bubble_v
from pipelab.simulator import Cost, simulate

EXACT = pytest.approx
SIZES = [(p, m) for p in range(1, 7) for m in (1, 2, 3, 5, 8, 12, 13)]
TIMES = [(1, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 2)]


def peaks(schedule):
    """For each rank, the most activations of one stage that it holds at once."""
    held, most = defaultdict(int), defaultdict(int)
    for rank, row in enumerate(schedule.ranks):
        for action in row:
            held[rank] += (action.kind is Kind.F) - (action.kind in (Kind.B, Kind.W))
            most[rank] = max(most[rank], held[rank])
    return list(most.values())


def spans(trace):
    """For each rank, from its own first start to its own last end."""
    computed = [e for e in trace.events if e.kind in COMPUTE]
    rows = [[e for e in computed if e.rank == r] for r in range(trace.num_ranks)]
    return [max(e.end for e in row) - min(e.start for e in row) for row in rows]


@pytest.mark.parametrize("v", [1, 2, 3])
@pytest.mark.parametrize(("p", "m"), SIZES)
@pytest.mark.parametrize("build", [interleaved, looped_bfs])
def test_looped_schedules(build, p, m, v):
    schedule = build(p, m, v)
    validate(schedule)
    assert schedule.stages_of(0) == tuple(range(0, p * v, p))
    for f, i, w in TIMES:
        trace = simulate(schedule, Cost(f / v, i / v, w / v))
        if m % p == 0:
            assert trace.duration == EXACT(m * (f + i + w) + (p - 1) * (f + i + w) / v)
    if build is looped_bfs:
        assert peaks(schedule) == [m * v] * p
    elif m % p == 0 and m > p:
        expected = [(v - 1) * p + 2 * (p - 1 - r) + 1 for r in range(p)]
        assert peaks(schedule) == [min(n, m * v) for n in expected] or v == 1


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_zero_bubble(p, m):
    for build, memory in ((zero_bubble_h1, p), (zero_bubble_h2, 2 * p - 1), (zero_bubble_v, 2 * p)):
        schedule = build(p, m)
        validate(schedule)
        if m >= 2 * p - 1:
            assert peaks(schedule) == [memory] * p
    for f, i, w in TIMES:
        ideal = m * (f + i + w)
        if m >= p:
            h1 = simulate(zero_bubble_h1(p, m), Cost(f, i, w))
            assert h1.duration == EXACT(ideal + (p - 1) * (f + i - w))
        if m >= 2 * p - 1:
            h2 = simulate(zero_bubble_h2(p, m), Cost(f, i, w))
            assert max(spans(h2)) == EXACT(ideal + max(0, (p - 1) * (f + i - 2 * w)))
    if m >= 2 * p - 1:
        vee = simulate(zero_bubble_v(p, m), Cost(0.5, 0.5, 0.5))
        assert spans(vee) == EXACT([3 * m] * p)
        assert vee.duration == EXACT(3 * m + (p - 1) / 2)


@pytest.mark.parametrize(
    ("schedule", "share", "makespan", "fraction", "peak"),
    [
        (gpipe(2, 4), 1, 15, 0.2, [4, 4]),
        (one_f_one_b(2, 4), 1, 15, 0.2, [2, 1]),
        (interleaved(2, 4), 2, 13.5, 0.1111, [5, 3]),
        (zero_bubble_h1(2, 4), 1, 13, None, [2, 2]),
        (zero_bubble_v(2, 4), 2, 12.5, None, [4, 4]),
        (gpipe(4, 8), 1, 33, 0.2727, [8] * 4),
        (one_f_one_b(4, 8), 1, 33, 0.2727, [4, 3, 2, 1]),
        (interleaved(4, 8), 2, 28.5, 0.1579, [11, 9, 7, 5]),
        (interleaved(4, 8, 4), 4, 26.25, 0.0857, [19, 17, 15, 13]),
        (zero_bubble_h1(4, 8), 1, 27, 0.1111, [4] * 4),
        (zero_bubble_v(4, 8), 2, 25.5, 0.0588, [8] * 4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_table_that_papers_print(schedule, share, makespan, fraction, peak):
    trace = simulate(schedule, Cost(1 / share, 1 / share, 1 / share))
    assert trace.duration == EXACT(makespan)
    assert fraction is None or round(trace.bubble_fraction, 4) == fraction
    assert peaks(schedule) == peak


def test_equal_on_paper_different_with_latency():
    cost = Cost(latency=0.1)
    assert simulate(gpipe(4, 8), cost).duration == EXACT(33.6)
    assert simulate(one_f_one_b(4, 8), cost).duration == EXACT(34.6)

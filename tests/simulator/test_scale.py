"""Work grows with the number of actions, no faster. Calls are counted, times are not judged."""

import gc
import sys

import pytest

from pipelab.schedules import gpipe, interleaved, validate, zero_bubble_v
from pipelab.schedules.interleaved import looped_bfs
from pipelab.schedules.walk import walk
from pipelab.simulator import Cost, simulate

SMALL, LARGE = (4, 16), (16, 64)


def calls_per_action(run, schedule):
    """How many Python and C functions are called, each resumption of a generator included."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run(schedule)
    finally:
        sys.setprofile(before)
    return calls / sum(map(len, schedule.ranks))


@pytest.mark.parametrize("build", [gpipe, interleaved, looped_bfs, zero_bubble_v])
@pytest.mark.parametrize("run", [validate, lambda s: simulate(s, Cost(latency=0.1))])
def test_an_action_costs_as_many_calls_in_a_large_schedule_as_in_a_small_one(build, run):
    small, large = (calls_per_action(run, build(*size)) for size in (SMALL, LARGE))
    assert large < 1.15 * small


def test_a_walk_asks_again_only_for_what_it_waited_for():
    schedule = interleaved(8, 64)
    asked = []

    def needs(action):
        asked.append(action)
        if action.kind == "F" and action.stage:
            return [action._replace(stage=action.stage - 1)]
        return []

    visits = list(walk(schedule.ranks, needs))
    assert len(visits) == len({visit.action for visit in visits}) == 8 * 64 * 2 * 2
    assert len(asked) <= 2 * len(visits)  # once, and once more after each result it waited for


@pytest.mark.parametrize(
    ("p", "m", "v"), [(16, 128, 2), pytest.param(64, 1024, 2, marks=pytest.mark.slow)]
)
def test_a_large_schedule_takes_what_the_paper_says(p, m, v):
    # arXiv 2104.04473, section 2.2: m(F+B), and a bubble of (p-1)(F+B)/v
    schedule = interleaved(p, m, v)
    assert sum(map(len, schedule.ranks)) == p * m * v * 2
    validate(schedule)
    trace = simulate(schedule, Cost(1 / v, 1 / v, 1 / v))
    assert trace.duration == 3 * m + (p - 1) * 3 / v
    assert gc.isenabled()

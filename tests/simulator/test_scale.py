"""Work grows with the number of actions, no faster. Lines are counted, times are not judged."""

import gc
import sys

import pytest

from pipelab.schedules import gpipe, interleaved, validate, zero_bubble_v
from pipelab.schedules.interleaved import looped_bfs
from pipelab.schedules.walk import walk
from pipelab.simulator import Cost, simulate

SMALL, LARGE = (4, 16), (16, 64)


def lines_per_action(run, schedule):
    """How many lines of Python run, so that a loop that only looks again is counted too."""
    lines = 0

    def count(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        run(schedule)
    finally:
        sys.settrace(before)
    return lines / sum(map(len, schedule.ranks))


@pytest.mark.parametrize("build", [gpipe, interleaved, looped_bfs, zero_bubble_v])
@pytest.mark.parametrize("run", [validate, lambda s: simulate(s, Cost(latency=0.1))])
def test_an_action_costs_as_many_lines_in_a_large_schedule_as_in_a_small_one(build, run):
    small, large = (lines_per_action(run, build(*size)) for size in (SMALL, LARGE))
    assert large < 1.15 * small


def test_a_walk_asks_again_only_for_what_it_waited_for():
    schedule = interleaved(8, 64)
    looked = []

    class Row(tuple):
        def __getitem__(self, position):
            looked.append(position)
            return super().__getitem__(position)

    def needs(action):
        return [action._replace(stage=action.stage - 1)] if action.stage else []

    forwards = [Row(a for a in row if a.kind == "F") for row in schedule.ranks]
    starts = walk(forwards, needs)
    assert sum(map(len, starts)) == 8 * 64 * 2
    assert 8 * 64 * 2 < len(looked) <= 2 * 8 * 64 * 2  # once, and once more after it waited


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

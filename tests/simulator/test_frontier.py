"""Bubble against memory: par within a limit, the line of the best, and the schedules as points."""

import pytest

from pipelab.errors import ScheduleError
from pipelab.plots import plot_frontier
from pipelab.schedules import validate, zero_bubble_v
from pipelab.schedules.catalogue import BUILDERS, title_of
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, best_schedule, frontier, par, simulate

COSTS = [Cost(), Cost(1, 1.2, 0.8), Cost(1, 1, 1, latency=0.2)]


@pytest.mark.parametrize("cost", COSTS[:2], ids=str)
@pytest.mark.parametrize(
    ("p", "m", "limit"), [(2, 4, 1), (2, 4, 2), (4, 8, 2), (4, 8, 4), (3, 5, None)]
)
def test_par_fits_and_beats_all_that_is_known(p, m, limit, cost):
    best = par(p, m, cost, limit)
    validate(best.schedule)
    assert best.peak == max(peak_activations(best.schedule)) <= (limit or m)
    v = best.schedule.num_stages // p
    assert simulate(best.schedule, cost.for_stages(v)).duration == best.duration >= best.bound
    assert best.duration <= best_schedule(p, m, cost, limit).duration
    for point in frontier(p, m, cost).named:
        assert point.peak > (limit or m) or best.duration <= point.duration + 1e-9


def test_par_of_a_v_is_that_of_its_table():
    assert par(4, 8, Cost()).duration == 25.5
    assert par(4, 8, Cost()).schedule.ranks == zero_bubble_v(4, 8).ranks
    assert par(4, 8, Cost(), 3).duration == 29.5  # V-Min, with a memory of 2
    with pytest.raises(ScheduleError, match="memory_limit is 0"):
        par(4, 8, Cost(), 0)


@pytest.mark.parametrize("cost", COSTS[1:], ids=str)
def test_the_line_falls_and_no_named_schedule_is_below_it(cost):
    found = frontier(3, 6, cost)
    durations = [point.duration for point in found.line]
    peaks = [point.peak for point in found.line]
    assert durations == sorted(durations, reverse=True) and len(set(durations)) == len(durations)
    assert peaks == sorted(peaks) and peaks[0] == 1
    assert {point.name for point in found.named} == set(BUILDERS)
    for point in found.named:
        under = [p.duration for p in found.line if p.peak <= int(point.peak)]
        assert min(under) <= point.duration + 1e-9 or point.peak != int(point.peak)


def test_schedules_that_refuse_the_sizes_are_no_points():
    assert "dual_pipe_v" not in {point.name for point in frontier(3, 5, Cost()).named}


def test_a_cost_of_stages_has_no_frontier():
    with pytest.raises(ScheduleError, match="a number for each stage"):
        frontier(2, 4, Cost(forward=[1, 2]))


def test_the_picture_names_every_point():
    found = frontier(4, 8, Cost(0.01, 0.01, 0.01))
    figure = plot_frontier(found)
    texts = ", ".join(text.get_text() for text in figure.axes[0].texts).split(", ")
    wanted = {word for p in found.named for word in title_of(p.name).split(", ")}
    assert set(texts) == wanted
    assert "18.6 % with 2 (V-Min)" in figure.alt

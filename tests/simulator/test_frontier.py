"""Bubble against memory: par within a limit, the line of the best, and the schedules as points."""

from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from pipelab.errors import DeadlockError, ScheduleError
from pipelab.plots import plot_frontier
from pipelab.schedules import Schedule, one_f_one_b, validate, zero_bubble_v
from pipelab.schedules.catalogue import BUILDERS, build, title_of
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


def orders(m, limit):
    """All orders of one rank's F, I and W within a limit."""
    found = []

    def grow(f, i, w, row):
        if w == m:
            found.append(row)
        if f < m and f - w < limit:
            grow(f + 1, i, w, (*row, ("F", f)))
        if i < f:
            grow(f, i + 1, w, (*row, ("I", i)))
        if w < i:
            grow(f, i, w + 1, (*row, ("W", w)))

    grow(0, 0, 0, ())
    return found


def shortest(p, m, cost, limit):
    """The least duration of all schedules of one stage per rank: every order is tried."""
    best = float("inf")
    for rows in product(orders(m, limit), repeat=p):
        tokens = [[f"{r}{kind}{i}" for kind, i in row] for r, row in enumerate(rows)]
        schedule = Schedule.from_tokens(tokens)
        with suppress(DeadlockError):
            best = min(best, simulate(schedule, cost).duration)
    return best


@pytest.mark.parametrize(
    ("p", "m", "limit"),
    [(2, 2, 1), (2, 2, 2), (3, 2, 1), pytest.param(2, 3, 2, marks=pytest.mark.slow),
     pytest.param(3, 2, 2, marks=pytest.mark.slow)],
)  # fmt: skip
@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_in_small_sizes_nothing_is_shorter_than_what_the_search_finds(p, m, limit, cost):
    best = shortest(p, m, cost, limit)
    assert best_schedule(p, m, cost, limit).duration == pytest.approx(best)
    assert best_schedule(p, m, cost, limit).bound <= best
    assert par(p, m, cost, limit).duration <= best + 1e-9


def test_within_a_limit():
    found = frontier(4, 8, Cost())
    assert [found.within(limit).name for limit in (2, 3, 4, 7.5)] == [
        "v_min", "v_min", "zero_bubble_v", "zero_bubble_v",
    ]  # fmt: skip
    with pytest.raises(ScheduleError, match="memory_limit is 0"):
        found.within(0)


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


@pytest.mark.parametrize(("p", "m"), [(1, 3), (2, 3), (4, 8), (8, 16)])
def test_no_name_covers_another_one_or_a_point(p, m):
    figure = plot_frontier(frontier(p, m, Cost()))
    (ax,) = figure.axes
    FigureCanvasAgg(figure).draw()
    names = [Text.get_window_extent(text).padded(-2) for text in ax.texts]  # without its line
    points = [ax.transData.transform(xy) for xy in ax.lines[1].get_xydata()]
    for i, box in enumerate(names):
        assert not any(box.overlaps(other) for other in names[:i]), ax.texts[i].get_text()
        assert not any(box.contains(*point) for point in points), ax.texts[i].get_text()
        assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 + 1


def test_no_name_touches_what_was_recorded():
    cost, half = Cost(0.01, 0.01, 0.01), Cost(0.005, 0.005, 0.005)
    names = {"1f1b": cost, "interleaved": half, "zero_bubble_h1": cost, "v_min": half}
    runs = [replace(simulate(build(n, 4, 8), pace), source="recorded") for n, pace in names.items()]
    figure = plot_frontier(frontier(4, 8, cost), recorded=runs)
    (ax,) = figure.axes
    FigureCanvasAgg(figure).draw()
    crosses = [ax.transData.transform(xy) for xy in ax.lines[2].get_xydata()]
    assert len(crosses) == 4
    for text in ax.texts:
        box = Text.get_window_extent(text).padded(figure.dpi / 72 * 5)  # half of a cross
        touched = [at for at in crosses if box.contains(*at)]
        own = [at for at in touched if abs(at - ax.transData.transform(text.xy)).max() < 1]
        assert len(touched) == len(own), text.get_text()


def test_what_was_recorded_is_drawn_beside_it():
    cost = Cost(0.01, 0.01, 0.01)
    trace = replace(simulate(one_f_one_b(4, 8), cost), source="recorded")
    figure = plot_frontier(frontier(4, 8, cost), recorded=[trace])
    assert [*figure.axes[0].lines[2].get_xydata()[0]] == pytest.approx([4, 27.27], abs=0.01)
    assert figure.alt.endswith("Recorded: 27.3 % with 4.")
    assert "recorded on real ranks" in figure.axes[0].get_legend().get_texts()[2].get_text()


def test_a_run_on_a_busy_machine_is_hollow_and_said_to_be_one():
    cost = Cost(0.01, 0.01, 0.01)
    trace = replace(simulate(one_f_one_b(4, 8), cost), source="recorded")
    busy = replace(trace, setting=replace(trace.setting, late=22, timed=64, lost=0.4))
    assert busy.disturbance
    figure = plot_frontier(frontier(4, 8, cost), recorded=[trace, busy])
    usual, hollow = figure.axes[0].lines[2:4]
    assert hollow.get_markerfacecolor() == "none" and usual.get_marker() == "x"
    assert "the machine was busy" in figure.axes[0].get_legend().get_texts()[3].get_text()
    assert figure.alt.endswith("Recorded: 27.3 % with 4, 27.3 % with 4 on a busy machine.")

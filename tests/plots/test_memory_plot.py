"""The picture of memory: its layers are the memory curve, its marks are the peaks."""

import pytest
from matplotlib.colors import to_hex

from pipelab.plots import palette, plot_memory
from pipelab.schedules import gpipe, one_f_one_b, zero_bubble_v
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.trace import Setting, Trace
from pipelab.trace.memory import memory_curve, peak_bytes
from pipelab.words import bytes_text
from tests.traces import recorded_like, two_stages_a_rank

RECORDED = recorded_like(one_f_one_b(4, 8))
TRACES = [
    RECORDED,
    recorded_like(two_stages_a_rank()),
    simulate(gpipe(3, 5), Cost(activation_bytes=[10, 20, 30])),
    simulate(zero_bubble_v(4, 8), Cost()),
    simulate(one_f_one_b(40, 3), Cost()),
    Trace((), "recorded", Setting(ranks=2)),
]
PARTS = ("parameters", "gradients", "optimizer", "activations", "buffers")


def layers(figure, name):
    """For each rank that holds any of it, the corners of its layer."""
    (ax,) = figure.axes
    return [c.get_paths()[0].vertices for c in ax.collections if c.get_label() == name]


def marks(figure):
    (ax,) = figure.axes
    return [line for line in ax.lines if line.get_label() == "peak"]


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: f"{t.setting.schedule} {t.num_ranks}")
def test_the_layers_together_are_the_memory_curve(trace):
    figure = plot_memory(trace, budget=1)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    curves = [memory_curve(trace, rank) for rank in range(trace.num_ranks)]
    for part in PARTS:
        held = [c for c in curves if any(getattr(point, part) for point in c)]
        if any(point.total for c in curves for point in c):
            assert len(layers(figure, part)) == len(held)
    assert len(marks(figure)) == trace.num_ranks
    words = [text for text in ax.texts if text.get_text()]
    edge = figure.bbox.width
    assert all(text.get_window_extent().x1 <= edge + 1 for text in words), "no word is cut off"


def test_peaks_are_marked_where_and_as_high_as_they_are():
    figure = plot_memory(RECORDED)
    (ax,) = figure.axes
    top = max(peak.total for peak in peak_bytes(RECORDED))
    heights = []
    for rank, (mark, peak) in enumerate(zip(marks(figure), peak_bytes(RECORDED), strict=True)):
        (time,), (height,) = mark.get_data()
        assert time == pytest.approx(peak.time)
        ground = max(layers(figure, "parameters")[rank][:, 1])
        heights.append((ground - height) / peak.total)
        assert bytes_text(peak.total) in [text.get_text() for text in ax.texts]
    assert heights == pytest.approx([heights[0]] * 4), "one scale for all ranks"
    assert 0.5 < heights[0] * top < 1, "and the largest peak stays in its row"


def test_a_budget_is_a_line_in_each_row_and_says_who_exceeds_it():
    peaks = [peak.total for peak in peak_bytes(RECORDED)]
    budget = sorted(peaks)[1]  # two ranks need more
    figure = plot_memory(RECORDED, budget=budget)
    (ax,) = figure.axes
    (lines,) = (c for c in ax.collections if c.get_label() == "budget")
    assert len(lines.get_paths()) == 4
    for rank, (mark, path) in enumerate(zip(marks(figure), lines.get_paths(), strict=True)):
        is_over = peaks[rank] > budget
        assert (mark.get_ydata()[0] < path.vertices[0, 1] - 1e-9) == is_over
        assert (to_hex(mark.get_color()).upper() == palette.VERMILLION) == is_over
    over = [str(rank) for rank, peak in enumerate(peaks) if peak > budget]
    assert f"exceeded by ranks {', '.join(over)}" in figure.alt
    assert sum("> budget" in text.get_text() for text in ax.texts) == len(over)
    assert "kept by every rank" in plot_memory(RECORDED, budget=max(peaks)).alt


def test_the_legend_shows_the_budget_and_the_peaks_as_they_are_drawn():
    """Two signs for a dashed line, in letters, looked like a whole one."""
    figure = plot_memory(RECORDED, budget=10)
    (ax,) = figure.axes
    entries = {line.get_label(): line for line in ax.get_legend().get_lines()}
    (drawn,) = (c for c in ax.collections if c.get_label() == "budget")
    budget = entries["budget, 10 B"]
    assert budget._unscaled_dash_pattern == drawn._us_linestyles[0]
    assert entries["peak of a rank"].get_marker() == marks(figure)[0].get_marker() == "v"


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(ValueError, match="above 0"):
        plot_memory(RECORDED, budget=budget)


@pytest.mark.parametrize(("p", "m"), [(4, 8), (3, 2), (2, 9)])
def test_without_bytes_activations_are_counted(p, m):
    schedule = one_f_one_b(p, m)
    figure = plot_memory(simulate(schedule, Cost()))
    (ax,) = figure.axes
    shown = [text.get_text() for text in ax.texts if text.get_text().endswith("kept")]
    assert shown == [f"{peak:g} kept" for peak in peak_activations(schedule)]


def test_it_draws_into_axes_of_another_figure_up_to_a_time():
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    assert plot_memory(RECORDED, "mine", ax=ax, until=9.0) is figure
    assert ax.get_xlim()[1] > 9.0
    assert any(text.get_text() == "mine" for text in ax.texts)

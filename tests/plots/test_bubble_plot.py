"""The bubble against microbatches: every point and cross is where it was recorded or predicted."""

import re
from dataclasses import replace

import pytest

from pipelab.plots import plot_bubble
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate

RECORDED = {(4, m): 3 / (m + 3) + 0.01 for m in (1, 2, 4, 8, 16)}


def lines_of(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_points_curve_and_crosses():
    said = {(4, 1): 0.75, (4, 8): 0.1, (2, 8): 0.5}  # no run of two ranks: not drawn
    drawn = lines_of(plot_bubble(RECORDED, predicted=said))
    points, crosses = drawn["recorded"], drawn["your prediction"]
    assert [*points.get_xdata()] == [1, 2, 4, 8, 16]
    assert [*points.get_ydata()] == pytest.approx([100 * share for share in RECORDED.values()])
    assert [*zip(crosses.get_xdata(), crosses.get_ydata(), strict=True)] == [(1, 75), (8, 10)]
    curve = drawn["(p−1)/(m+p−1), p = 4"]
    for m, height in zip(curve.get_xdata(), curve.get_ydata(), strict=True):
        assert height == pytest.approx(100 * 3 / (m + 3))


def test_a_curve_for_each_number_of_ranks_and_no_cross_without_a_prediction():
    drawn = lines_of(plot_bubble({(2, 4): 0.2, (8, 4): 0.64}))
    assert [label for label in drawn if "p = " in label] == [
        "(p−1)/(m+p−1), p = 2",
        "(p−1)/(m+p−1), p = 8",
    ]
    assert "your prediction" not in drawn


def test_words_and_table_say_the_same():
    figure = plot_bubble(RECORDED, predicted={(4, 8): 0.1})
    html = figure._repr_html_()
    assert re.search(r'<img alt="Recorded bubble fractions[^"]{60,}" src="data:image/png', html)
    assert html.count("<tr>") == 6 and "The same as a table</summary>" in html
    assert "p = 4, m = 8: 28 %, formula 27 %, predicted 10 %" in figure.alt
    assert repr(figure).splitlines()[4].split() == ["4", "8", "0.28", "0.27", "0.10"]


def test_a_point_recorded_while_the_machine_was_busy_is_hollow_and_says_so():
    calm = simulate(gpipe(4, 8), Cost(0.01, 0.01, 0.01))
    busy = replace(simulate(gpipe(4, 4), Cost(0.01, 0.01, 0.01)), source="recorded")
    busy = replace(busy, setting=replace(busy.setting, late=22, timed=32, lost=0.4))
    figure = plot_bubble({(4, 8): calm, (4, 4): busy, (4, 2): 0.6})
    drawn = lines_of(figure)
    assert [*drawn["recorded"].get_xdata()] == [8, 2]
    hollow = drawn["recorded while the machine was busy"]
    assert [*hollow.get_xdata()] == [4] and hollow.get_markerfacecolor() == "none"
    assert [*hollow.get_ydata()] == pytest.approx([100 * busy.bubble_fraction])
    share = round(100 * busy.bubble_fraction)
    assert f"m = 4: {share} % on a busy machine, formula 43 %" in figure.alt
    assert [row[2] for row in figure.rows][1].endswith("on a busy machine")
    assert figure.alt.count("busy") == 1


def test_nothing_recorded_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_bubble({})

"""The wait-for graph of a deadlock: every arrow of the error is in picture, words and table."""

import re

import pytest

from pipelab.errors import DeadlockError
from pipelab.plots import plot_waits
from pipelab.schedules import Schedule, validate

TWO = ["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", "2F0 2F1 2B0 2B1"]  # rank 0 only waits for the ring


def deadlock(rows):
    with pytest.raises(DeadlockError) as caught:
        validate(Schedule.from_tokens(row.split() for row in rows))
    return caught.value


@pytest.mark.parametrize("rows", [TWO, ["0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1"]])
def test_every_wait_of_the_error_is_said_and_drawn(rows):
    error = deadlock(rows)
    figure = plot_waits(error)
    written = [text.get_text() for text in figure.axes[0].texts]
    for blocked in error.blocked:
        assert f"rank {blocked.rank} cannot start {blocked.action}" in figure.alt
        assert f"{blocked.action}\nwaits for {blocked.needs}" in written
        assert f"rank {blocked.rank}" in written and f"rank {blocked.peer}" in written
    html = figure._repr_html_()
    assert re.search(r'<img alt="Wait-for graph: [^"]{60,}" src="data:image/png', html)
    assert html.count("<tr><td>") == len(error.blocked)


def test_the_ring_stands_out_and_who_only_waits_for_it_does_not():
    figure = plot_waits(deadlock(TWO))
    assert [row[-1] for row in figure.rows] == ["no", "yes", "yes"]
    circles = [t for t in figure.axes[0].texts if t.get_text().startswith("rank ")]
    edges = [circle.get_bbox_patch().get_edgecolor() for circle in circles]
    assert edges[0] != edges[1] == edges[2]
    assert figure.alt.endswith("In a ring wait: rank 1, rank 2.")
    assert "cannot start" in repr(figure)


def test_a_wait_for_what_nobody_runs_has_no_arrow():
    from pipelab.errors import Blocked

    error = DeadlockError("stuck", blocked=[Blocked(0, "0B0", "1B0", None)])
    figure = plot_waits(error)
    assert "that no rank runs. There is no ring." in figure.alt
    assert figure.rows == (("0", "0B0", "1B0", "none", "no"),)
    assert [t.get_text() for t in figure.axes[0].texts if "waits" in t.get_text()] == []


def test_a_long_way_round_stays_in_the_picture():
    rows = [*["0F0 0B0 0F1 0B1"], *[f"{r}F0 {r}B0 {r}F1 {r}B1" for r in (1, 2)], "3F1 3F0 3B0 3B1"]
    figure = plot_waits(deadlock(rows))
    (low, high), texts = figure.axes[0].get_ylim(), figure.axes[0].texts
    assert all(low < text.get_position()[1] < high for text in texts)

"""The timeline in letters: right columns, right width, no label cut to another one's name."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Kind
from pipelab.plots import describe, timeline_text
from pipelab.plots.terminal import bubble_text, source_text, table, table_html
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.words import bytes_text, number, percent, time_text
from tests.traces import recorded_like, two_stages_a_rank

UNIT = Cost(1, 1, 1)
AROUND = len("rank 0 " + "  27 % idle")  # columns of a row that are not timeline
TRACES = {
    "gpipe": simulate(gpipe(4, 8), UNIT),
    "1f1b with latency": simulate(one_f_one_b(4, 8), Cost(latency=0.1)),
    "large": simulate(one_f_one_b(12, 40), Cost(0.01, 0.01, 0.01)),
    "tiny times": simulate(gpipe(2, 2), Cost(1e-6, 1e-6, 1e-6)),
    "recorded": recorded_like(one_f_one_b(4, 8)),
    "two stages a rank": recorded_like(two_stages_a_rank()),
    "one rank": simulate(one_f_one_b(1, 1), UNIT),
    "one event": Trace((Event(0, Kind.F, 0, 0, 0.5, 0.5),), "recorded"),
    "no events": Trace((), "recorded", Setting(ranks=2)),
}


def rows(text):
    """The timelines alone, one string per rank."""
    return re.findall(r"^rank +\d+ (.*) [ \d]{3} % idle$", text, re.MULTILINE)


# ---------------------------------------------------------------------------------- columns


def test_1f1b_of_two_ranks_stands_at_its_columns():
    # two columns a unit of time; F takes one unit, B two
    text = timeline_text(simulate(one_f_one_b(2, 4), UNIT), 30 + AROUND)
    assert text.splitlines() == [
        "rank 0 F0F1····B0══F2B1══F3B2══··B3══  20 % idle",
        "rank 1 ··F0B0══F1B1══F2B2══F3B3══····  20 % idle",
        "       └0        └5        └10       └15 s",
        "       F forward   B backward   · idle",
        "       predicted · 1F1B · 2 ranks · 4",
        "       microbatches · simulator · F 1000 ms, B",
        "       2000 ms",
    ]


def test_gpipe_of_four_ranks_stands_at_its_columns():
    text = timeline_text(simulate(gpipe(4, 8), UNIT), 2 * 33 + AROUND)
    assert rows(text) == [
        "F0F1F2F3F4F5F6F7··················B0══B1══B2══B3══B4══B5══B6══B7══",
        "··F0F1F2F3F4F5F6F7············B0══B1══B2══B3══B4══B5══B6══B7══····",
        "····F0F1F2F3F4F5F6F7······B0══B1══B2══B3══B4══B5══B6══B7══········",
        "······F0F1F2F3F4F5F6F7B0══B1══B2══B3══B4══B5══B6══B7══············",
    ]


@pytest.mark.parametrize("columns_a_unit", [2, 3, 5])
def test_every_box_of_an_oracle_schedule_stands_at_its_columns(columns_a_unit):
    trace = simulate(one_f_one_b(4, 8), UNIT)
    found = rows(timeline_text(trace, 33 * columns_a_unit + AROUND))
    computed = [e for e in trace.events if e.kind in COMPUTE]
    for e in computed:
        a, b = int(e.start) * columns_a_unit, int(e.end) * columns_a_unit
        assert found[e.rank][a:b] == f"{e.kind}{e.microbatch}".ljust(b - a, "─═"[e.kind == "B"])
    computing = sum(int(e.end - e.start) for e in computed) * columns_a_unit
    assert sum(row.count("·") for row in found) == 4 * 33 * columns_a_unit - computing


def test_a_step_is_seen_and_time_outside_of_the_work_is_blank():
    events = (
        Event(0, Kind.WAIT, 0, 0, 0.0, 2.0),
        Event(0, Kind.F, 0, 0, 2.0, 4.0),
        Event(0, Kind.REDUCE_GRAD, 0, None, 6.0, 8.0),
        Event(0, Kind.STEP, 0, None, 8.0, 10.0),
        Event(1, Kind.F, 1, 0, 2.0, 5.0),
        Event(1, Kind.STEP, 1, None, 6.0, 6.001),
    )
    text = timeline_text(Trace(events, "recorded", Setting(ranks=2)), 30 + AROUND)
    assert rows(text) == ["      F0────···   RRRRRRSSSSSS", "      F0───────   S           "]
    # the legend breaks between its entries alone
    assert "F forward   R reduce gradients\n       S optimizer step   · idle\n" in text


def test_stages_of_a_rank_are_distinguished():
    text = timeline_text(simulate(two_stages_a_rank(), UNIT), 48 + AROUND)
    assert {"0F0", "0F1", "2F0", "2F1", "2I0", "2W1"} <= set(re.findall(r"\d[A-Z]\d", text))


# ------------------------------------------------------------------------------------ width


@pytest.mark.parametrize("width", [1, 40, 41, 60, 79, 80, 100, 132, 200])
@pytest.mark.parametrize("name", TRACES)
def test_lines_have_the_width(name, width):
    trace = TRACES[name]
    lines = timeline_text(trace, width).splitlines()
    width = max(width, 40)
    assert [len(line) for line in lines[: trace.num_ranks]] == [width] * trace.num_ranks
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith("rank") for line in lines[: trace.num_ranks])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 150, 250])
def test_narrow_boxes_show_a_letter_or_less_but_never_half_a_number(width):
    trace = TRACES["large"]
    found = rows(timeline_text(trace, width))
    scale = len(found[0]) / trace.duration
    real = {(e.rank, f"{e.kind}{e.microbatch}"): e for e in trace.events}
    seen = 0
    for rank, row in enumerate(found):
        assert set(row) <= set("FB0123456789─═·")
        for match in re.finditer(r"[FB]\d+", row):
            e = real[rank, match.group()]
            assert abs(match.start() - e.start * scale) <= 1
            assert match.end() <= e.end * scale + 1
            seen += 1
    assert (seen > 100) == (width == 250)
    assert all("F" in row and "B" in row for row in found)


# ------------------------------------------------------------------------- axis, words, numbers


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("name", ["gpipe", "large", "tiny times", "recorded"])
def test_times_stand_under_their_columns(name, width):
    trace = TRACES[name]
    lines = timeline_text(trace, width).splitlines()
    axis = lines[trace.num_ranks]
    before = len(f"rank {trace.num_ranks - 1} ")
    columns = width - before - len("  27 % idle")
    whole = max(e.end for e in trace.events)
    unit = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[axis.split()[-1]]
    marks = list(re.finditer(r"└([\d.]+)", axis))
    assert len(marks) >= 2 and marks[0][1] == "0"
    for mark in marks:
        column = float(mark[1]) * unit / whole * columns
        assert abs(mark.start() - before - column) <= 0.51


@pytest.mark.parametrize("name", TRACES)
def test_idle_is_one_minus_utilisation(name):
    trace = TRACES[name]
    found = re.findall(r"(\d+) % idle$", timeline_text(trace), re.MULTILINE)
    wanted = [round(100 * (1 - u)) if trace.duration else 0 for u in trace.utilisation]
    assert [int(text) for text in found] == wanted


def test_the_legend_names_what_occurs():
    assert "optimizer" in timeline_text(TRACES["recorded"])
    assert "optimizer" not in timeline_text(TRACES["gpipe"])
    assert "· idle" not in timeline_text(TRACES["one rank"])


def test_the_source_is_named():
    for trace in TRACES.values():
        assert source_text(trace) in " ".join(timeline_text(trace).split())


def test_description_says_what_the_picture_shows():
    assert describe(TRACES["gpipe"]) == (
        "Predicted timeline of the schedule GPipe: 4 ranks, 8 microbatches, 33 s from the first "
        "start to the last end. Idle: rank 0 27 %, rank 1 27 %, rank 2 27 %, rank 3 27 %. "
        "Bubble fraction 27.3 % predicted, 27.3 % by (p−1)/(m+p−1)."
    )


def test_the_formula_stands_only_where_it_holds():
    assert bubble_text(TRACES["1f1b with latency"]) == (
        "bubble fraction 30.6 % predicted, 27.3 % by (p−1)/(m+p−1)"
    )
    assert bubble_text(TRACES["two stages a rank"]).endswith("% measured")


def test_table_has_the_numbers_of_the_trace():
    trace = TRACES["recorded"]
    found = table(trace)
    assert [row.rank for row in found] == [0, 1, 2, 3]
    for row, share, peak in zip(found, trace.utilisation, trace.peak_activation_bytes, strict=True):
        assert row.idle_percent == pytest.approx(100 * (1 - share))
        assert row.busy_ms == pytest.approx(1e3 * trace.duration * share)
        assert row.busy_ms + row.idle_ms == pytest.approx(1e3 * trace.duration)
        assert (row.forwards, row.backwards) == (8, 8)
        assert row.peak_activation_bytes == peak > 0


def test_a_backward_in_halves_counts_once():
    assert [(r.forwards, r.backwards) for r in table(TRACES["two stages a rank"])] == [(4, 4)] * 2


def test_html_table_is_safe_and_has_headers():
    setting = Setting("<b>&", ranks=2)
    html = table_html(Trace(TRACES["gpipe"].events[:8], "recorded", setting))
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html
    assert html.count('<th scope="col">') == 7 and html.count('<th scope="row">') == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1024, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_bytes_text(count, text):
    assert bytes_text(count) == text


@given(st.integers(0, 10**15))
def test_bytes_text_is_true_to_five_percent(count):
    value, unit = bytes_text(count).split()
    factor = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert float(value) * factor == pytest.approx(count, rel=0.05)
    assert float(value) < 1000 or unit == "TB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (2.5e-5, "25 µs"),
        (0.0123456, "12.3 ms"),
        (0.9999, "1000 ms"),
        (1, "1 s"),
        (33.6, "33.6 s"),
        (4321, "4321 s"),
    ],
)
def test_time_text(seconds, text):
    assert time_text(seconds) == text


def test_small_words():
    assert (number(1, "microbatch"), number(0, "rank")) == ("1 microbatch", "0 ranks")
    assert (percent(0.2727, 1), percent(-1e-17), percent(1)) == ("27.3 %", "0 %", "100 %")


def test_text_needs_neither_matplotlib_nor_torch():
    script = """
import sys
import pipelab.plots
from pipelab.plots import describe, timeline_text
from pipelab.words import bytes_text
assert not {"matplotlib", "torch", "numpy"} & set(sys.modules)
assert not hasattr(pipelab.plots, "nothing")
from pipelab.plots import plot_timeline
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

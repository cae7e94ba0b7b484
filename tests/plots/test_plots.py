"""The timeline as a picture: its boxes are the events, its words are true and readable."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipelab.action import COMPUTE, MESSAGES, Kind
from pipelab.plots import describe, palette, plot_compare, plot_timeline
from pipelab.plots.picture import LARGE
from pipelab.plots.terminal import source_text
from pipelab.schedules import gpipe, interleaved, one_f_one_b
from pipelab.schedules.catalogue import title_of
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.trace.idle import explain_idle
from tests.traces import recorded_like, two_stages_a_rank

TRACES = {
    "gpipe": simulate(gpipe(4, 8), Cost()),
    "1f1b with latency": simulate(one_f_one_b(4, 8), Cost(latency=0.1)),
    "many boxes": simulate(one_f_one_b(8, 32), Cost(0.01, 0.01, 0.01)),
    "tiny times": simulate(gpipe(2, 2), Cost(1e-6, 1e-6, 1e-6)),
    "recorded": recorded_like(one_f_one_b(4, 8)),
    "two stages a rank": recorded_like(two_stages_a_rank()),
    "one rank": simulate(one_f_one_b(1, 1), Cost()),
    "many ranks": simulate(one_f_one_b(70, 3), Cost()),
    "flat": Trace(
        tuple(Event(r, Kind.F, r, 0, 0.0, 1.0) for r in range(90)), "recorded", Setting(ranks=90)
    ),
    "a long source": simulate(gpipe(12, 2), Cost([i + 0.123 for i in range(12)], 0.5, 0.25)),
    "one event": Trace((Event(0, Kind.F, 0, 0, 0.5, 0.5),), "recorded"),
    "no events": Trace((), "recorded", Setting(ranks=2)),
}
IDLE_OF_RECORDED = palette.idle_legend({piece.reason for piece in explain_idle(TRACES["recorded"])})
every_trace = pytest.mark.parametrize("name", TRACES)


def drawn(name, width=10.0, title=None):
    """The axes of a trace's picture, drawn, so that its texts have a size."""
    return _drawn(name, width, title)


def _axes(trace):
    figure = plot_timeline(trace)
    figure.draw_without_rendering()
    return figure.axes[0]


@cache  # by all its arguments: a default one that is given is the same
def _drawn(name, width, title):
    figure = plot_timeline(TRACES[name], title, width=width)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    return ax


def collection(ax, label):
    return next((c for c in ax.collections if c.get_label() == label), None)


def boxes(ax, label):
    """(left, right, top, bottom) of each box, in seconds and in rows."""
    found = collection(ax, label)
    corners = [path.vertices for path in found.get_paths()] if found else []
    return [(*sorted({*v[:, 0]}), *sorted({*v[:, 1]})) for v in corners]


def computed(trace):
    return [e for e in trace.events if e.kind in COMPUTE]


def labels(ax):
    """The texts in boxes: those placed in seconds and in rows."""
    return [text for text in ax.texts if text.get_transform() == ax.transData]


def words(ax):
    return [text.get_text() for text in ax.texts]


# ------------------------------------------------------------------------------------ boxes


@every_trace
def test_there_is_one_box_per_event_from_its_start_to_its_end(name):
    ax = drawn(name)
    for kind in Kind:
        found = collection(ax, kind)
        wanted = [e for e in TRACES[name].events if e.kind is kind is not Kind.WAIT]
        paths = found.get_paths() if found else []
        assert len(paths) == len(wanted)
        for path, e in zip(paths, wanted, strict=True):
            assert {*path.vertices[:, 0]} == {e.start, e.end}
            assert {*path.vertices[:, 1].round()} == {e.rank}


@pytest.mark.parametrize("messages", [True, False])
def test_an_average_over_replicas_has_a_box_unless_its_rank_computes_meanwhile(messages):
    trace = simulate(lower(interleaved(2, 2), replicas=2), Cost(reduce=3.0))
    figure = plot_timeline(trace, messages=messages)
    found = sorted(boxes(figure.axes[0], Kind.REDUCE_GRAD))
    in_rows = [(15.0, 18.0), (13.0, 16.0)]  # of ranks 0 and 1; the others run beside a B
    beside = [(11.0, 14.0), (9.0, 12.0)] if messages else []
    assert [box[:2] for box in found] == sorted(in_rows + beside)
    low = [box[:2] for box in found if box[2] % 1 < 0.4]
    assert sorted(low) == sorted(beside)
    texts = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert any("reduce" in text for text in texts)


@every_trace
def test_all_boxes_of_a_kind_are_one_collection(name):
    ax = drawn(name)
    names = [c.get_label() for c in ax.collections]
    assert len(names) == len(set(names))
    kinds = {name for name in names if not name.startswith("idle: ")}
    assert kinds == {e.kind for e in TRACES[name].events} - {Kind.WAIT}
    assert not ax.patches


def test_rank_0_is_on_top():
    ax = drawn("gpipe")
    assert ax.get_ylim() == (3.5, -0.5)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"rank {r}" for r in range(4)]


@every_trace
def test_shaded_idle_time_is_one_minus_utilisation(name):
    trace = TRACES[name]
    ax = drawn(name)
    idle = [0.0] * trace.num_ranks
    last = max((e.end for e in computed(trace)), default=0.0)  # what follows is no idle time of it
    for label in [c.get_label() for c in ax.collections if c.get_label().startswith("idle: ")]:
        for left, right, *rows in boxes(ax, label):
            idle[round(sum(rows) / 2)] += max(0.0, min(right, last) - left)
    if trace.duration:
        wanted = [(1 - share) * trace.duration for share in trace.utilisation]
        assert idle == pytest.approx(wanted, abs=1e-9 * trace.duration)
    every = 1 if trace.num_ranks < 20 else 2  # where rows are lower than a line of text
    assert [text for text in words(ax) if text.endswith("% idle")] == [
        f"{100 * (1 - share) if trace.duration else 0:.0f} % idle"
        for share in trace.utilisation[::every]
    ]


def test_messages_have_a_lane_below_the_rank():
    ax = drawn("recorded")
    work = [box for kind in COMPUTE | {Kind.STEP} for box in boxes(ax, kind)]
    lane = [box for kind in MESSAGES for box in boxes(ax, kind)]
    assert lane and work
    for rank in range(4):
        low = max(bottom for _, _, top, bottom in work if round(top) == rank)
        high = min(top for _, _, top, bottom in lane if round(bottom) == rank)
        assert low < high


def test_idle_time_has_the_shade_and_the_words_of_its_reason():
    """A still picture once said "idle, waiting for a message" where a widget says why."""
    for name in ("recorded", "1f1b with latency"):
        ax = drawn(name)
        found = {c.get_label(): c for c in ax.collections if c.get_label().startswith("idle: ")}
        wanted = palette.idle_legend({piece.reason for piece in explain_idle(TRACES[name])})
        assert [*found] == [*wanted] and "idle: waits for a result" in found
        assert len({to_hex(c.get_facecolor()[0]) for c in found.values()}) == len(found)
        assert all(c.get_zorder() < collection(ax, Kind.F).get_zorder() for c in found.values())


@pytest.mark.parametrize("kind", [Kind.F, Kind.B])
def test_colour_and_hatch_are_those_of_the_kind(kind):
    found = collection(drawn("recorded"), kind)
    style = palette.STYLES[kind]
    assert {to_hex(c).upper() for c in found.get_facecolor()} == {style.colour}
    assert (found.get_hatch() or "") == style.hatch


def test_later_stages_of_a_rank_are_lighter():
    ax = drawn("two stages a rank")
    events = [e for e in TRACES["two stages a rank"].events if e.kind is Kind.F]
    colours = [to_hex(c) for c in collection(ax, Kind.F).get_facecolor()]
    by_stage = {}
    for e, colour in zip(events, colours, strict=True):
        by_stage.setdefault(e.stage, set()).add(colour)
    assert all(len(found) == 1 for found in by_stage.values())
    shades = [palette.luminance(by_stage[stage].pop()) for stage in range(4)]
    assert shades[0] == shades[1] < shades[2] == shades[3]


# ----------------------------------------------------------------------------------- labels


def test_every_box_that_has_room_is_labelled_at_its_middle():
    found = {(t.get_text(), *t.get_position()) for t in labels(drawn("gpipe"))}
    wanted = {(f"{e.kind}{e.microbatch}", (e.start + e.end) / 2) for e in computed(TRACES["gpipe"])}
    assert {(text, x) for text, x, y in found} == wanted
    assert {round(y) for text, x, y in found} == {0, 1, 2, 3}


@every_trace
def test_no_label_sticks_out_of_its_box(name):
    ax = drawn(name)
    spots = [box for kind in Kind for box in boxes(ax, kind) if len(box) == 4]
    for text in labels(ax):
        x, y = text.get_position()
        (left, right, top, bottom), *_ = [
            box for box in spots if box[0] < x < box[1] and box[2] < y < box[3]
        ]
        extent = text.get_window_extent()
        (x0, y0), (x1, y1) = ax.transData.transform([(left, bottom), (right, top)])
        assert x0 <= extent.x0 and extent.x1 <= x1, text.get_text()
        assert y0 <= extent.y0 + 2 and extent.y1 <= y1 + 2, text.get_text()


def test_labels_of_a_row_do_not_end_at_microbatch_9():
    costs = Cost([0.6, 0.2, 0.2, 0.2], 0.5, 0.4)
    texts = [t.get_text() for t in labels(_axes(simulate(one_f_one_b(4, 32), costs)))]
    assert not texts or max(int(re.sub(r"\D", "", text)) for text in texts) == 31


def test_labels_are_absent_where_they_would_not_fit():
    narrow, wide = labels(drawn("many boxes")), labels(drawn("many boxes", width=40))
    assert not [t for t in narrow if t.get_text().startswith("F")]
    assert len(wide) == len(computed(TRACES["many boxes"]))


def test_labels_can_be_read_on_their_boxes():
    for name in ("recorded", "two stages a rank"):
        ax = drawn(name)
        for kind in COMPUTE:
            found = collection(ax, kind)
            for fill in {to_hex(c) for c in found.get_facecolor()} if found else ():
                inks = {t.get_color() for t in labels(ax) if t.get_text().startswith(kind.value)}
                assert max(palette.contrast(fill, ink) for ink in inks) >= 4.5


# ------------------------------------------------------------------------------------ words


@every_trace
def test_title_bubble_and_source_are_written(name):
    trace = TRACES[name]
    texts = " ".join(words(drawn(name))).replace("\n", " ")
    name = title_of(trace.setting.schedule)
    assert f"{name} · " in texts and f"{trace.source} · {name} · " in texts, "one name everywhere"
    assert source_text(trace) in texts
    seen = "measured" if trace.source == "recorded" else "predicted"
    assert f"bubble fraction {abs(trace.bubble_fraction):.1%} {seen}".replace("%", " %") in texts
    assert ("(p−1)/(m+p−1)" in texts) == (trace.setting.schedule in ("gpipe", "1f1b"))


def test_latency_shows_beside_the_formula():
    assert "bubble fraction 30.6 % predicted, 27.3 % by (p−1)/(m+p−1)" in words(
        drawn("1f1b with latency")
    )


def test_a_title_of_ones_own_is_taken_as_it_is():
    ax = drawn("gpipe", title=r"costs $5 and $\nothing$ more")
    assert r"costs $5 and $\nothing$ more" in words(ax)


def test_a_schedule_with_a_strange_name_is_drawn():
    trace = Trace(TRACES["gpipe"].events, "predicted", Setting("$x_$ <&> _y", ranks=4))
    plot_timeline(trace).savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "gpipe",
            {"F forward", "B backward", "idle: waits for a result"}
            | {"idle: nothing left to compute", "send F", "send B"},
        ),
        ("one rank", {"F forward", "B backward"}),
        (
            "recorded",
            {"F forward", "B backward", "S optimizer step"}
            | {"send F", "send B", "receive F", "receive B", *IDLE_OF_RECORDED},
        ),
    ],
)
def test_the_legend_names_what_occurs_and_nothing_else(name, wanted):
    texts = [t.get_text() for t in drawn(name).get_legend().get_texts()]
    assert {text for text in texts if text} == wanted


@pytest.mark.parametrize(
    ("name", "unit"), [("gpipe", "s"), ("recorded", "ms"), ("tiny times", "µs")]
)
def test_times_have_a_unit_that_suits_them(name, unit):
    ax = drawn(name)
    left, right = ax.get_xlim()
    ticks = [t for t in ax.get_xticklabels() if left <= t.get_position()[0] <= right]
    assert len(ticks) >= 4
    for tick in ticks:
        number, _, found = tick.get_text().partition(" ")
        assert found == unit
        factor = {"s": 1, "ms": 1e3, "µs": 1e6}[unit]
        assert float(number) == pytest.approx(tick.get_position()[0] * factor, abs=1e-9)
        assert len(number) <= 4


@every_trace
@pytest.mark.parametrize("width", [8, 10, 14])
def test_no_word_is_cut_off_or_too_small(name, width):
    ax = drawn(name, width=width)
    texts = [*ax.texts, *ax.get_yticklabels(), *(t for t in ax.get_xticklabels() if t.get_text())]
    legend = ax.get_legend()
    texts += legend.get_texts() if legend else []
    page = ax.figure.bbox
    left, right = ax.get_xlim()
    for text in texts:
        if text in ax.get_xticklabels() and not left <= text.get_position()[0] <= right:
            continue
        extent = text.get_window_extent()
        assert extent.x0 >= page.x0 - 1 and extent.x1 <= page.x1 + 1, text.get_text()
        assert extent.y0 >= page.y0 - 1 and extent.y1 <= page.y1 + 1, text.get_text()
        assert text.get_fontsize() >= 10


@every_trace
def test_words_around_the_axes_do_not_overlap(name):
    ax = drawn(name)
    around = [t.get_window_extent() for t in ax.texts if t not in labels(ax)]
    around += [ax.get_legend().get_window_extent()] if ax.get_legend() else []
    around = [extent for extent in around if extent.width]
    for i, one in enumerate(around):
        assert not any(one.overlaps(other) for other in around[i + 1 :])


# ---------------------------------------------------------------------------------- figures


def test_a_size_for_a_lecture():
    width, height = plot_timeline(TRACES["recorded"]).get_size_inches()
    assert width == 10 and 3.5 < height < 5.0


def test_draws_into_axes_of_another_figure():
    figure = Figure(figsize=(10, 8))
    for ax, name in zip(figure.subplots(2, 1), ("gpipe", "recorded"), strict=True):
        assert plot_timeline(TRACES[name], ax=ax) is figure
        assert len(collection(ax, Kind.B).get_paths()) == 32
    part = Figure().subfigures(1, 2)[0]
    assert plot_timeline(TRACES["gpipe"], ax=part.subplots()) is part.figure


def test_a_notebook_gets_a_png_and_a_reader_gets_words():
    figure = plot_timeline(TRACES["recorded"])
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert repr(figure) == describe(TRACES["recorded"])


def test_pyplot_stays_out():
    script = """
import sys
from pipelab.plots import plot_timeline
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
plot_timeline(simulate(gpipe(2, 2), Cost()))._repr_png_()
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_ten_thousand_boxes_need_few_artists():
    trace = simulate(one_f_one_b(16, 320), Cost())
    (ax,) = plot_timeline(trace).axes
    assert len(computed(trace)) == 10_240
    assert len(ax.collections) == 6 and len(ax.texts) < 30  # one per kind, and idle
    assert not any(c.get_hatch() for c in ax.collections)  # too narrow to be seen, slow to draw
    fills, outlines = (
        collection(ax, Kind.F).get_facecolor(),
        collection(ax, Kind.F).get_edgecolor(),
    )
    assert (fills == outlines).all()  # darker ones would cover all of such a narrow box


# ---------------------------------------------------------------------------------- palette


OKABE_ITO = {
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
}  # fmt: skip


def test_every_kind_has_a_separate_style():
    assert set(palette.STYLES) == set(Kind)
    assert {s.colour for k, s in palette.STYLES.items() if k is not Kind.WAIT} <= OKABE_ITO
    for kinds in (set(Kind) - MESSAGES, MESSAGES):  # the two never share a row
        styles = [palette.STYLES[kind] for kind in kinds]
        assert len({s.colour for s in styles}) == len({s.hatch for s in styles}) == len(styles)
    letters = [s.letter for s in palette.STYLES.values() if s.letter]
    assert sorted(letters) == sorted({*COMPUTE, "R", "S"})


@pytest.mark.parametrize("kind", sorted(COMPUTE | {Kind.STEP, Kind.REDUCE_GRAD}))
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_text_on_every_shade_can_be_read(kind, stages):
    for place in range(stages):
        fill = palette.shade(palette.STYLES[kind].colour, place, stages)
        assert palette.contrast(fill, palette.text_on(fill)) >= 4.5


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.WAIT}))
def test_outlines_show_on_white(kind):
    outline = palette.edge(palette.STYLES[kind].colour)
    assert palette.contrast(outline, palette.WHITE) >= 3


def test_small_print_can_be_read():
    assert palette.contrast(palette.QUIET, palette.WHITE) >= 7
    assert palette.contrast(palette.BLACK, palette.IDLE) >= 10


def test_contrast_is_that_of_wcag():
    assert palette.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)
    assert palette.contrast("#FF0000", "#FFFFFF") == pytest.approx(4.00, abs=0.005)


# --------------------------------------------------------------------------------- compared


def test_two_traces_stand_on_one_time_axis():
    predicted = simulate(one_f_one_b(4, 8), Cost(0.010, 0.010, 0.010))
    recorded = TRACES["recorded"]
    figure = plot_compare(predicted, recorded)
    figure.savefig(io.BytesIO(), format="png")
    above, below = figure.axes
    assert above.get_xlim()[1] == pytest.approx(below.get_xlim()[1], rel=0.01)
    for ax, trace in ((above, predicted), (below, recorded)):
        assert len(collection(ax, Kind.F).get_paths()) == 32
        assert any(trace.source in text.get_text() for text in ax.texts)
    change = 100 * (recorded.duration / predicted.duration - 1)
    assert f"({change:+.1f} %)" in figure.texts[0].get_text()
    assert "Predicted timeline" in figure.alt and "Recorded timeline" in figure.alt


def titles(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts if t.get_fontsize() == LARGE]


def test_each_half_says_what_it_is():
    def of(backend):
        setting = replace(TRACES["recorded"].setting, backend=backend)
        return replace(TRACES["recorded"], setting=setting)

    ours, torchs = of("gloo"), of("torch.distributed.pipelining, gloo")
    name = title_of(ours.setting.schedule)
    assert titles(plot_compare(ours, torchs)) == [
        f"recorded by pipelab: {name}",
        f"recorded by torch.distributed.pipelining: {name}",
    ]
    assert titles(plot_compare(ours, ours)) == [f"recorded: {name}"] * 2


@pytest.mark.parametrize(("a", "b"), [("gpipe", "one rank"), ("one rank", "many boxes")])
def test_traces_of_other_ranks_stand_on_one_time_axis_too(a, b):
    figure = plot_compare(TRACES[a], TRACES[b])
    figure.draw_without_rendering()
    above, below = figure.axes
    for ax, name in ((above, a), (below, b)):
        ranks = TRACES[name].num_ranks
        assert len(ax.get_yticks()) == ranks
        assert ax.get_ylim() == (ranks - 0.5, -0.5)
    extents = [ax.get_window_extent() for ax in figure.axes]
    seconds = [ax.get_xlim()[1] - ax.get_xlim()[0] for ax in figure.axes]
    assert extents[0].width == extents[1].width
    assert seconds[0] == pytest.approx(seconds[1], rel=0.01), "a second is as wide in both"
    numbers = [TRACES[name].num_ranks for name in (a, b)]
    rows = [extent.height / ranks for extent, ranks in zip(extents, numbers, strict=True)]
    assert rows[0] == pytest.approx(rows[1]), "and a rank as high"
    assert all(f" {n} rank" in title for n, title in zip(numbers, titles(figure), strict=True))
    words = figure.texts[0]
    assert "per microbatch" in words.get_text()
    assert words.get_window_extent().x1 <= figure.bbox.width, "no word is cut off"

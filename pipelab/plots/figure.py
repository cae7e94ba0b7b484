"""The timeline: one row per rank, one box per action, idle time shaded. Recorded or predicted.

            ┌──┬──┬─────────────┬─────┬──┬───        boxes: F, B, I, W, STEP, with their microbatch
    rank 0  │F0│F1│░░░░░░░░░░░░░│ B0  │F2│    27 %  ░: the rank does not compute; the shade says why
            └──┴──┴─────────────┴─────┴──┴───
               |  |        |          |              the lane below: sends and receives

Boxes of one kind are one PolyCollection: 10,000 separate patches would take seconds to draw.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from pipelab.action import MESSAGES, PER_STAGE, Kind
from pipelab.overlapping import overlapping_pairs
from pipelab.plots.any_theme import INSIDE
from pipelab.plots.palette import BLACK, STYLES, edge, idle_legend, idle_shade, shade, text_on
from pipelab.plots.picture import (
    ABOVE,
    LEFT,
    NORMAL,
    POINTS,
    RIGHT,
    SMALL,
    Picture,
    notes_of,
    text_width,
    write_around,
)
from pipelab.plots.terminal import axis_unit, describe, idle_shares, span
from pipelab.story import reworded
from pipelab.trace import Event, Trace
from pipelab.trace.idle import Idle, seen_reasons
from pipelab.trace.metrics import stages_of
from pipelab.trace.picture_rows import averages_alone, drawn_idle
from pipelab.words import percent

ROW, TALLEST = 0.56, 12.0  # inches: of one rank, and of all ranks at most
# Points: where boxes are narrower on average, outlines would hide them, and hatches cost seconds.
ROOMY = 3.0


_Box = list[tuple[float, float]]  # its four corners


class _Band(NamedTuple):
    """Edges of a rank's boxes and of its lane of messages, in rows below the rank's own line."""

    top: float
    bottom: float
    lane_top: float = 0.0
    lane_bottom: float = 0.0


class _Look(NamedTuple):
    """How the boxes of a picture are labelled."""

    size: float
    form: Literal["line", "stacked", "number"]

    def lines(self, event: Event) -> list[str]:
        """The lines of an event's label: letter and microbatch."""
        letter, digits = STYLES[event.kind].letter, event.microbatch
        if digits is None:
            return [letter]
        match self.form:
            case "line":
                return [f"{letter}{digits}"]
            case "stacked":
                return [letter, str(digits)]
            case "number":
                return [str(digits)]


_LOOKS = (
    _Look(NORMAL, "line"),
    _Look(SMALL, "line"),
    _Look(SMALL, "stacked"),
    _Look(SMALL, "number"),
)
BESIDE = 5.0  # points that a label leaves free in its box, or F0 and F1 would read as F0F1
_MOST = 0.9  # of the boxes have room for the look of all


def plot_timeline(
    trace: Trace,
    title: str | None = None,
    *,
    ax: Axes | None = None,
    width: float = 10.0,
    until: float | None = None,
    line: tuple[float, str] | None = None,
    messages: bool = True,
) -> Figure:
    """The timeline as a new figure, or drawn into ``ax``. Never uses pyplot.

    Times on the axis are the events' own, in seconds below and in a fitting unit on the labels.
    Labels that do not fit into their boxes are left out. Each row ends with its 1 - utilisation.

    Args:
        title: instead of the schedule and its sizes.
        ax: room to draw in, in place of a new figure; its size at this moment decides on labels.
        width: inches of a new figure; more inches, more labels.
        until: seconds; the time axis extends to there, so that pictures can be compared.
        line: seconds and words: a dotted line at a predicted end.
        messages: whether to draw them, in a lane below each rank; and steps of the optimizer. An
            average over replicas is in the lane, too, unless its rank computes nothing meanwhile.
    """
    idle, alone = drawn_idle(trace), {*averages_alone(trace.events)}
    first, _ = span(trace.events)  # messages and waits begin with the step, computations later
    left_out = frozenset() if messages else MESSAGES | PER_STAGE
    _, last = span(e for e in trace.events if e.kind not in left_out - PER_STAGE | {Kind.WAIT})
    events = (e for e in trace.events if e.kind not in left_out or e in alone)
    trace = replace(trace, events=tuple(events))
    reasons = seen_reasons(trace, idle)
    if ax is None:
        ax = _new_axes(trace, width, reasons)
    figure = ax.get_figure()
    assert figure is not None
    size = _points(ax, figure.dpi)
    in_lane = MESSAGES | {Kind.REDUCE_GRAD}
    beside = {e for e in trace.events if e.kind in in_lane and e not in alone}
    band = _Band(-0.44, 0.2, 0.25, 0.42) if beside else _Band(-0.4, 0.4)
    last = max(last, first + 1e-9, until or last, line[0] if line else last)
    air = (last - first) * 0.004
    ax.set(xlim=(first - air, last + air), ylim=(trace.num_ranks - 0.5, -0.5))
    _draw_idle(ax, idle, band)
    sides = _sides(trace.events, beside, band)
    fills = _fills(trace.events)
    _draw_boxes(ax, trace.events, fills, sides, size[0] / (last - first))
    _draw_labels(ax, trace, fills, sides, size)
    _draw_frame(ax, trace, band, size[1] / trace.num_ranks)
    _draw_line(ax, line)
    write_around(ax, trace, title, notes_of(trace, reasons, size[0] + RIGHT * POINTS))
    return figure if isinstance(figure, Figure) else figure.figure


def _points(ax: Axes, dpi: float) -> tuple[float, float]:
    """Width and height of the room to draw in."""
    extent = ax.get_window_extent()
    return extent.width / dpi * POINTS, extent.height / dpi * POINTS


def _new_axes(trace: Trace, width: float, reasons: Collection[str]) -> Axes:
    rows = min(ROW * trace.num_ranks, TALLEST)
    below = notes_of(trace, reasons, (width - LEFT) * POINTS).height / POINTS
    height = ABOVE + rows + below
    figure = Picture(figsize=(width, height), dpi=144)
    figure.alt = describe(trace)
    box = LEFT / width, below / height, 1 - (LEFT + RIGHT) / width, rows / height
    return figure.add_axes(box)


def _draw_idle(ax: Axes, idle: Sequence[Idle], band: _Band) -> None:
    """Shade what no F, B, I or W of a rank covers, by its reason: its area is 1 - utilisation."""
    for words, alike in idle_legend({piece.reason for piece in idle}).items():
        boxes = [_box(i.rank, (i.start, i.end), band[:2]) for i in idle if i.reason in alike]
        look = {"facecolors": idle_shade(alike[0]), "label": words, "zorder": 1}
        ax.add_collection(_collection(boxes, **look))


def _fills(events: Sequence[Event]) -> dict[Event, str]:
    """The colour of each box: its kind's, lighter for the later stages of a rank."""
    stages, tint = stages_of(events), cache(shade)
    fills = {}
    for e in events:
        own, colour = stages[e.rank], STYLES[e.kind].colour
        fills[e] = tint(colour, 0 if e.kind in MESSAGES else own.index(e.stage), len(own))
    return fills


def _sides(
    events: Sequence[Event], beside: Collection[Event], band: _Band
) -> Callable[[Event], tuple[float, float]]:
    """Top and bottom of each box: an F and a B that overlap have half of the row each.

    ``beside``: those in the lane.
    """
    middle = (band.top + band.bottom) / 2
    halves: dict[Event, tuple[float, float]] = {}
    for forward, backward in overlapping_pairs(events):
        halves |= {forward: (band.top, middle), backward: (middle, band.bottom)}
    return lambda e: band[2:] if e in beside else halves.get(e, band[:2])


def _draw_boxes(
    ax: Axes,
    events: Sequence[Event],
    fills: dict[Event, str],
    sides: Callable[[Event], tuple[float, float]],
    scale: float,
) -> None:
    """One collection per kind; ``scale``: points per second."""
    outline = cache(edge)
    for kind, style in STYLES.items():
        drawn = [e for e in events if e.kind is kind]
        if not drawn or kind is Kind.WAIT:  # it is shown by the idle time that it explains
            continue
        boxes = _collection([_box(e.rank, (e.start, e.end), sides(e)) for e in drawn], label=kind)
        roomy = sum(e.end - e.start for e in drawn) / len(drawn) * scale >= ROOMY
        outlined = roomy or kind in MESSAGES  # a message is narrow: its outline shows it
        boxes.set(hatch=style.hatch if roomy and style.hatch else None)
        boxes.set_snap(None if outlined else False)  # whole pixels would swallow every other box
        inside = [fills[e] for e in drawn]
        outside = [outline(colour) for colour in inside] if outlined else inside
        boxes.set(facecolor=_rgba(inside), edgecolor=_rgba(outside))
        boxes.set(linewidth=0.7 if outlined else 0.3, zorder=3)
        ax.add_collection(boxes)


def _collection(boxes: Sequence[_Box], **style: Any) -> PolyCollection:
    """Boxes as one artist: from one array, which matplotlib takes far faster than single ones."""
    return PolyCollection(np.array(boxes), **style)  # type: ignore[arg-type]  # its stubs want lists


def _rgba(colours: Sequence[str]) -> NDArray[np.float64]:
    """(colours, 4): each of the few colours is looked up once."""
    places = {colour: place for place, colour in enumerate(dict.fromkeys(colours))}
    found: NDArray[np.float64] = to_rgba_array(list(places))[[places[c] for c in colours]]
    return found


def _box(rank: int, times: tuple[float, float], sides: Sequence[float]) -> _Box:
    (start, end), (top, bottom) = times, sides
    return [(start, rank + top), (start, rank + bottom), (end, rank + bottom), (end, rank + top)]


def _draw_labels(
    ax: Axes,
    trace: Trace,
    fills: dict[Event, str],
    sides: Callable[[Event], tuple[float, float]],
    size: tuple[float, float],
) -> None:
    """Letter and microbatch in one line, else in two, else the number alone, else nothing.

    Most boxes have room for the look of all, so that boxes of one picture look alike.
    """
    left, right = ax.get_xlim()
    named = [e for e in trace.events if STYLES[e.kind].letter and e.microbatch is not None]
    last = max((e.microbatch or 0 for e in named), default=0)
    widest = int("8" * len(str(last)))  # or labels would end at microbatch 9

    def fits(e: Event, look: _Look) -> bool:
        lines = look.lines(e if e.microbatch is None else e._replace(microbatch=widest))
        top, bottom = sides(e)
        tall = (bottom - top) * size[1] / trace.num_ranks
        room = (e.end - e.start) / (right - left) * size[0] - BESIDE
        wide = room >= 5 and max(text_width(line, look.size) for line in lines) <= room
        return wide and len(lines) * look.size * 1.15 <= tall

    def share(look: _Look) -> float:
        return sum(fits(e, look) for e in named) / max(1, len(named))

    look = next((look for look in _LOOKS if share(look) >= _MOST), _LOOKS[-1])
    for e in trace.events:
        if STYLES[e.kind].letter and fits(e, look):
            middle = e.rank + sum(sides(e)) / 2
            text = "\n".join(look.lines(e))
            label = ax.text((e.start + e.end) / 2, middle, text, fontsize=look.size)
            label.set(ha="center", va="center", linespacing=0.95, color=text_on(fills[e]))
            label.set(zorder=4, clip_on=True, gid=INSIDE)
            if STYLES[e.kind].hatch:  # keep the hatch from crossing the letters
                label.set_path_effects([withStroke(linewidth=3, foreground=fills[e])])


def _draw_line(ax: Axes, line: tuple[float, str] | None) -> None:
    """A dotted line at a time, if any; its words at the right, above, where no box is."""
    if line is None:
        return
    seconds, words = line
    dots = ax.axvline(seconds, color=BLACK, linewidth=2, linestyle=(0, (1, 2)), zorder=5)
    dots.set_path_effects([withStroke(linewidth=5, foreground="white")])
    place = ScaledTranslation(0, 24 / POINTS, ax.figure.dpi_scale_trans)
    label = ax.text(1, 1, f"┊ {words}", transform=ax.transAxes + place, fontsize=NORMAL)
    label.set(ha="right", weight="bold", parse_math=False)


def _draw_frame(ax: Axes, trace: Trace, band: _Band, row: float) -> None:
    """Names at the left, idle per cent at the right, time below; ``row``: points per rank."""
    every = math.ceil(13 / row)  # many ranks: name only some
    middle = (band.top + band.bottom) / 2
    idle = idle_shares(trace)
    named, story = range(0, trace.num_ranks, every), trace.setting.story
    ax.set_yticks(
        [rank + middle for rank in named], [reworded(f"rank {rank}", story) for rank in named]
    )
    for rank in named:
        text = f"{percent(idle[rank])} idle"
        at = ax.get_yaxis_transform()
        ax.text(1.01, rank + middle, text, transform=at, va="center_baseline", fontsize=NORMAL)
    factor, unit = axis_unit(max(abs(x) for x in ax.get_xlim()), story)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * factor + 0.0:.6g} {unit}"))
    ax.tick_params(axis="both", labelsize=NORMAL)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "left", "right"]].set_visible(False)

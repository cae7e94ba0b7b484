"""What each rank holds over time: one row per rank, its parts in layers, the peak marked.

            ┈┈┈┈┈┈┈┈┈▼┈┈┈┈┈┈┈┈┈┈┈┈   budget        ▼: the rank's peak, red where it is over budget
    rank 0       ▄▄▄██▄▄▄             4.2 MB        layers: parameters at the bottom, then
            ▄▄▄▄█████████▄▄▄▄                       gradients, optimizer, activations, buffers

All rows have one scale. Without bytes, as in a bare prediction, activations are counted.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelab.accounting import Part
from pipelab.plots.figure import ROW, TALLEST
from pipelab.plots.palette import (
    BLACK,
    BLUE,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    VERMILLION,
    Style,
    edge,
)
from pipelab.plots.picture import (
    ABOVE,
    LEFT,
    NORMAL,
    POINTS,
    RIGHT,
    SMALL,
    Notes,
    Picture,
    entry,
    notes,
    sizes,
    write_texts,
)
from pipelab.plots.terminal import source_text, span
from pipelab.schedules.catalogue import title_of
from pipelab.trace import Trace
from pipelab.trace.memory import Held, MemoryPoint, held_over_time
from pipelab.words import bytes_text, time_text, time_unit

_BASE, _ROOM = 0.42, 0.8  # of a row: its ground below the rank's own line, and its height
_NAMED = 8  # ranks over budget that the text names
_DASHES, _LINE = (0, (4, 2)), 1.2  # of the budget: on, off; width in points
_PEAK: dict[str, Any] = {"marker": "v", "color": BLACK, "markersize": 6, "markeredgecolor": "white"}
_LAYERS = {
    "parameters": Style(PALE, Part.PARAMETERS, ""),
    "gradients": Style(ORANGE, Part.GRADIENTS, "//"),
    "optimizer": Style(PURPLE, Part.OPTIMIZER, "xx"),
    "activations": Style(BLUE, Part.ACTIVATIONS, ""),
    "buffers": Style(SKY, "message buffers", "..."),
}


class _Scale(NamedTuple):
    """From what is held to the height in a rank's row; ``start`` and ``end`` in seconds."""

    top: float
    start: float
    end: float

    def at(self, rank: int, held: float) -> float:
        """The height of an amount in the row of a rank."""
        return rank + _BASE - _ROOM * held / self.top


def plot_memory(
    trace: Trace,
    title: str | None = None,
    *,
    budget: int | None = None,
    ax: Axes | None = None,
    width: float = 10.0,
    until: float | None = None,
) -> Figure:
    """What each rank holds over time, as a new figure or drawn into ``ax``. Never uses pyplot.

    Bytes where the trace knows any; else the number of activations kept for backwards.

    Args:
        trace: predicted or recorded.
        title: instead of the schedule and its sizes.
        budget: bytes that a rank may hold (or activations, where these are counted): a line.
        ax: room to draw in, in place of a new figure.
        width: inches of a new figure.
        until: seconds; the time axis extends to there, so that pictures can be compared.

    Raises:
        ValueError: a budget that is not above 0.
    """
    if budget is not None and not budget > 0:
        raise ValueError(f"budget is {budget}: bytes that a rank may hold, above 0")
    held = held_over_time(trace)
    below = _notes(held, budget, trace, (width - LEFT) * POINTS)
    ax = ax or _new_axes(trace, width, below)
    start, end = span(trace.events)
    scale = _Scale(_top(held, budget), start, max(end, until or end))
    for rank, curve in enumerate(held.curves):
        _draw_layers(ax, rank, curve, scale)
    _draw_budget(ax, trace.num_ranks, budget, scale)
    _draw_peaks(ax, held, budget, scale)
    _draw_frame(ax, trace.num_ranks, scale)
    words = describe_memory(held, budget)
    heading = (
        f"memory of {title_of(trace.setting.schedule)} · {sizes(trace)}" if title is None else title
    )
    write_texts(ax, heading, words, below)
    figure = ax.get_figure()
    assert figure is not None
    figure = figure if isinstance(figure, Figure) else figure.figure
    if isinstance(figure, Picture):
        figure.alt = f"Memory of each rank over time; {words}. {_by_rank(held)}"
    return figure


def describe_memory(held: Held, budget: int | None) -> str:
    """Who holds most, when, and who is over the budget."""
    peaks = held.peaks
    rank = max(range(len(peaks)), key=lambda rank: peaks[rank].total)
    most = peaks[rank]
    text = f"most: rank {rank}, {_amount(held, most.total)} at {time_text(most.time)}"
    if budget is None:
        return text
    over = [rank for rank, peak in enumerate(peaks) if peak.total > budget]
    noun = "rank" if len(over) == 1 else "ranks"
    names = f"{noun} {', '.join(map(str, over))}" if len(over) <= _NAMED else f"{len(over)} {noun}"
    text += f"; budget {_amount(held, budget)}, "
    return text + (f"exceeded by {names}" if over else "kept by every rank")


def _by_rank(held: Held) -> str:
    peaks = (f"rank {rank} {_amount(held, p.total)}" for rank, p in enumerate(held.peaks))
    return f"Peaks: {', '.join(peaks)}."


def _amount(held: Held, amount: int) -> str:
    return bytes_text(amount) if held.unit == "bytes" else f"{amount} kept"


def _top(held: Held, budget: int | None) -> float:
    return max(1.0, budget or 0, *(peak.total for peak in held.peaks))


def _notes(held: Held, budget: int | None, trace: Trace, room: float) -> Notes:
    """The layers that occur, the marks, and the source line."""
    shown: list[Artist] = [
        entry(style.letter, style.colour, style.hatch)
        for name, style in _LAYERS.items()
        if any(getattr(point, name) for curve in held.curves for point in curve)
    ]
    marks = [Line2D([], [], linestyle="none", label="peak of a rank", **_PEAK)]
    if budget is not None:
        words = f"budget, {_amount(held, budget)}"
        marks.append(Line2D([], [], color=BLACK, linestyle=_DASHES, linewidth=_LINE, label=words))
    return notes([shown, marks], source_text(trace), room)


def _new_axes(trace: Trace, width: float, below: Notes) -> Axes:
    rows = min(ROW * trace.num_ranks, TALLEST)
    foot = below.height / POINTS
    height = ABOVE + rows + foot
    figure = Picture(figsize=(width, height), dpi=144)
    return figure.add_axes((LEFT / width, foot / height, 1 - (LEFT + RIGHT) / width, rows / height))


def _draw_layers(ax: Axes, rank: int, curve: Sequence[MemoryPoint], scale: _Scale) -> None:
    """One polygon for each layer of a rank, on top of those below it."""
    tops = [[0, *accumulate(point[1:])] for point in curve]
    times = [scale.start, *(point.time for point in curve[1:]), scale.end]
    for layer, (name, style) in enumerate(_LAYERS.items()):
        if not any(getattr(point, name) for point in curve):
            continue
        lower, upper = ([row[layer + k] for row in tops] for k in (0, 1))
        outline = [*_steps(times, upper), *reversed([*_steps(times, lower)])]
        corners = [(time, scale.at(rank, held)) for time, held in outline]
        shape = PolyCollection([corners], label=name, facecolor=style.colour)  # type: ignore[arg-type, unused-ignore]
        shape.set(edgecolor=edge(style.colour), linewidth=0.4, hatch=style.hatch or None, zorder=2)
        ax.add_collection(shape)


def _steps(times: Sequence[float], held: Sequence[int]) -> Iterator[tuple[float, int]]:
    """The two corners of each stretch of time in which nothing changes."""
    for (start, end), amount in zip(pairwise(times), held, strict=True):
        yield start, amount
        yield end, amount


def _draw_budget(ax: Axes, ranks: int, budget: int | None, scale: _Scale) -> None:
    if budget is not None:
        heights = [scale.at(rank, budget) for rank in range(ranks)]
        style = {"colors": BLACK, "linestyles": _DASHES, "linewidth": _LINE, "zorder": 4}
        ax.hlines(heights, scale.start, scale.end, label="budget", **style)  # type: ignore[arg-type]


def _draw_peaks(ax: Axes, held: Held, budget: int | None, scale: _Scale) -> None:
    """A mark above each rank's peak, and its amount at the right."""
    every, row = _every(ax, len(held.curves)), _height(ax) / len(held.curves)
    for rank, peak in enumerate(held.peaks):
        is_over = budget is not None and peak.total > budget
        colour = VERMILLION if is_over else BLACK
        time = min(max(peak.time, scale.start), scale.end)
        mark = Line2D([time], [scale.at(rank, peak.total)], **{**_PEAK, "color": colour})
        mark.set(label="peak", zorder=5, clip_on=False)
        ax.add_line(mark)
        if rank % every == 0:
            words = "\n> budget" if is_over and row > 2.4 * SMALL else ""
            text = _amount(held, peak.total) + words
            label = ax.text(1.01, rank, text, transform=ax.get_yaxis_transform(), fontsize=SMALL)
            label.set(va="center_baseline", weight="bold" if is_over else "normal")


def _every(ax: Axes, ranks: int) -> int:
    """Of many ranks only each so-many-th is named."""
    return max(1, math.ceil(13 * ranks / _height(ax)))


def _height(ax: Axes) -> float:
    """Of all rows, in points."""
    figure = ax.get_figure()
    assert figure is not None
    return ax.get_window_extent().height / figure.dpi * POINTS


def _draw_frame(ax: Axes, ranks: int, scale: _Scale) -> None:
    """Names at the left, time below."""
    air = (scale.end - scale.start) * 0.004
    ax.set(xlim=(scale.start - air, scale.end + air), ylim=(ranks - 0.5, -0.5))
    named = range(0, ranks, _every(ax, ranks))
    ax.set_yticks(named, [f"rank {rank}" for rank in named])
    factor, unit = time_unit(max(abs(x) for x in ax.get_xlim()))
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * factor + 0.0:.6g} {unit}"))
    ax.tick_params(axis="both", labelsize=NORMAL)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "left", "right"]].set_visible(False)

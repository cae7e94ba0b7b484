"""What every picture has: its size and alternative text, title, legend and source line."""

import base64
import re
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.transforms import ScaledTranslation, Transform

from pipelab.action import MESSAGES, Kind
from pipelab.plots.any_theme import png_of
from pipelab.plots.palette import (
    BLUE,
    QUIET,
    STYLES,
    edge,
    idle_legend,
    idle_shade,
    legend_text,
    shade,
)
from pipelab.plots.terminal import bubble_text, source_text
from pipelab.schedules.catalogue import title_of
from pipelab.story import reworded
from pipelab.trace import Trace
from pipelab.trace.metrics import stages_of
from pipelab.words import number, table_text

POINTS = 72  # per inch
LEFT, RIGHT, ABOVE = 0.8, 1.0, 0.66  # inches around the axes, for names, per cents and titles
TICKS, LEGEND_ROW, SOURCE_ROW = 26, 15, 13  # points below the axes
_TIE = "\N{NO-BREAK SPACE}"
SMALL, NORMAL, LARGE = 10.0, 11.0, 14.0  # font sizes; a projector wants 10 at least


class Picture(Figure):
    """A figure that notebooks show by itself, without pyplot, and that says what it shows."""

    alt = ""

    def _repr_png_(self) -> bytes:
        return png_of(self)

    def __repr__(self) -> str:
        return self.alt or super().__repr__()


class TablePicture(Picture):
    """A figure that a notebook shows with its words and with a table of the same."""

    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._repr_png_()).decode("ascii")
        heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in self.heads)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}" '
            f'style="max-width: 100%"><details><summary>The same as a table</summary><table>'
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></details>"
        )

    def __repr__(self) -> str:
        return table_text([self.heads, *self.rows])


class Notes(NamedTuple):
    """What is below the axes: the legend's rows, all of one length, and the source line."""

    legend: list[list[Artist]]
    source: list[str]

    @property
    def height(self) -> float:
        """Points, ticks included."""
        return TICKS + len(self.legend) * LEGEND_ROW + len(self.source) * SOURCE_ROW + 12


def notes_of(trace: Trace, reasons: Iterable[str], room: float) -> Notes:
    """Legend of what occurs, and the source line, broken so that they fit into ``room`` points.

    ``reasons``: of idle time, those to name.
    """
    present = {e.kind for e in trace.events} - {Kind.WAIT}  # it is drawn as idle time
    shown = {k: entry(legend_text(k), s.colour, s.hatch) for k, s in STYLES.items() if k in present}
    actions = [patch for kind, patch in shown.items() if kind not in MESSAGES]
    if any(len(stages) > 1 for stages in stages_of(trace.events).values()):
        actions.append(entry("lighter: a later stage of the rank", shade(BLUE, 1, 2)))
    messages = [patch for kind, patch in shown.items() if kind in MESSAGES]
    story = trace.setting.story
    idle = [
        entry(reworded(words, story), idle_shade(alike[0]))
        for words, alike in idle_legend({*reasons}).items()
    ]
    return notes([actions, messages, idle], source_text(trace), room)


def notes(groups: Sequence[Sequence[Artist]], line: str, room: float) -> Notes:
    """Groups of legend entries and a source line, broken so that they fit into ``room`` points."""
    columns = max(1, *map(len, groups))
    while columns > 1 and _legend_width(_rows(groups, columns)) > room:
        columns -= 1
    letters = int(room / text_width(line, SMALL) * len(line))
    tied = re.sub(r"(?<=\d) ", _TIE, line)  # no line ends within "2 cores"
    wrapped = (row.replace(_TIE, " ") for row in textwrap.wrap(tied, max(letters, 20)))
    return Notes(_rows(groups, columns), [*wrapped])


def entry(words: str, colour: str, hatch: str = "") -> Patch:
    """One entry of a legend."""
    return Patch(facecolor=colour, edgecolor=edge(colour), hatch=hatch or None, label=words)


def _rows(groups: Sequence[Sequence[Artist]], columns: int) -> list[list[Artist]]:
    """Each group in separate rows, filled with empty entries."""
    rows = [[*g[i : i + columns]] for g in groups for i in range(0, len(g), columns)]
    return [row + [Patch(alpha=0, label="") for _ in range(columns - len(row))] for row in rows]


def _legend_width(rows: list[list[Artist]]) -> float:
    labels = ([str(entry.get_label()) for entry in column] for column in zip(*rows, strict=True))
    return sum(max(text_width(text, SMALL) for text in column) + 3.7 * SMALL for column in labels)


def write_around(ax: Axes, trace: Trace, title: str | None, notes: Notes) -> None:
    """Title and bubble above, legend and source below, at fixed distances from the axes."""
    story = trace.setting.story
    if title is None:
        title = sizes(trace) if story else f"{title_of(trace.setting.schedule)} · {sizes(trace)}"
    write_texts(ax, title, bubble_text(trace), notes)


def sizes(trace: Trace) -> str:
    """How many ranks, microbatches, slices and steps, in words."""
    s = trace.setting
    words = f"{number(s.ranks, 'rank')} · {number(s.microbatches, 'microbatch')}"
    words += f" of {s.slices} slices" if s.slices > 1 else ""
    words += f" · {number(s.steps, 'step')}" if s.steps > 1 else ""
    return reworded(words, s.story) if s.story else words


def write_texts(ax: Axes, heading: str, result: str, notes: Notes) -> None:
    """A heading and its result above, legend and source below, at fixed distances."""

    def from_corner(down: float) -> Transform:
        figure = ax.get_figure()
        assert figure is not None
        return ax.transAxes + ScaledTranslation(0, -down / POINTS, figure.dpi_scale_trans)

    ax.text(
        0, 1, heading, transform=from_corner(-24), fontsize=LARGE, weight="bold", parse_math=False
    )
    ax.text(0, 1, result, transform=from_corner(-7), fontsize=NORMAL)
    by_column = [entry for column in zip(*notes.legend, strict=True) for entry in column]
    if by_column:
        ax.legend(
            handles=by_column, ncols=len(notes.legend[0]), fontsize=SMALL, frameon=False,
            loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=from_corner(TICKS),
            borderaxespad=0, borderpad=0, handlelength=1.8, handletextpad=0.5, columnspacing=1.3,
            labelspacing=0.4,
        )  # fmt: skip
    below = from_corner(TICKS + len(notes.legend) * LEGEND_ROW + 5)
    text = "\n".join(notes.source)
    ax.text(0, 0, text, transform=below, va="top", fontsize=SMALL, color=QUIET, parse_math=False)


@cache
def text_width(text: str, points: float) -> float:
    """How wide a text is, in points; TextPath knows, without drawing."""
    if not text:  # TextPath fails on an empty text
        return 0.0
    text = text.replace("$", r"\$")  # a dollar sign in a name starts no formula
    return float(TextPath((0, 0), text, prop=FontProperties(size=points)).get_extents().width)

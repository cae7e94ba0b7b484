"""A trace in letters and words: for terminals, tables and screen readers. Without matplotlib.

rank 0 F0─F1─······B0════F2─B1════···B2════  25 % idle
rank 1 ···F0─B0════F1─B1════F2─B2════······  25 % idle
       └0             └5             └10 s
"""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, Kind
from pipelab.overlapping import overlapping_pairs
from pipelab.plots.palette import STYLES, legend_text
from pipelab.schedules.catalogue import paper_bubble, title_of
from pipelab.story import STORIES, reworded
from pipelab.trace import Event, Trace
from pipelab.trace.metrics import busy
from pipelab.words import bytes_text, number, percent, time_text, time_unit

NARROWEST = 40  # columns; below, a row is more name than timeline
_FILL = {Kind.F: "─", Kind.B: "═", Kind.I: "═", Kind.W: "━", Kind.STEP: "S", Kind.REDUCE_GRAD: "R"}
_IDLE = "·"
HEADS = ["rank", "busy", "idle", "idle share", "forwards", "backwards"]
_TIED = "\N{NO-BREAK SPACE}"


class Row(NamedTuple):
    """What one rank did in all. ``backwards`` counts whole ones: each B, or each W after its I."""

    rank: int
    busy_ms: float
    idle_ms: float
    idle_percent: float
    forwards: int
    backwards: int
    peak_activation_bytes: int

    @property
    def cells(self) -> list[str]:
        """The row of a table below ``HEADS``, without the rank and the bytes."""
        return [
            time_text(self.busy_ms / 1e3),
            time_text(self.idle_ms / 1e3),
            percent(self.idle_percent / 100),
            str(self.forwards),
            str(self.backwards),
        ]


def timeline_text(trace: Trace, width: int = 100, unit: str = "") -> str:
    """The timeline as text: one row per rank, then the time axis, a legend and the source.

    A disturbed run says so first. A box that is too narrow for letter and microbatch shows its
    letter alone, and one narrower than half a column nothing. Rows are exactly ``width`` columns
    (40 or more), all other lines at most that. Where times are no seconds, ``unit`` names what they
    count.
    """
    width = max(width, NARROWEST)
    digits = len(str(trace.num_ranks - 1))
    rank_name = reworded("rank", trace.setting.story)
    names = [f"{rank_name} {rank:>{digits}} " for rank in range(trace.num_ranks)]
    tails = [f" {percent(share):>5} idle" for share in idle_shares(trace)]
    columns = width - len(names[0]) - len(tails[0])
    scale = _Scale(*span(trace.events), columns)
    rows: list[list[Event]] = [[] for _ in names]
    for event in trace.events:
        rows[event.rank].append(event)
    calm = _calm(trace, scale)
    indent = " " * len(names[0])
    lines = [
        *_wrapped(trace.warning, width, ""),
        *(n + _cells(row, scale, calm) + t for n, row, t in zip(names, rows, tails, strict=True)),
        indent + _axis(scale, columns + len(tails[0]), unit, trace.setting.story),
        *_wrapped(_legend(trace), width, indent),
        *_wrapped(source_text(trace), width, indent),
    ]
    return "\n".join(lines)


def describe(trace: Trace) -> str:
    """What the picture shows, in sentences: its alternative text."""
    s = trace.setting
    sizes = f"{number(s.ranks, 'rank')}, {number(s.microbatches, 'microbatch')}"
    idle = ", ".join(f"rank {r} {percent(share)}" for r, share in enumerate(idle_shares(trace)))
    first = f"{trace.warning} {trace.source.capitalize()}".lstrip()
    if s.story:
        took = f"{sizes}, {time_text(trace.duration)} in all. Idle: {idle}."
        return reworded(f"{first} timeline: {took}", s.story)
    return (
        f"{first} timeline of the schedule {title_of(s.schedule)}: {sizes}, "
        f"{time_text(trace.duration)} from the first start to the last end. "
        f"Idle: {idle}. B{bubble_text(trace)[1:]}."
    )


def source_text(trace: Trace) -> str:
    """``trace.source_line`` with the schedule's name for people, as titles and menus have it.

    >>> from pipelab.trace import Setting
    >>> source_text(Trace((), "recorded", Setting("gpipe", 2, 4, cpus=2)))
    'recorded · GPipe · 2 ranks · 4 microbatches · gloo/cpu · unpaced · 2 cores'
    """
    setting = replace(trace.setting, schedule=title_of(trace.setting.schedule))
    return replace(trace, setting=setting).source_line


def bubble_text(trace: Trace) -> str:
    """The bubble fraction of this trace and, where there is a formula, what it says.

    That of a disturbed run is not called measured: it is the machine's as well.

    In a story, which does not know of bubbles, how long it took.
    """
    if trace.setting.story:
        return reworded(f"{time_text(trace.duration)} in all", trace.setting.story)
    seen = "measured" if trace.source == "recorded" else "predicted"
    seen = "with this machine's delays" if trace.warning else seen
    text = f"bubble fraction {percent(trace.bubble_fraction, 1)} {seen}"
    setting = trace.setting
    p = setting.ranks // setting.replicas
    formula = paper_bubble(setting.schedule, p, setting.microbatches)
    if formula is not None:
        text += f", {percent(formula[1], 1)} by {formula[0]}"
    return text


def table(trace: Trace) -> list[Row]:
    """The picture's twin in numbers: one row per rank."""
    whole = trace.duration
    count = Counter((e.rank, e.kind) for e in trace.events)
    seconds, peaks = busy(trace.events, trace.num_ranks), trace.peak_activation_bytes
    return [
        Row(
            rank,
            busy_ms=seconds[rank] * 1e3,
            idle_ms=(whole - seconds[rank]) * 1e3,
            idle_percent=100 * share,
            forwards=count[rank, Kind.F],
            backwards=count[rank, Kind.B] + count[rank, Kind.W],
            peak_activation_bytes=peaks[rank],
        )
        for rank, share in enumerate(idle_shares(trace))
    ]


def table_html(trace: Trace) -> str:
    """The same table for a notebook, with headers that a screen reader can follow."""
    body = ""
    story = trace.setting.story
    heads = [*HEADS, "peak activations"]
    if story:  # which has no backwards, and no bytes
        heads = heads[: HEADS.index("backwards")]
    for row in table(trace):
        cells = [*row.cells, bytes_text(row.peak_activation_bytes)][: len(heads) - 1]
        body += f'<tr><th scope="row">{row.rank}</th>{_elements("td", cells)}</tr>'
    head = _elements('th scope="col"', heads)
    caption = f"<caption>{escape(source_text(trace))}</caption>"
    text = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return reworded(text, story)


def _elements(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{text}</{tag.split()[0]}>" for text in texts)


def idle_shares(trace: Trace) -> tuple[float, ...]:
    """For each rank, 1 - utilisation; 0 where nothing lasted, as in the bubble fraction."""
    return tuple(1 - share if trace.duration else 0.0 for share in trace.utilisation)


def span(events: Iterable[Event]) -> tuple[float, float]:
    """First start and last end of all events; never the same, so that a scale can rest on it."""
    events = list(events)
    first = min((e.start for e in events), default=0.0)
    last = max((e.end for e in events), default=0.0)
    return first, last if last > first else first + 1e-6


class _Scale(NamedTuple):
    """From seconds to columns."""

    start: float
    end: float
    columns: int

    def at(self, time: float) -> int:
        """The column whose left edge is nearest."""
        return math.floor((time - self.start) / (self.end - self.start) * self.columns + 0.5)


def _calm(trace: Trace, scale: _Scale) -> list[str]:
    """A row without boxes: idle while any rank computes, blank before and after."""
    computing = [e for e in trace.events if e.kind in COMPUTE]
    first, last = (scale.at(t) for t in span(computing)) if computing else (0, 0)
    return [_IDLE if first <= column < last else " " for column in range(scale.columns)]


def _cells(row: list[Event], scale: _Scale, calm: list[str]) -> str:
    """One rank's columns: its boxes over a calm row."""
    cells = calm[:]
    many = len({e.stage for e in row}) > 1
    second = dict(overlapping_pairs(row))
    drawn = {*row} - {*second.values()}  # one box for two that overlap
    for event in (e for e in row if e.kind in _FILL and e in drawn):
        a, b = scale.at(event.start), scale.at(event.end)
        if a == b and event.kind in PER_STAGE and a < len(cells) and cells[a] in (_IDLE, " "):
            b += 1  # a step is short but not to be missed
        cells[a:b] = _box(event, b - a, many, second.get(event))
    return "".join(cells)


def _box(event: Event, columns: int, many: bool, beside: Event | None = None) -> str:
    """The longest label that fits, and the kind's own line to the end of the box.

    ``beside`` overlaps with it: the two share the box, as ``0F3+7B1``.
    """
    fill = _FILL[(beside or event).kind]
    labels = [_labels(e, many) for e in (event, beside) if e]
    joined = ["+".join(pair) for pair in zip(*labels, strict=True)]
    joined += ["".join(pair) for pair in zip(*labels, strict=True)] * (beside is not None)
    fitting = (label for label in [*joined, ""] if len(label) <= columns)
    return next(fitting).ljust(columns, fill)


def _labels(event: Event, many: bool) -> tuple[str, str, str]:
    """From the longest to the letter alone."""
    letter = STYLES[event.kind].letter
    short = letter if event.microbatch is None else f"{letter}{event.microbatch}"
    return f"{event.stage}{short}" if many else short, short, letter


def axis_unit(longest: float, story: str) -> tuple[float, str]:
    """The unit of a time axis up to ``longest`` seconds, and how many of it are one second."""
    if story:
        return 1 / STORIES[story].seconds, STORIES[story].unit
    return time_unit(longest)


def _axis(scale: _Scale, room: int, unit: str, story: str) -> str:
    """Round times under the columns where they fall, the unit after the last one."""
    auto = axis_unit(max(abs(scale.start), abs(scale.end)), story)
    factor, unit = (1.0, unit) if unit else auto
    rough = (scale.end - scale.start) * factor * 9 / scale.columns  # one in 9 columns at most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    line = ""
    k = math.ceil(scale.start * factor / step - 1e-9)
    while (column := scale.at(k * step / factor)) <= scale.columns:
        label = f"└{k * step:.6g}"
        if column + len(label) + len(unit) >= room:
            break
        line = line.ljust(column) + label
        k += 1
    return f"{line} {unit}"


def _legend(trace: Trace) -> str:
    present = {e.kind for e in trace.events}
    words = [legend_text(kind) for kind in STYLES if kind in present and kind in _FILL]
    words += ["F+B both at the same time"] * bool(overlapping_pairs(trace.events))
    words += [f"{_IDLE} idle"] * (trace.bubble_fraction > 1e-9)
    return "   ".join(text.replace(" ", _TIED) for text in words)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    return [line.replace(_TIED, " ") for line in lines]

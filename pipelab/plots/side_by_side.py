"""Two traces on one time axis: predicted over recorded, one run over another.

predicted   │F0│F1│░░░░░│ B0 │ B1 │              the same second at the same place, so that
recorded    │F0│F1│░░░░░░░│ B0 │ B1 │            what is late is seen at once
duration 330 ms, then 344 ms: +4.2 %
"""

import textwrap

from matplotlib.figure import Figure

from pipelab.plots.figure import ROW, TALLEST, plot_timeline
from pipelab.plots.picture import (
    ABOVE,
    LEFT,
    NORMAL,
    POINTS,
    RIGHT,
    Picture,
    notes_of,
    sizes,
    text_width,
)
from pipelab.plots.terminal import describe, span
from pipelab.schedules.catalogue import title_of
from pipelab.trace import Trace, compare
from pipelab.trace.differences import Comparison, Pair, starting_with
from pipelab.trace.idle import seen_reasons
from pipelab.trace.picture_rows import drawn_idle
from pipelab.words import change, percent, points, time_text

_TORCHS = "torch.distributed.pipelining"  # how the backend of its traces begins
_BOLD = 1.2  # a bold text is at most so many times as wide
_FIXED = "\N{NO-BREAK SPACE}"
_NUMBERS = 0.35  # inches, for a line of numbers at the foot


def plot_compare(a: Trace, b: Trace, *, width: float = 10.0) -> Figure:
    """Trace ``a`` above trace ``b``, on one time axis, and how they differ in numbers.

    Both begin at the left, whenever they began. Their schedules, ranks, microbatches and steps may
    be others; seconds per microbatch are given where their numbers of microbatches differ.

    Args:
        a: a prediction, or the run to compare with.
        b: a recording, or another run.
        width: inches.
    """
    b = starting_with(b, a)
    numbers = _in_words(compare(a, b))
    room = (width - LEFT) * POINTS
    rows = [min(ROW * trace.num_ranks, TALLEST / 2) for trace in (a, b)]
    reasons = [seen_reasons(trace, drawn_idle(trace)) for trace in (a, b)]
    notes = [notes_of(*item, room) for item in zip((a, b), reasons, strict=True)]
    below = [note.height / POINTS for note in notes]
    widest = _BOLD * text_width(numbers, NORMAL)
    lines = _wrapped(numbers, int(room / widest * len(numbers)))
    whole = 2 * ABOVE + sum(rows) + sum(below) + _NUMBERS * len(lines)
    figure = Picture(figsize=(width, whole), dpi=144)
    figure.alt = f"Two timelines. {describe(a)} {describe(b)} {numbers}"
    until = max(span(a.events)[1], span(b.events)[1])
    top = whole
    for trace, title, row, foot in zip((a, b), _titles(a, b), rows, below, strict=True):
        top -= ABOVE + row
        box = (LEFT / width, top / whole, 1 - (LEFT + RIGHT) / width, row / whole)
        plot_timeline(trace, title, ax=figure.add_axes(box), until=until)
        top -= foot
    place = LEFT / width, 0.12 / whole
    figure.text(*place, "\n".join(lines), fontsize=NORMAL, weight="bold", va="bottom")
    return figure


def _titles(a: Trace, b: Trace) -> list[str]:
    """What each half is, and where both were recorded, by which engine, if that differs."""
    by = ["", ""]
    is_torchs = [_TORCHS in trace.setting.backend for trace in (a, b)]
    if a.source == b.source == "recorded" and is_torchs[0] != is_torchs[1]:
        by = [f" by {_TORCHS if torchs else 'pipelab'}" for torchs in is_torchs]
    names = [
        f"{t.source}{who}: {title_of(t.setting.schedule)}"
        for t, who in zip((a, b), by, strict=True)
    ]
    if sizes(a) == sizes(b):
        return names
    return [f"{name} · {sizes(trace)}" for name, trace in zip(names, (a, b), strict=True)]


def _in_words(found: Comparison) -> str:
    """What changes from a to b."""
    whole, bubble = found.duration, found.bubble_fraction
    parts = [_change("duration", whole)]
    if found.microbatches.difference:
        parts.append(_change("per microbatch", found.seconds_per_microbatch))
    parts.append(
        f"bubble {percent(bubble.a, 1)} → {percent(bubble.b, 1)} ({points(bubble.difference)})"
    )
    return "; ".join(parts)


def _wrapped(numbers: str, letters: int) -> list[str]:
    """In lines of so many letters, which break between two of the numbers."""
    whole = "; ".join(part.replace(" ", _FIXED) for part in numbers.split("; "))
    return [line.replace(_FIXED, " ") for line in textwrap.wrap(whole, letters)]


def _change(name: str, seconds: Pair) -> str:
    longer = "" if seconds.ratio is None else f" ({change(seconds.ratio)})"
    return f"{name} {time_text(seconds.a)} → {time_text(seconds.b)}{longer}"

"""Two traces on one time axis: predicted over recorded, one run over another.

predicted   │F0│F1│░░░░░│ B0 │ B1 │              the same second at the same place, so that
recorded    │F0│F1│░░░░░░░│ B0 │ B1 │            what is late is seen at once
duration 330 ms, then 344 ms: +4.2 %
"""

from matplotlib.figure import Figure

from pipelab.plots.figure import ROW, TALLEST, plot_timeline
from pipelab.plots.picture import ABOVE, LEFT, NORMAL, POINTS, RIGHT, Picture, notes_of
from pipelab.plots.terminal import describe, span
from pipelab.trace import Trace, compare
from pipelab.trace.differences import Comparison
from pipelab.words import change, percent, points, time_text

_TORCHS = "torch.distributed.pipelining"  # how the backend of its traces begins
_NUMBERS = 0.35  # inches, for the line of numbers at the foot


def plot_compare(a: Trace, b: Trace, *, width: float = 10.0) -> Figure:
    """Trace ``a`` above trace ``b``, on one time axis, and how they differ in numbers.

    Args:
        a: a prediction, or the run to compare with.
        b: a recording, or another run.
        width: inches.

    Raises:
        TraceError: the traces have different numbers of ranks.
    """
    numbers = _in_words(compare(a, b))
    room = (width - LEFT) * POINTS
    rows = min(ROW * a.num_ranks, TALLEST / 2)
    heights = [ABOVE + rows + notes_of(trace, room).height / POINTS for trace in (a, b)]
    whole = sum(heights) + _NUMBERS
    figure = Picture(figsize=(width, whole), dpi=144)
    figure.alt = f"Two timelines. {describe(a)} {describe(b)} {numbers}"
    until = max(span(a.events)[1], span(b.events)[1])
    top = whole
    for trace, title, height in zip((a, b), _titles(a, b), heights, strict=True):
        bottom = (top - ABOVE - rows) / whole
        ax = figure.add_axes((LEFT / width, bottom, 1 - (LEFT + RIGHT) / width, rows / whole))
        plot_timeline(trace, title, ax=ax, until=until)
        top -= height
    figure.text(LEFT / width, 0.12 / whole, numbers, fontsize=NORMAL, weight="bold")
    return figure


def _titles(a: Trace, b: Trace) -> list[str]:
    """What each half is, and where both were recorded, by which engine, if that differs."""
    by = ["", ""]
    is_torchs = [_TORCHS in trace.setting.backend for trace in (a, b)]
    if a.source == b.source == "recorded" and is_torchs[0] != is_torchs[1]:
        by = [f" by {_TORCHS if torchs else 'pipelab'}" for torchs in is_torchs]
    return [f"{t.source}{who}: {t.setting.schedule}" for t, who in zip((a, b), by, strict=True)]


def _in_words(found: Comparison) -> str:
    """What changes from a to b."""
    whole, bubble = found.duration, found.bubble_fraction
    longer = "" if whole.ratio is None else f" ({change(whole.ratio)})"
    return (
        f"duration {time_text(whole.a)} → {time_text(whole.b)}{longer}; "
        f"bubble {percent(bubble.a, 1)} → {percent(bubble.b, 1)} "
        f"({points(bubble.difference)})"
    )

"""The timeline as tables, for screen readers and for copying."""

from collections import defaultdict
from collections.abc import Sequence

from pipelab.plots import terminal
from pipelab.trace import Trace
from pipelab.trace.differences import Comparison
from pipelab.trace.idle import Phase, Reason
from pipelab.words import REASONS, bytes_text, percent, points, signed_time, time_text

Table = dict[str, object]
Sums = dict[tuple[Reason, Phase], float]  # seconds idle

_PHASES = ("warmup", "steady", "cooldown")


def table(caption: str, heads: list[str], rows: list[list[str]]) -> Table:
    """A table for the front end: the first cell of each row names the row."""
    return {"caption": caption, "heads": heads, "rows": rows}


def rank_table(trace: Trace, ranks: Sequence[terminal.Row], peaks: Sequence[int]) -> Table:
    """One row per rank: busy, idle, and the most bytes that it held at once, where known."""
    rows = [
        [f"rank {row.rank}", *row.cells, *([bytes_text(peaks[row.rank])] if any(peaks) else [])]
        for row in ranks
    ]
    heads = [*terminal.HEADS, *(["most bytes at once"] if any(peaks) else [])]
    return table(terminal.source_text(trace), heads, rows)


def totals(ranks: Sequence[terminal.Row], sums: Sequence[Sums]) -> list[str]:
    """What each rank did in the whole step, in a few words."""
    found = []
    for row, own in zip(ranks, sums, strict=True):
        by_reason: dict[str, float] = defaultdict(float)
        for (reason, _), seconds in own.items():
            by_reason[reason] += seconds
        text = f"computed {time_text(row.busy_ms / 1e3)}"
        if by_reason:
            most = max(by_reason, key=lambda reason: by_reason[reason])
            text += f", idle {time_text(row.idle_ms / 1e3)}, most: {REASONS[most].name}"
        found.append(text)
    return found


def idle_table(trace: Trace, sums: Sequence[Sums]) -> Table:
    """Per rank and reason, the shares of the step in which it was idle, phase by phase."""
    whole = trace.duration or 1.0
    rows = []
    for rank, own in enumerate(sums):
        reasons: dict[str, dict[str, float]] = defaultdict(dict)
        for (reason, phase), seconds in own.items():
            reasons[reason][phase] = seconds
        for why, phases in sorted(reasons.items(), key=lambda item: -sum(item[1].values())):
            shares = [percent(phases.get(phase, 0.0) / whole, 1) for phase in _PHASES]
            total = time_text(sum(phases.values()))
            rows.append([f"rank {rank}", REASONS[why].name, *shares, total])
    heads = ["rank", "reason", *_PHASES, "in all"]
    return table("Why ranks were idle, as shares of the step", heads, rows)


def comparison_table(found: Comparison, names: tuple[str, str]) -> Table:
    """Two traces in numbers: duration, bubble, idle time by reason."""
    pairs = [("duration", found.duration)]
    if found.microbatches.difference:
        pairs.append(("per microbatch", found.seconds_per_microbatch))
    pairs += [(f"idle: {REASONS[reason].name}", pair) for reason, pair in found.idle.items()]
    longest = max(found.duration)
    least = 1e-5 * longest  # what is less is no difference that a picture shows
    rows = [
        [name, time_text(pair.a, longest), time_text(pair.b, longest),
         signed_time(pair.difference if abs(pair.difference) > least else 0.0, longest),
         "" if pair.ratio is None or min(pair) < 1e-3 * longest else f"{pair.ratio:.2f}"]
        for name, pair in pairs
    ]  # fmt: skip
    bubble = found.bubble_fraction
    rows.insert(
        1,
        ["bubble fraction", percent(bubble.a, 1), percent(bubble.b, 1),
         points(bubble.difference), ""],
    )  # fmt: skip
    heads = ["", names[0], names[1], "difference", "ratio"]
    return table(f"{names[0]}, and {names[1]}", heads, rows)

"""Schedules side by side: the table that papers print, computed; as text and as data."""

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from pipelab.cli.prices import PRICES, Prices
from pipelab.cli.sources import load
from pipelab.errors import PipelabError
from pipelab.plots.terminal import timeline_text
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import count_messages, peak_activations
from pipelab.simulator import simulate
from pipelab.words import number, percent

_TIED = "\N{NO-BREAK SPACE}"
_LEGEND = (
    "Bubble fraction: idle over all rank-time. Bubble overhead: idle over computing. Peak "
    "activations: the most microbatches that a rank holds at once, each with its whole slice."
)


@dataclass(frozen=True)
class Figures:
    """What a schedule costs; ``duration`` in seconds or units, the peak in a rank's slices."""

    schedule: str
    ranks: int
    microbatches: int
    stages_per_rank: float
    duration: float
    bubble_fraction: float
    bubble_overhead: float
    peak_activations: float
    messages: int


@dataclass(frozen=True)
class Refusal:
    """A schedule that there is not, for these sizes; and why."""

    schedule: str
    refused: str


def figures(schedule: Schedule, prices: Prices) -> Figures:
    """Predict one schedule."""
    stages_per_rank = schedule.num_stages / schedule.num_ranks
    trace = simulate(schedule, prices.cost(stages_per_rank))
    return Figures(
        schedule.name,
        schedule.num_ranks,
        schedule.num_microbatches,
        stages_per_rank,
        trace.duration,
        trace.bubble_fraction,
        trace.bubble_overhead,
        max(peak_activations(schedule)),
        count_messages(schedule),
    )


def timeline(schedule: Schedule, prices: Prices, width: int) -> str:
    """The predicted timeline in letters, its times in seconds or units."""
    trace = simulate(schedule, prices.cost(schedule.num_stages / schedule.num_ranks))
    trace = replace(trace, setting=replace(trace.setting, paced=str(prices).replace(" ", _TIED)))
    return timeline_text(trace, width, "units" if prices.unit == "units" else "")


def compare(
    names: Iterable[str], arguments: argparse.Namespace, prices: Prices
) -> list[Figures | Refusal]:
    """One row for each name, a refusal where it cannot be had."""
    rows: list[Figures | Refusal] = []
    for name in names:
        try:
            rows.append(figures(load(name, arguments).compute, prices))
        except PipelabError as error:
            rows.append(Refusal(name, str(error).removeprefix(f"{name}: ")))
    return rows


def table(rows: Sequence[Figures | Refusal], prices: Prices, width: int) -> str:
    """The rows under their heads; a refusal is its reason's first line."""
    names = ["", "schedule", *_names(rows)]
    cells = [*_heads(prices), *(_cells(row, prices) for row in rows)]
    first = max(map(len, names))
    widths = [max(map(len, column)) for column in zip(*filter(None, cells), strict=True)]
    lines = []
    for name, row, texts in zip(names, [None, None, *rows], cells, strict=True):
        if isinstance(row, Refusal):
            reason = f"{name:<{first}}  {row.refused.splitlines()[0]}"
            lines += textwrap.wrap(reason, width, subsequent_indent=" " * (first + 2))
        else:
            columns = zip(texts, widths, strict=True)
            lines.append(f"{name:<{first}}" + "".join(f"  {text:>{w}}" for text, w in columns))
    return "\n".join(lines)


def legend(rows: Sequence[Figures | Refusal], prices: Prices, width: int) -> str:
    """What it was predicted for, what no schedule can beat, and what the columns mean."""
    sizes = {(row.ranks, row.microbatches) for row in rows if isinstance(row, Figures)}
    text = f"Predicted, with {prices} (F, I, W for a rank's whole slice of the model). "
    if len(sizes) > 1:
        text += "4x8: 4 ranks, 8 microbatches. "
    elif sizes:
        p, m = sizes.pop()
        ideal = m * sum(prices.values[price.name] for price in PRICES if price.of_slice)
        text += f"{number(p, 'rank')}, {number(m, 'microbatch')}: {prices.text(ideal)} "
        text += f"{prices.unit} if no rank were ever idle. "
    return textwrap.fill(text + _LEGEND, width)


def _names(rows: Sequence[Figures | Refusal]) -> list[str]:
    """Files bring sizes of their own: where rows differ in them, each names its own."""
    sizes = [f" {r.ranks}x{r.microbatches}" if isinstance(r, Figures) else "" for r in rows]
    several = len({*sizes} - {""}) > 1
    return [row.schedule + size * several for row, size in zip(rows, sizes, strict=True)]


def _heads(prices: Prices) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        ("stages", "duration", "bubble", "bubble", "peak", "messages"),
        ("a rank", prices.unit, "fraction", "overhead", "activations", "a step"),
    )


def _cells(row: Figures | Refusal, prices: Prices) -> tuple[str, ...]:
    if isinstance(row, Refusal):
        return ()
    return (
        f"{row.stages_per_rank:.3g}",
        prices.text(row.duration),
        percent(row.bubble_fraction, 1),
        percent(row.bubble_overhead, 1),
        f"{row.peak_activations:.4g}",
        str(row.messages),
    )


def data(rows: Iterable[Figures | Refusal], prices: Prices) -> dict[str, object]:
    """The same for programs: times in seconds, or in units where none was given."""
    return {
        "source": "predicted",
        "unit": "units" if prices.unit == "units" else "s",
        "cost": prices.values,
        "schedules": [asdict(row) for row in rows],
    }

"""``pipelab simulate``: one predicted timeline, all schedules in a table, or a search for the best.

simulate    what the command line asked for
search      --best: the shortest schedule that fits, and the proof
figures     what one schedule costs; the other functions show it
"""

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from pipelab.action import Kind
from pipelab.cli.console import say, width
from pipelab.cli.prices import PRICES, Prices, prices
from pipelab.cli.show import MICROBATCHES, RANKS, check_options, load, load_alone
from pipelab.errors import PipelabError
from pipelab.plots.terminal import timeline_text
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.counts import count_messages, peak_activations
from pipelab.simulator import Best, best_schedule
from pipelab.simulator import simulate as predict
from pipelab.trace import Trace
from pipelab.words import number, percent, table_text

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
    """A schedule that cannot be had for these sizes, and why."""

    schedule: str
    refused: str


def simulate(arguments: argparse.Namespace) -> int:
    """Predict what was asked for; returns the exit code, 1 if a schedule named was refused."""
    lengths = arguments.lengths
    priced = prices({price.name: getattr(arguments, price.name) for price in PRICES}, lengths)
    if lengths and arguments.microbatches is None:
        arguments.microbatches = len(lengths)
    columns = arguments.width or width()
    if arguments.best:
        search(arguments, priced, columns)
        return 0
    names = arguments.schedules or list(BUILDERS)
    check_options(names, arguments)
    trace = None
    if len(names) == 1:
        schedule = load_alone(names[0], arguments)
        trace = predicted(schedule, priced)
        rows: list[Figures | Refusal] = [figures(schedule, trace)]
    else:
        rows = compared(names, arguments, priced)
    if arguments.json:
        say(json.dumps(data(rows, priced), indent=2))
    else:
        say("\n\n".join(texts(trace, rows, priced, columns)))
    refused = [row for row in rows if isinstance(row, Refusal)]
    return 1 if refused and (arguments.schedules or len(refused) == len(rows)) else 0


def search(arguments: argparse.Namespace, prices: Prices, width: int) -> None:
    """Search, and show what was found beside all that it was compared with."""
    p, m = arguments.ranks or RANKS, arguments.microbatches or MICROBATCHES
    found = best_schedule(p, m, prices.cost(), arguments.memory_limit)
    trace = predicted(found.schedule, prices)
    rows = [figures(found.schedule, trace)]
    if arguments.json:
        keys = ("schedule", "duration", "peak_activations")
        tried = [
            dict(zip(keys, (c.schedule.name, c.duration, c.peak), strict=True)) for c in found.tried
        ]
        more = {"csv": found.schedule.to_csv(), "bound": found.bound, "tried": tried}
        say(json.dumps(data(rows, prices) | more, indent=2))
        return
    *above, legend = texts(trace, rows, prices, width)
    proof = _proof(found, prices, arguments.memory_limit, width)
    say("\n\n".join([*above, proof, legend]))


def _proof(found: Best, prices: Prices, limit: int | None, width: int) -> str:
    """Everything that was tried, the shortest first, and how short any schedule could be."""
    above = found.duration / found.bound - 1 if found.bound else 0.0
    bound = f"No schedule with one stage per rank is shorter than {prices.text(found.bound)} "
    bound += f"{prices.unit}: the first forward's way to a rank, and all of that rank's work. The "
    bound += f"best is {percent(above, 1)} above." if above > 1e-9 else "best is there."
    left = [name for name, b in BUILDERS.items() if b.stages_per_rank == 1]
    left = [name for name in left if name not in {c.schedule.name for c in found.tried}]
    if limit and left:
        bound += f" Above {number(limit, 'microbatch')} on a rank: {', '.join(left)}."
    rows = [(_label(c.schedule), prices.text(c.duration), f"{c.peak:g}") for c in found.tried]
    head = ("tried, one stage per rank", "duration", "peak activations")
    return f"{table_text([head, *dict.fromkeys(rows)])}\n{textwrap.fill(bound, width)}"


def _label(schedule: Schedule) -> str:
    halves = any(action.kind is Kind.W for action in schedule.ranks[0])
    return schedule.name + (", I and W apart" if halves else ", B whole")


def predicted(schedule: Schedule, prices: Prices) -> Trace:
    """What ranks would record at these prices."""
    stages_per_rank = schedule.num_stages / schedule.num_ranks
    return predict(schedule, prices.cost(stages_per_rank * schedule.slices))


def figures(schedule: Schedule, trace: Trace) -> Figures:
    """What a schedule costs, by its predicted trace."""
    return Figures(
        schedule.name,
        schedule.num_ranks,
        schedule.num_microbatches,
        schedule.num_stages / schedule.num_ranks,
        trace.duration,
        trace.bubble_fraction,
        trace.bubble_overhead,
        max(peak_activations(schedule)),
        count_messages(schedule),
    )


def texts(
    trace: Trace | None, rows: Sequence[Figures | Refusal], prices: Prices, width: int
) -> list[str]:
    """What the command prints: the timeline of a single schedule, the table, the legend."""
    shown = [timeline(trace, prices, width)] if trace else []
    return [*shown, table(rows, prices, width), legend(rows, prices, width)]


def timeline(trace: Trace, prices: Prices, width: int) -> str:
    """The predicted timeline in letters, its times in seconds or units."""
    trace = replace(trace, setting=replace(trace.setting, paced=str(prices).replace(" ", _TIED)))
    return timeline_text(trace, width, "units" if prices.unit == "units" else "")


def compared(
    names: Iterable[str], arguments: argparse.Namespace, prices: Prices
) -> list[Figures | Refusal]:
    """One row for each name, a refusal where it cannot be had."""
    rows: list[Figures | Refusal] = []
    for name in names:
        try:
            schedule = load(name, arguments)
            rows.append(figures(schedule, predicted(schedule, prices)))
        except PipelabError as error:
            rows.append(Refusal(name, str(error)))
    return rows


def table(rows: Sequence[Figures | Refusal], prices: Prices, width: int) -> str:
    """The rows under their heads; a refusal is its reason's first line."""
    names = _names(rows)
    cells = [(name, *_cells(row, prices)) for name, row in zip(names, rows, strict=True)]
    lines = table_text([*_heads(prices), *cells]).splitlines()
    indent = 2 + max(map(len, ("schedule", *names)))
    for i, (name, row) in enumerate(zip(names, rows, strict=True), start=2):
        if isinstance(row, Refusal):
            reason = name.ljust(indent) + row.refused.splitlines()[0]
            lines[i] = textwrap.fill(reason, width, subsequent_indent=" " * indent)
    return "\n".join(lines)


def legend(rows: Sequence[Figures | Refusal], prices: Prices, width: int) -> str:
    """What it was predicted for, what no schedule can beat, and what the columns mean."""
    sizes = {(row.ranks, row.microbatches) for row in rows if isinstance(row, Figures)}
    text = f"Predicted, with {prices} (F, I, W for a rank's whole slice of the model). "
    if len(sizes) > 1:
        text += "4x8: 4 ranks, 8 microbatches. "
    elif sizes:
        p, m = sizes.pop()
        ideal = prices.text(prices.ideal(m))
        text += f"{number(p, 'rank')}, {number(m, 'microbatch')}: {ideal} "
        text += f"{prices.unit} if no rank were ever idle. "
    return textwrap.fill(text + _LEGEND, width)


def _names(rows: Sequence[Figures | Refusal]) -> list[str]:
    """Files bring sizes of their own: where rows differ in them, each names its own."""
    sizes = [f" {r.ranks}x{r.microbatches}" if isinstance(r, Figures) else "" for r in rows]
    several = len({*sizes} - {""}) > 1
    return [row.schedule + size * several for row, size in zip(rows, sizes, strict=True)]


def _heads(prices: Prices) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        ("", "stages", "duration", "bubble", "bubble", "peak", "messages"),
        ("schedule", "a rank", prices.unit, "fraction", "overhead", "activations", "a step"),
    )


def _cells(row: Figures | Refusal, prices: Prices) -> tuple[str, ...]:
    if isinstance(row, Refusal):
        return ("",) * 6
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
        **({"lengths": prices.lengths} if prices.lengths else {}),
        "schedules": [asdict(row) for row in rows],
    }

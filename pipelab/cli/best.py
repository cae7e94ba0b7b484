"""``pipelab simulate --best``: the shortest schedule that fits, and the proof."""

import argparse
import json
import textwrap

from pipelab.action import Kind
from pipelab.cli.comparison import data, figures, legend, table, timeline
from pipelab.cli.prices import Prices
from pipelab.cli.sources import MICROBATCHES, RANKS
from pipelab.cli.terminal import say
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.simulator import Best, best_schedule
from pipelab.words import number, percent


def best(arguments: argparse.Namespace, prices: Prices, width: int) -> None:
    """Search, and show what was found beside all that it was compared with."""
    p, m = arguments.ranks or RANKS, arguments.microbatches or MICROBATCHES
    found = best_schedule(p, m, prices.cost(), arguments.memory_limit)
    row = figures(found.schedule, prices)
    if arguments.json:
        keys = ("schedule", "duration", "peak_activations")
        tried = [
            dict(zip(keys, (c.schedule.name, c.duration, c.peak), strict=True)) for c in found.tried
        ]
        more = {"csv": found.schedule.to_csv(), "bound": found.bound, "tried": tried}
        say(json.dumps(data([row], prices) | more, indent=2))
        return
    say(timeline(found.schedule, prices, width) + "\n")
    say(table([row], prices, width) + "\n")
    say(_proof(found, prices, arguments.memory_limit, width) + "\n")
    say(legend([row], prices, width))


def _proof(found: Best, prices: Prices, limit: int | None, width: int) -> str:
    """Everything that was tried, the shortest first, and how far down anyone could go."""
    above = found.duration / found.bound - 1 if found.bound else 0.0
    bound = f"No schedule with one stage per rank is shorter than {prices.text(found.bound)} "
    bound += f"{prices.unit}: the first forward's way to a rank, and all of that rank's work. The "
    bound += f"best is {percent(above, 1)} above." if above > 1e-9 else "best is there."
    left = [name for name, b in BUILDERS.items() if b.stages_per_rank == 1]
    left = [name for name in left if name not in {c.schedule.name for c in found.tried}]
    if limit and left:
        bound += f" Above {number(limit, 'microbatch')} on a rank: {', '.join(left)}."
    head = f"{'tried, one stage per rank':<28}{'duration':>10}{'peak activations':>18}"
    rows = [
        f"{_label(c.schedule):<28}{prices.text(c.duration):>10}{c.peak:>18g}" for c in found.tried
    ]
    return "\n".join([head, *dict.fromkeys(rows), textwrap.fill(bound, width)])


def _label(schedule: Schedule) -> str:
    halves = any(action.kind is Kind.W for action in schedule.ranks[0])
    return schedule.name + (", I and W apart" if halves else ", B whole")

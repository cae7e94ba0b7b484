"""``pipelab simulate``: one schedule's predicted timeline, or all schedules in a table."""

import argparse
import json

from pipelab.cli import best, sources
from pipelab.cli.comparison import Figures, Refusal, compare, data, figures, legend, table, timeline
from pipelab.cli.prices import PRICES, prices
from pipelab.cli.terminal import say, width
from pipelab.schedules.catalogue import BUILDERS


def simulate(arguments: argparse.Namespace) -> int:
    """Predict what was asked for; returns the exit code, 1 if a schedule named was refused."""
    priced = prices({price.name: getattr(arguments, price.name) for price in PRICES})
    columns = arguments.width or width()
    if arguments.best:
        best.best(arguments, priced, columns)
        return 0
    names = arguments.schedules or list(BUILDERS)
    sources.check_options(names, arguments)
    if len(names) == 1:
        schedule = sources.load(names[0], arguments).compute
        rows: list[Figures | Refusal] = [figures(schedule, priced)]
    else:
        schedule, rows = None, compare(names, arguments, priced)
    if arguments.json:
        say(json.dumps(data(rows, priced), indent=2))
    else:
        if schedule:
            say(timeline(schedule, priced, columns) + "\n")
        say(table(rows, priced, columns) + "\n")
        say(legend(rows, priced, columns))
    refused = [row for row in rows if isinstance(row, Refusal)]
    return 1 if refused and (arguments.schedules or len(refused) == len(rows)) else 0

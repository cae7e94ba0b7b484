"""``pipelab show SCHEDULE``: a schedule as a grid, as CSV, or with its messages."""

import argparse
import textwrap

from pipelab.cli.sources import check_options, load
from pipelab.cli.terminal import say, width
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, count_messages, peak_activations
from pipelab.schedules.communication import Lowered, lower


def show(arguments: argparse.Namespace) -> None:
    """Print it in the form asked for. Raises ScheduleError, cells marked, if it cannot run."""
    check_options([arguments.schedule], arguments)
    schedule = load(arguments.schedule, arguments)
    if arguments.csv:
        say(schedule.compute.to_csv().rstrip())
    elif arguments.lowered:
        say(_rows(lower(schedule)))
    else:
        say(str(schedule))
        say()
        say(_facts(schedule.compute))


def _rows(lowered: Lowered) -> str:
    """Each rank's row as it stands: a RECV only posts a buffer, the action after it waits."""
    digits = len(str(lowered.num_ranks - 1))
    return "\n".join(
        f"rank {rank:>{digits}}  " + " ".join(action.token for action in row)
        for rank, row in enumerate(lowered.ranks)
    )


def _facts(schedule: Schedule) -> str:
    """What the grid does not say at a glance: memory and messages."""
    peaks = peak_activations(schedule)
    held = ", ".join(f"rank {rank}: {peak:.4g}" for rank, peak in enumerate(peaks))
    lines = [
        f"activations held    {held} (microbatches at most, each with a rank's slice of the model)",
        f"messages in a step  {count_messages(schedule)}",
    ]
    if entry := BUILDERS.get(schedule.name):
        figures = {"bubble": entry.bubble, "activations": entry.peak}
        known = [f"{name} {formula.text}" for name, formula in figures.items() if formula]
        lines.insert(0, f"on paper            {', '.join(known)}")
    return "\n".join(textwrap.fill(line, width(), subsequent_indent=" " * 20) for line in lines)

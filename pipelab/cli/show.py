"""``pipelab show``: a schedule as a grid, as CSV or with its messages.

All commands find schedules here: by the name of one in the catalogue, or in a learner's own file.
"""

import argparse
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pipelab.cli.console import CommandError, say, width
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.communication import Lowered, lower
from pipelab.schedules.counts import count_messages, peak_activations

RANKS, MICROBATCHES, STAGES_PER_RANK = 4, 8, 2  # where the command line does not say


def show(arguments: argparse.Namespace) -> None:
    """Print a schedule in the form asked for. Raises CommandError if it cannot run."""
    check_options([arguments.schedule], arguments)
    lowered = load_alone(arguments.schedule, arguments)
    if arguments.csv:
        say(lowered.compute.to_csv().rstrip())
    elif arguments.lowered:
        say(_rows(lowered))
    else:
        say(str(lowered.schedule))
        say()
        say(_facts(lowered.compute))


def _rows(lowered: Lowered) -> str:
    """Each rank's row as it stands: a RECV only posts a buffer, the action after it waits."""
    digits = len(str(lowered.num_ranks - 1))
    return "\n".join(
        f"rank {rank:>{digits}}  " + " ".join(action.token for action in row)
        for rank, row in enumerate(lowered.ranks)
    )


def _facts(schedule: Schedule) -> str:
    """What the grid does not say at a glance: what it is, its memory and its messages."""
    peaks = peak_activations(schedule)
    held = ", ".join(f"rank {rank}: {peak:.4g}" for rank, peak in enumerate(peaks))
    lines = [
        f"activations held    {held} (microbatches at most, each with a rank's slice of the model)",
        f"messages in a step  {count_messages(schedule)}",
    ]
    found = recognise(schedule)
    lines.insert(0, f"by its order        {found}")
    if not found.is_own and (entry := BUILDERS.get(found.name or "")):
        figures = {"bubble": entry.bubble, "activations": entry.peak}
        known = [f"{name} {formula.text}" for name, formula in figures.items() if formula]
        lines.insert(1, f"on paper            {', '.join(known)}")
    return "\n".join(textwrap.fill(line, width(), subsequent_indent=" " * 20) for line in lines)


def load(name: str, arguments: argparse.Namespace) -> Lowered:
    """A schedule that can run, by name or from a file.

    Raises:
        CommandError: no such schedule and no such file, or a file that cannot be read.
        ScheduleError: the builder refuses the sizes, or the file's schedule cannot run.
    """
    if builder := BUILDERS.get(key(name)):
        sizes = (
            arguments.ranks or RANKS,
            arguments.microbatches or MICROBATCHES,
            arguments.stages_per_rank or STAGES_PER_RANK,
        )
        return lower(builder.build(*sizes))
    if not _is_file(name):
        raise CommandError(
            f"no schedule is called {name!r}: choose from {', '.join(BUILDERS)}, or name a CSV file"
        )
    return _read(Path(name))


def load_alone(name: str, arguments: argparse.Namespace) -> Lowered:
    """The only schedule of a command: the error of one that cannot run begins with its file.

    Raises:
        CommandError: there is no such schedule, or it cannot run.
    """
    try:
        return load(name, arguments)
    except ScheduleError as error:
        if key(name) in BUILDERS:
            raise
        raise CommandError(f"{name}: {error}") from error


def check_options(names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Refuse an option that none of the schedules named uses."""
    builders = [BUILDERS[key(name)] for name in names if key(name) in BUILDERS]
    if (arguments.ranks or arguments.microbatches) and all(map(_is_file, names)):
        raise CommandError("a file has its own ranks and microbatches: leave -p and -m out")
    v = arguments.stages_per_rank
    if v and all(builder.stages_per_rank not in (None, v) for builder in builders):
        choose = [b.name for b in BUILDERS.values() if b.stages_per_rank is None]
        raise CommandError(
            f"-v {v} changes nothing here: the choice is free in {' and '.join(choose)} only"
        )


def _is_file(name: str) -> bool:
    return name.endswith(".csv") or os.sep in name or Path(name).exists()


def key(name: str) -> str:
    """A name in the catalogue as it may be typed: ``1F1B``, ``zero-bubble-h1``."""
    return name.lower().replace("-", "_")


def _read(path: Path) -> Lowered:
    try:
        text = path.read_text("utf-8-sig")  # spreadsheets may put a mark in front
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(
            f"cannot read {path} ({reason}): want one line per rank, such as 0F0,0F1,0B0,0B1"
        ) from None
    return lower(Schedule.from_csv(text, path.name))

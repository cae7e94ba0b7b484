"""The schedules that a command names: one of the catalogue, or a file of the learner's own."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipelab.cli.terminal import CommandError
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, validate
from pipelab.schedules.catalogue import BUILDERS

RANKS, MICROBATCHES, STAGES_PER_RANK = 4, 8, 2  # where the command line does not say


def load(name: str, arguments: argparse.Namespace) -> Schedule:
    """A schedule that can run, by name or from a file.

    Raises:
        CommandError: no such schedule and no such file, or a file that cannot be read.
        ScheduleError: the builder refuses the sizes, or the file's schedule cannot run.
    """
    if builder := BUILDERS.get(_key(name)):
        sizes = (
            arguments.ranks or RANKS,
            arguments.microbatches or MICROBATCHES,
            arguments.stages_per_rank or STAGES_PER_RANK,
        )
        return builder.build(*sizes)
    if not _is_file(name):
        raise CommandError(
            f"no schedule is called {name!r}: choose from {', '.join(BUILDERS)}, or name a CSV file"
        )
    return _read(Path(name))


def check_options(names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Refuse an option that none of the schedules named takes notice of."""
    builders = [BUILDERS[_key(name)] for name in names if _key(name) in BUILDERS]
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


def _key(name: str) -> str:
    return name.lower().replace("-", "_")


def _read(path: Path) -> Schedule:
    try:
        text = path.read_text("utf-8-sig")  # spreadsheets may put a mark in front
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(
            f"cannot read {path} ({reason}): want one line per rank, such as 0F0,0F1,0B0,0B1"
        ) from None
    try:
        schedule = Schedule.from_csv(text, path.name)
        validate(schedule)
    except ScheduleError as error:
        raise type(error)(f"{path}: {error}", error.cells) from None
    return schedule

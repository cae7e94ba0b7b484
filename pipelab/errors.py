"""Every error that pipelab raises on purpose.

    PipelabError
    ├── ScheduleError          a schedule that is incomplete, out of order or not ours to read
    │   └── DeadlockError      ... or in which ranks wait for each other for ever
    ├── PartitionError         a model that cannot be cut into these stages
    ├── BatchError             a batch that cannot be cut into these microbatches
    ├── LossError              a loss that is no mean over rows
    ├── CheckpointError        a saved training that cannot be read, or is another model's
    ├── TraceError             a trace file that cannot be read
    ├── LessonError            a lesson is asked for what it does not have
    └── EngineError            something on the ranks
        ├── LaunchError        the ranks did not come up
        ├── RankError          one rank failed; names rank, action and the learner's traceback
        │   ├── RankDied       its process ended without a word
        │   ├── RankTimeout    it did not answer before the deadline
        │   └── RankOutOfMemory  it held more bytes than its memory budget
        └── PipelineClosed     the pipeline is used after its end

Each message says what happened, with its numbers, and what to do next.
"""

import os
import re
import sysconfig
from pathlib import Path
from traceback import extract_tb

__all__ = [
    "BatchError",
    "CheckpointError",
    "DeadlockError",
    "EngineError",
    "LaunchError",
    "LessonError",
    "LossError",
    "PartitionError",
    "PipelabError",
    "PipelineClosed",
    "RankDied",
    "RankError",
    "RankOutOfMemory",
    "RankTimeout",
    "ScheduleError",
    "TraceError",
]

_INSTALLED = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
_NOT_THEIRS = tuple(  # folders of files that no learner wrote
    os.path.join(folder, "") for folder in (str(Path(__file__).parent), *_INSTALLED)
)
_TOKEN = re.compile("([0-9]+)[A-Z_]+([0-9]*)")


class PipelabError(Exception):
    """The root: ``except PipelabError`` catches all that pipelab refuses or reports."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the learner's own lines that led here, and the words.

        The rest of the way, through files of ours, would be a page. ``%debug`` still goes it.
        """
        way = [f for f in extract_tb(self.__traceback__) if not f.filename.startswith(_NOT_THEIRS)]
        lines = [f"{_place(f.filename)}line {f.lineno}: {f.line}" for f in way]
        return [*lines, f"{type(self).__name__}: {self}"]


class ScheduleError(PipelabError):
    """A schedule breaks a rule; the message names rank, token, rule and remedy."""


class DeadlockError(ScheduleError):
    """No rank can go on; the message says who waits for whom."""


class PartitionError(PipelabError):
    """The model cannot be cut into the stages that the schedule asks for."""


class BatchError(PipelabError):
    """The batch cannot be cut into the microbatches that the schedule asks for."""


class LossError(PipelabError):
    """The loss does not return one number, the mean over the rows that it was given."""


class CheckpointError(PipelabError):
    """A saved training is damaged, of an unknown version, or of another model."""


class TraceError(PipelabError):
    """A trace file is damaged, of an unknown version, or not a trace."""


class LessonError(PipelabError):
    """There is no such exercise or prediction, or a value is none that it can take."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the words alone. A typing error is no matter for a traceback."""
        return [f"{type(self).__name__}: {self}"]


class EngineError(PipelabError):
    """Something went wrong on the ranks, or on the way to them."""


class LaunchError(EngineError):
    """The ranks' processes could not be started or joined."""


class PipelineClosed(EngineError):
    """The pipeline has ended; open a new one."""


class RankError(EngineError):
    """One rank failed.

    Attributes:
        rank: the rank that failed first.
        action: the token of the action it was in, such as ``"2F0"``, or None outside of a step.
        details: the traceback as that rank saw it, or "".
    """

    def __init__(self, message: str, rank: int, action: str | None = None, details: str = ""):
        super().__init__(message)
        self.rank = rank
        self.action = action
        self.details = details

    @property
    def stage(self) -> int | None:
        """The stage of the action."""
        found = _TOKEN.fullmatch(self.action or "")
        return int(found[1]) if found else None

    @property
    def microbatch(self) -> int | None:
        """The microbatch of the action; None in STEP and outside of actions."""
        found = _TOKEN.fullmatch(self.action or "")
        return int(found[2]) if found and found[2] else None

    def __reduce__(self) -> tuple[type["RankError"], tuple[str, int, str | None, str]]:
        return type(self), (str(self), self.rank, self.action, self.details)


class RankDied(RankError):
    """A rank's process ended without a word: killed, out of memory, or it called exit."""


class RankTimeout(RankError):
    """A rank did not answer before the deadline."""


class RankOutOfMemory(RankError):
    """A rank held more bytes than its ``memory_budget``; the message says of what."""


def _place(filename: str) -> str:
    """The name of a file; nothing for a notebook's cell, whose file is made up."""
    return f"{Path(filename).name}, " if Path(filename).exists() else ""

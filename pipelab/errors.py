"""Every error that pipelab raises on purpose.

    PipelabError
    ├── ScheduleError          a schedule that is incomplete, out of order or unreadable
    │   └── DeadlockError      ... or in which ranks wait for each other without end
    ├── PartitionError         a model that cannot be cut into these stages
    ├── ModelError             a model of which a rank's copy would be another model
    ├── BatchError             a batch that cannot be cut into these microbatches
    ├── LossError              a loss that is no mean over rows, or has no graph
    ├── OptimizerError         an optimizer, or a schedule of its rates, that cannot train a stage
    ├── CheckpointError        a saved training that cannot be read, or is another model's
    ├── TraceError             a trace file that cannot be read
    ├── LessonError            a lesson is asked for what it does not have
    └── EngineError            something on the ranks
        ├── LaunchError        the ranks did not start
        ├── RankError          one rank failed; names rank, action and the learner's traceback
        │   ├── RankDied       its process ended without an answer
        │   ├── RankTimeout    it did not answer before the deadline
        │   └── RankOutOfMemory  it held more bytes than its memory budget
        └── PipelineClosed     the pipeline is used after its end

Each message says what happened, with its numbers, and what to do next.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pipelab.tracebacks import own_lines

__all__ = [
    "BatchError",
    "CheckpointError",
    "DeadlockError",
    "EngineError",
    "LaunchError",
    "LessonError",
    "LossError",
    "ModelError",
    "OptimizerError",
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


class PipelabError(Exception):
    """The root: ``except PipelabError`` catches all that pipelab refuses or reports."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the learner's own lines that led here, and the message.

        All frames, ours included, would fill a page. ``%debug`` still shows them.
        """
        lines = [f"{line.place}: {line.text}" for line in own_lines(self.__traceback__)]
        return [*lines, f"{type(self).__name__}: {self}"]


class ScheduleError(PipelabError):
    """A schedule breaks a rule; the message names rank, token, rule and what to change.

    Attributes:
        cells: (rank, position in its row) of each action at fault; () where none is to be named.
    """

    def __init__(self, message: str, cells: Iterable[tuple[int, int]] = ()):
        super().__init__(message)
        self.cells = tuple(cells)


class Blocked(NamedTuple):
    """One rank that cannot continue.

    Attributes:
        rank: the rank that waits.
        action: the token of the action that it cannot start, such as ``"0B1"``.
        needs: the token of the action whose result it waits for.
        peer: the rank that should run that one; None if no rank does.
    """

    rank: int
    action: str
    needs: str
    peer: int | None


class DeadlockError(ScheduleError):
    """No rank can continue; the message says who waits for whom.

    Attributes:
        blocked: the ranks that wait, in rank order.
        cycle: the ranks that wait for each other in a ring, each for the next and the last for
            the first; () if there is no ring.
    """

    def __init__(
        self,
        message: str,
        cells: Iterable[tuple[int, int]] = (),
        blocked: Iterable[Blocked] = (),
        cycle: Iterable[int] = (),
    ):
        super().__init__(message, cells)
        self.blocked = tuple(blocked)
        self.cycle = tuple(cycle)


class PartitionError(PipelabError):
    """The model cannot be cut into the stages that the schedule asks for."""


class ModelError(PipelabError):
    """A layer, a weight or a loss holds what a rank's copy of it would lack."""


class BatchError(PipelabError):
    """The batch cannot be cut into the microbatches that the schedule asks for."""


class LossError(PipelabError):
    """The loss is not one real number with a graph, the mean over the rows that it was given."""


class OptimizerError(PipelabError):
    """``optimizer=`` or ``lr_schedule=`` does not make what can train a stage."""


class CheckpointError(PipelabError):
    """A saved training is damaged, of an unknown version, or of another model."""


class TraceError(PipelabError):
    """A trace file is damaged, of an unknown version, or not a trace."""


class LessonError(PipelabError):
    """There is no such exercise or prediction, or it cannot have such a value."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone. A mistyped name needs no traceback."""
        return [f"{type(self).__name__}: {self}"]


class EngineError(PipelabError):
    """Something went wrong on the ranks, or in the messages to them."""


class LaunchError(EngineError):
    """The ranks' processes could not be started or connected."""


class PipelineClosed(EngineError):
    """The pipeline has ended; open a new one."""


class RankError(EngineError):
    """One rank failed.

    Attributes:
        rank: the rank that failed first.
        action: the token of the action it was in, such as ``"2F0"``, or None outside of a step.
        details: the traceback as that rank saw it, or "".
        stage: the stage of the action; None outside of actions.
        microbatch: the microbatch of the action; None in STEP and outside of actions.
    """

    def __init__(
        self,
        message: str,
        rank: int,
        action: str | None = None,
        details: str = "",
        stage: int | None = None,
        microbatch: int | None = None,
    ):
        super().__init__(message)
        self.rank = rank
        self.action = action
        self.details = details
        self.stage = stage
        self.microbatch = microbatch

    def __reduce__(self) -> tuple[object, ...]:
        fields = self.rank, self.action, self.details, self.stage, self.microbatch
        return type(self), (str(self), *fields)


class RankDied(RankError):
    """A rank's process ended without an answer: killed, out of memory, or it called exit."""


class RankTimeout(RankError):
    """A rank did not answer before the deadline."""


class RankOutOfMemory(RankError):
    """A rank held more bytes than its ``memory_budget``; the message says of what."""

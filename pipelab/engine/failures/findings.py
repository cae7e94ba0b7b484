"""What is known of a call: which ranks have answered, and what became of those that did not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from pipelab.engine.protocol.commands import Done
from pipelab.engine.protocol.failure import Failure
from pipelab.engine.protocol.progress import Begun


class State(Enum):
    """What became of a rank that gave no answer."""

    ALIVE = auto()  # its process runs
    STOPPED = auto()  # a signal or a debugger holds its process
    ENDED = auto()  # its process ended
    SILENT = auto()  # no heartbeat arrives any more
    CLOSED = auto()  # it closed its pipeline


class Absent(NamedTuple):
    """A rank that gave no answer.

    Attributes:
        state: what became of it.
        exit_code: of a process that ended, where it is known.
        output: what a process that ended had printed since its last answer.
        reason: why it closed its pipeline.
    """

    state: State
    exit_code: int | None = None
    output: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Findings:
    """All that is known of one call.

    Attributes:
        commands: what each rank was to do.
        answers: by rank; an absent rank has none.
        absent: by rank; empty if all have answered.
        begun: what each rank began last.
        timeout: seconds for which nothing happened, if that ended the wait.
        runs_script: each rank's process runs the learner's whole script (torchrun).
    """

    commands: Sequence[object]
    answers: Mapping[int, Done | Failure]
    absent: Mapping[int, Absent]
    begun: Sequence[Begun]
    timeout: float
    runs_script: bool = False

    @property
    def failures(self) -> dict[int, Failure]:
        """The answers that are failures, lowest rank first."""
        answers = sorted(self.answers.items())
        return {rank: answer for rank, answer in answers if isinstance(answer, Failure)}

    @property
    def unfinished(self) -> list[int]:
        """The ranks that did not do what they were to do."""
        ranks = range(len(self.commands))
        return [rank for rank in ranks if not isinstance(self.answers.get(rank), Done)]

    def absent_as(self, *states: State) -> dict[int, Absent]:
        """The absent ranks of some states, lowest rank first."""
        return {r: a for r, a in sorted(self.absent.items()) if a.state in states}

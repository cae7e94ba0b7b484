"""What a rank answers when a command failed: fields, so that nobody has to parse a text."""

from dataclasses import dataclass
from enum import Enum, auto

from pipelab.action import Action
from pipelab.tracebacks import Line


class FailureKind(Enum):
    """Why a command failed."""

    EXCEPTION = auto()  # raised by the learner's code, or by ours
    OVER_BUDGET = auto()  # the rank held more bytes than its memory budget
    OUT_OF_MEMORY = auto()  # its GPU has no room left
    LOST_PEER = auto()  # a message failed since another rank is gone
    TIMED_OUT = auto()  # a message did not arrive in time


@dataclass(frozen=True)
class Failure:
    """A rank's last answer.

    Attributes:
        kind: what went wrong.
        summary: the exception in one line, such as ``KeyError: 'x'``.
        reason: the exception's own message.
        action: what the rank was in, or None between actions.
        line: the learner's line nearest to the exception, where there is one.
        traceback: all of it, as the rank saw it.
        peer: the rank that a message did not reach, or did not come from.
    """

    kind: FailureKind
    summary: str
    reason: str = ""
    action: Action | None = None
    line: Line | None = None
    traceback: str = ""
    peer: int | None = None

    @property
    def is_consequence(self) -> bool:
        """Whether the cause is elsewhere: this rank only noticed that another one is missing."""
        return self.kind in (FailureKind.LOST_PEER, FailureKind.TIMED_OUT)

"""What a rank answers when something was raised in it."""

import traceback

import torch

from pipelab.action import Action
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.engine.rank.memory_budget import OverBudget
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.transport.backends import MessageError
from pipelab.tracebacks import innermost_own_line


def failure_of(recorder: Recorder, error: BaseException) -> Failure:
    """What went wrong and where; the traceback is the one that this rank saw."""
    return failure_in(recorder.action, error)


def failure_in(action: Action | None, error: BaseException) -> Failure:
    """The same, for an error in a rank's action, or in none."""
    summary = f"{type(error).__name__}: {error}".rstrip(": ")
    return Failure(
        kind=_kind(error),
        summary="\n".join([summary, *getattr(error, "__notes__", ())]),
        reason=str(error),
        action=action,
        line=innermost_own_line(error),
        traceback="".join(traceback.format_exception(error)),
        peer=error.peer if isinstance(error, MessageError) else None,
    )


def _kind(error: BaseException) -> FailureKind:
    match error:
        case MessageError():
            return FailureKind.TIMED_OUT if error.timed_out else FailureKind.LOST_PEER
        case OverBudget():
            return FailureKind.OVER_BUDGET
        case torch.OutOfMemoryError():
            return FailureKind.OUT_OF_MEMORY
    return FailureKind.EXCEPTION

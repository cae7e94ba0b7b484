"""Errors of ranks in words: which rank, in which action, why, and what to do next."""

import signal
import textwrap
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pipelab.action import Action
from pipelab.engine.failures.findings import Absent, State
from pipelab.engine.protocol.commands import Build, Fetch, GetProfiler, Load, Run, Use, dumps
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.errors import LaunchError, RankDied, RankError, RankOutOfMemory
from pipelab.tracebacks import Line
from pipelab.words import KINDS

_SCRIPT = "Under torchrun every process runs the whole script: "
_MEMORY = (
    "Signal 9 often means that memory ran\nout: use a smaller model, batch or number of ranks."
)
_CUT = 300  # characters of an error of CUDA's, which continues with advice on its allocator
_Error = TypeVar("_Error", bound=RankError)


def rank_error(
    kind: type[_Error], message: str, rank: int, action: Action | None = None, details: str = ""
) -> _Error:
    """An error of a rank, with its action as data."""
    if action is None:
        return kind(message, rank, details=details)
    return kind(message, rank, action.token, details, action.stage, action.microbatch)


def in_words(action: Action) -> str:
    """An action as its token and in words.

    >>> in_words(Action.parse("2F1"))
    '2F1 (stage 2, forward, microbatch 1)'
    """
    what = f"stage {action.stage}, {KINDS[action.kind].name}"
    end = "" if action.microbatch is None else f", microbatch {action.microbatch}"
    return f"{action.token} ({what}{end})"


def _when(command: object) -> str:
    """What a rank was doing when it was in no action."""
    match command:
        case Build(stages=stages):
            return f"while it built {_stages(stages)}"
        case Use():
            return "while it prepared a schedule"
        case Run():
            return "at the beginning or the end of a batch"
        case Fetch(what=what):
            return f"while it sent its {what}"
        case Load():
            return "while it loaded a state"
        case GetProfiler():
            return "while it started PyTorch's profiler"
    return "while it started"


def failed(rank: int, failure: Failure, command: object) -> RankError:
    """What a rank raised: the exception, and the learner's line that raised it."""
    where = f"in {in_words(failure.action)}" if failure.action else _when(command)
    if failure.kind in (FailureKind.OVER_BUDGET, FailureKind.OUT_OF_MEMORY):
        return _out_of_memory(rank, failure, where)
    lines = [f"rank {rank} failed {where}: {failure.summary}"]
    if failure.line is not None:
        lines.append(f"  at {_in_file(failure.line)}")
    lines.append("All ranks were stopped. Fix the cause and open a new pipeline; the whole")
    lines.append("traceback is in this error's .details")
    return rank_error(RankError, "\n".join(lines), rank, failure.action, failure.traceback)


def _out_of_memory(rank: int, failure: Failure, where: str) -> RankOutOfMemory:
    """The memory budget is used up, or a GPU's memory is."""
    what = f"it held {failure.reason}"
    if failure.kind is FailureKind.OUT_OF_MEMORY:
        what = textwrap.shorten(failure.reason, _CUT, placeholder=" ...")
    text = (
        f"rank {rank} ran out of memory {where}: {what.rstrip('.')}.\n"
        f"All ranks were stopped. Cut the model into more stages, on more ranks; or keep fewer\n"
        f"activations: smaller microbatches, a schedule such as 1f1b, or checkpoint=True."
    )
    return rank_error(RankOutOfMemory, text, rank, failure.action, failure.traceback)


def died(rank: int, absent: Absent, action: Action | None) -> RankDied:
    """A process that ended, or cannot be reached, without an answer."""
    where = f" in {in_words(action)}" if action else ""
    text = (
        f"rank {rank} died{where} without an answer: {_how(absent)}\n"
        f"All ranks were stopped. Open a new pipeline to continue."
    )
    return rank_error(RankDied, text, rank, action, absent.output)


def _how(absent: Absent) -> str:
    code = absent.exit_code
    if absent.state is State.SILENT:
        return (
            "no heartbeat. Its process was killed,\nor its machine cannot be reached; torchrun on "
            f"that machine prints more. {_MEMORY}"
        )
    if code is None or code >= 0:
        return f"exit code {code}. Something in it called os._exit: raise an error instead."
    if code == -signal.SIGKILL:
        return f"killed by signal {signal.SIGKILL:d}. {_MEMORY}"
    return f"killed by signal {-code}, which points to a crash in C code."


def closed(rank: int, absent: Absent) -> RankError:
    """A rank that closed its pipeline while the others used theirs."""
    text = (
        f"rank {rank} has left: its script closed the pipeline ({absent.reason}) while the others "
        f"used theirs.\n{_SCRIPT}see what rank {rank} printed."
    )
    return RankError(text, rank)


def lost_peer(rank: int, failure: Failure, command: object) -> RankError:
    """A connection that broke though both processes run."""
    where = f"in {in_words(failure.action)}" if failure.action else _when(command)
    peer = "another rank" if failure.peer is None else f"rank {failure.peer}"
    text = (
        f"rank {rank} lost its connection with {peer} {where}, though all processes run:\n"
        f"{failure.summary}\nAll ranks were stopped. Open a new pipeline to continue."
    )
    return rank_error(RankError, text, rank, failure.action, failure.traceback)


def unsendable(rank: int, command: object, error: Exception) -> LaunchError:
    """Something that the learner gave cannot be pickled, and so cannot be sent to its rank."""
    name = next((name for name, part in _parts(command) if not _is_sendable(part)), "a command")
    return LaunchError(
        f"{name} cannot be sent to rank {rank}: {type(error).__name__}: {error}\n"
        f"Each rank is a process, and what it gets is pickled. Open files, locks, threads and\n"
        f"generators cannot be: make them in forward, or where they are first used."
    )


def _parts(command: object) -> Iterator[tuple[str, object]]:
    """What the learner gave for a command, with names, the smallest parts first."""
    if isinstance(command, Build):
        for stage, module in command.stages.items():
            for name, layer in reversed(list(module.named_modules())):
                yield f"layer {name} of stage {stage}, a {type(layer).__name__},", layer
        for name in ("loss", "optimizer", "lr_schedule"):
            yield f"the {name}", getattr(command.options, name)


def _is_sendable(part: object) -> bool:
    try:
        dumps(part)
    except Exception:
        return False
    return True


def _stages(stages: Iterable[int]) -> str:
    numbers = [str(stage) for stage in stages]
    return f"stage{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _in_file(line: Line) -> str:
    """As Python's tracebacks write it, with the text of the line."""
    text = f": {line.text}" if line.text else ""
    return f'File "{line.file}", line {line.number}, in {line.function}{text}'

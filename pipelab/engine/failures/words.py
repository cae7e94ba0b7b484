"""What the parent tells of a rank's end: which rank, in which action, why, and what to do next."""

import linecache
import re
from collections.abc import Iterable, Iterator
from multiprocessing.context import ForkServerProcess

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import (
    Build,
    Failed,
    Fetch,
    GetProfiler,
    Load,
    Run,
    Use,
    dumps,
)
from pipelab.engine.protocol.logs import LogReader
from pipelab.engine.protocol.progress import Progress
from pipelab.errors import LaunchError, RankDied, RankError, RankOutOfMemory

_KINDS = {
    Kind.F: "forward",
    Kind.B: "backward",
    Kind.I: "backward of the input",
    Kind.W: "backward of the weights",
    Kind.SEND_F: "handing on its output",
    Kind.SEND_B: "handing back its gradient",
    Kind.RECV_F: "opening a buffer for its input",
    Kind.RECV_B: "opening a buffer for its gradient",
    Kind.REDUCE_GRAD: "adding up its gradients over the replicas",
    Kind.STEP: "its optimizer's step",
    Kind.WAIT: "waiting for a message",
}
_LINE = re.compile(r'\s*File "(.*)", line (\d+), in .*')
_FOREIGN = ("torch", "pipelab/engine", "pipelab/partition", "multiprocessing", "cloudpickle")


def words(action: Action) -> str:
    """An action by its token, and in words.

    >>> words(Action(2, Kind.F, 1))
    '2F1 (stage 2, forward, microbatch 1)'
    """
    what = f"stage {action.stage}, {_KINDS[action.kind]}"
    end = "" if action.microbatch is None else f", microbatch {action.microbatch}"
    return f"{action.token} ({what}{end})"


def doing(command: object) -> str:
    """What a rank was about when it was in no action."""
    match command:
        case Build(stages=stages):
            return f"while it took up {_stages(stages)}"
        case Use():
            return "while it took up a schedule"
        case Run():
            return "at the beginning or the end of a batch"
        case Fetch(what=what):
            return f"while it gave its {what}"
        case Load():
            return "while it took up a state"
        case GetProfiler():
            return "while it started PyTorch's profiler"
    return "while it came up"


def failed(rank: int, report: Failed, when: str) -> RankError:
    """An exception on a rank: its own words, and the learner's line that raised it."""
    if report.out_of_memory:
        return _out_of_memory(rank, report, when)
    where = f"in {_in_words(report.action)}" if report.action else when
    lines = [f"rank {rank} failed {where}: {report.summary}"]
    if line := _own_line(report.details):
        lines.append(f"  at {line}")
    lines.append("All ranks were stopped. Mend the cause and open a new pipeline; the whole")
    lines.append("traceback is in this error's .details")
    return RankError("\n".join(lines), rank, report.action, report.details)


def _in_words(token: str) -> str:
    return f"{token} (waiting for the others)" if "WAIT" in token else words(Action.parse(token))


def _out_of_memory(rank: int, report: Failed, when: str) -> RankOutOfMemory:
    """The memory budget is used up, or a GPU's memory is."""
    where = f"in {_in_words(report.action)}" if report.action else when
    kind, _, words = report.summary.partition(": ")
    what = f"it held {words}"
    if kind != "OverBudget":  # CUDA goes on about its allocator: what was asked, and what there is
        what = "; ".join(words.split(". ")[1:3]) or words
    return RankOutOfMemory(
        f"rank {rank} ran out of memory {where}: {what}.\n"
        f"All ranks were stopped. Cut the model into more stages, on more ranks; or keep fewer\n"
        f"activations: smaller microbatches, a schedule such as 1f1b, or checkpoint=True.",
        rank,
        report.action,
        report.details,
    )


def died(rank: int, process: ForkServerProcess, progress: Progress, logs: LogReader) -> RankDied:
    """A process that ended without a word."""
    process.join(1.0)
    code = process.exitcode
    _, action = progress.read(rank)
    where = f" in {words(action)}" if action else ""
    if code is not None and code < 0:
        how = f"killed by signal {-code}"
        why = "Signal 9 often means that memory ran out: use a smaller model, batch or number of"
        why += " ranks." if code == -9 else "\nranks; other signals point to a crash in C code."
    else:
        how, why = f"exit code {code}", "Something in it called os._exit: raise an error instead."
    return RankDied(
        f"rank {rank} died{where} without a word: {how}. {why}\n"
        f"All ranks were stopped. Open a new pipeline to go on.",
        rank,
        action.token if action else None,
        logs.fresh(rank),
    )


def unsendable(rank: int, command: object, error: Exception) -> LaunchError:
    """Something of a learner's that cannot be pickled, and so cannot travel to its rank."""
    name = next((name for name, part in _parts(command) if not _can_travel(part)), "a command")
    return LaunchError(
        f"{name} cannot travel to rank {rank}: {type(error).__name__}: {error}\n"
        f"Ranks are processes of their own: what they get is pickled. Open files, locks, threads\n"
        f"and generators cannot be: make them in forward, or where they are first used."
    )


def _parts(command: object) -> Iterator[tuple[str, object]]:
    """The things of a learner's in a command, with their names, the smallest ones first."""
    if isinstance(command, Build):
        for stage, module in command.stages.items():
            for name, layer in reversed(list(module.named_modules())):
                yield f"layer {name} of stage {stage}, a {type(layer).__name__},", layer
        for name in ("loss", "optimizer", "lr_schedule"):
            yield f"the {name}", getattr(command.options, name)


def _can_travel(part: object) -> bool:
    try:
        dumps(part)
    except Exception:
        return False
    return True


def _stages(stages: Iterable[int]) -> str:
    numbers = [str(stage) for stage in stages]
    return f"stage{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _own_line(details: str) -> str:
    """The innermost line of a traceback that is neither torch's nor ours, with its text.

    The rank cannot read a notebook's cells; this process can.
    """
    own = ""
    for line in details.splitlines():
        if (found := _LINE.fullmatch(line)) and not any(f"/{f}/" in line for f in _FOREIGN):
            path, number = found.groups()
            text = linecache.getline(path, int(number)).strip()
            own = line.strip() + (f": {text}" if text else "")
    return own

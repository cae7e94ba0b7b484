"""What the parent tells of a rank's end: which rank, in which action, why, and what to do next."""

import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from pipelab.action import Kind
from pipelab.engine.commands import Failed
from pipelab.engine.progress import Progress
from pipelab.errors import RankDied, RankError, RankOutOfMemory, RankTimeout

_FLOOD = 20_000  # characters of output that one rank may print per command


class LogReader:
    """Replays what ranks print, in rank order, each line marked with its rank."""

    def __init__(self, folder: Path, num_ranks: int):
        self.paths = [folder / f"rank-{rank}.log" for rank in range(num_ranks)]
        self.offsets = [0] * num_ranks

    def replay(self) -> None:
        """Print what came since the last time; a flood is cut, and says so."""
        for rank in range(len(self.paths)):
            for line in self.fresh(rank).splitlines():
                print(f"[rank {rank}] {line}", file=sys.stdout)

    def fresh(self, rank: int) -> str:
        """What a rank printed since the last time."""
        path, offset = self.paths[rank], self.offsets[rank]
        try:
            size = path.stat().st_size
        except OSError:
            return ""
        if size == offset:
            return ""
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(_FLOOD).decode("utf-8", "replace")
        self.offsets[rank] = size
        left_out = size - offset - _FLOOD
        return text + (f"\n... {left_out} bytes left out" if left_out > 0 else "")


def failed(rank: int, report: Failed) -> RankError:
    """An exception on a rank: its own words, and the learner's line that raised it."""
    if report.over_budget:
        return _out_of_memory(rank, report)
    where = f" in {report.action}" if report.action else ""
    lines = [f"rank {rank} failed{where}: {report.summary}"]
    if line := _own_line(report.details):
        lines.append(f"  at {line}")
    lines.append("All ranks were stopped. Mend the cause and open a new pipeline; the whole")
    lines.append("traceback is in this error's .details")
    return RankError("\n".join(lines), rank, report.action, report.details)


def _out_of_memory(rank: int, report: Failed) -> RankOutOfMemory:
    """The memory budget is used up, as on a device that is too small."""
    when = f"in {report.action}" if report.action else "while its stages were built"
    held = report.summary.removeprefix("OverBudget: ")
    return RankOutOfMemory(
        f"rank {rank} ran out of memory {when}: it held {held}.\n"
        f"All ranks were stopped. Cut the model into more stages, on more ranks; or keep fewer\n"
        f"activations: smaller microbatches, a schedule such as 1f1b, or checkpoint=True.",
        rank,
        report.action,
        report.details,
    )


def died(rank: int, process: ForkServerProcess, progress: Progress, logs: LogReader) -> RankError:
    """A process that ended without a word."""
    process.join(1.0)
    code = process.exitcode
    how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    _, action = progress.read(rank)
    token = action.token if action else None
    where = f" in {token}" if token else ""
    return RankDied(
        f"rank {rank} died{where} ({how}) without a word. Signal 9 often means that memory ran "
        f"out: use a smaller model, batch or number of ranks. Open a new pipeline to go on.",
        rank,
        token,
        logs.fresh(rank),
    )


def timed_out(progress: Progress, late: Sequence[int], timeout: float) -> RankError:
    """Ranks that neither answer nor go on: where each of them is."""
    where = []
    for rank in late:
        _, action = progress.read(rank)
        if action is None:
            where.append(f"  rank {rank} has not begun")
        elif action.kind is Kind.WAIT:
            where.append(
                f"  rank {rank} waits for a message, for stage {action.stage}, "
                f"microbatch {action.microbatch}"
            )
        else:
            where.append(f"  rank {rank} is in {action.token}")
    busy = [r for r in late if (a := progress.read(r)[1]) is not None and a.kind is not Kind.WAIT]
    culprit = (busy or [*late])[0]
    _, action = progress.read(culprit)
    text = "\n".join(
        [f"no answer for {timeout:g} s (timeout={timeout:g}):", *where,
         "All ranks were stopped. Look for an endless loop there, or give a larger timeout."]
    )  # fmt: skip
    return RankTimeout(text, culprit, action.token if action else None)


def _own_line(details: str) -> str:
    """The innermost line of a traceback that is neither torch's nor ours."""
    own = ""
    for line in details.splitlines():
        if line.startswith('  File "') and not any(
            part in line for part in ("/torch/", "/pipelab/engine/", "/multiprocessing/")
        ):
            own = line.strip()
    return own

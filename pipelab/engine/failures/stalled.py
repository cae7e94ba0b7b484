"""Who waits for whom: the picture of ranks that neither answer nor go on.

rank 0 waits for 1SEND_B0 from rank 1
rank 1 is in 1F2 (stage 1, forward, microbatch 2)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.engine.failures.words import words
from pipelab.engine.protocol.progress import Progress
from pipelab.errors import RankTimeout
from pipelab.schedules.walk import cycle


class Late(NamedTuple):
    """What is known of all ranks when the deadline passes.

    ``late``: those that have neither answered nor failed. ``through``: those that have answered.
    """

    pids: Sequence[int]
    progress: Progress
    late: Sequence[int]
    through: Sequence[int]


def timed_out(found: Late, timeout: float) -> RankTimeout:
    """Ranks that neither answer nor go on: where each of them is, and whose fault it may be."""
    ranks = range(len(found.pids))
    lines = [f"no answer for {timeout:g} s (timeout={timeout:g}):"]
    lines += [f"  rank {rank} {_place(found, rank)}" for rank in ranks]
    ring = cycle({r: w.peer for r in ranks if (w := found.progress.wanted(r)) is not None})
    if ring:
        arrows = " -> ".join(f"rank {rank}" for rank in [*ring, ring[0]])
        lines.append(f"They wait for each other in a ring: {arrows}")
    culprit = _culprit(found)
    _, action = found.progress.read(culprit)
    if _is_stopped(found.pids[culprit]):
        advice = f"Rank {culprit} was stopped from outside (kill -STOP, a debugger): let it go on"
    elif ring:
        advice = "A message was lost: change the order of their messages in the schedule"
    else:
        advice = f"Look for an endless loop on rank {culprit}"
    lines.append(f"All ranks were stopped. {advice}, or give a larger timeout.")
    return RankTimeout("\n".join(lines), culprit, action.token if action else None)


def _place(found: Late, rank: int) -> str:
    """What one rank does now."""
    if rank in found.through:
        return "is through"
    _, action = found.progress.read(rank)
    if action is None:
        return "has not begun" + _stopped(found.pids[rank])
    wanted = found.progress.wanted(rank)
    if wanted is None:
        if action.kind is Kind.WAIT:  # before STEP
            return "waits for the gradients of all ranks" + _stopped(found.pids[rank])
        return f"is in {words(action)}" + _stopped(found.pids[rank])
    if wanted.message == action:
        text = f"waits until rank {wanted.peer} takes its message {action.token}"
    else:
        text = (
            f"waits for a message, {wanted.message.token} from rank {wanted.peer}, for stage "
            f"{action.stage}, microbatch {action.microbatch}"
        )
    return text + _stopped(found.pids[rank])


def _culprit(found: Late) -> int:
    """A process that is stopped, else a rank that is busy, else where the waits lead to."""
    late = list(found.late) or [r for r in range(len(found.pids)) if r not in found.through]
    stopped = [rank for rank in late if _is_stopped(found.pids[rank])]
    busy = [rank for rank in late if not _waits(found.progress, rank)]
    return (stopped or busy or late)[0]


def _waits(progress: Progress, rank: int) -> bool:
    _, action = progress.read(rank)
    return action is not None and (action.kind is Kind.WAIT or progress.wanted(rank) is not None)


def _stopped(pid: int) -> str:
    return ": its process is stopped" if _is_stopped(pid) else ""


def _is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger holds a process (Linux; elsewhere nobody knows)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"

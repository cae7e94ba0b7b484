"""The search for the one cause of a call's failure, for launched ranks and for torchrun's alike.

A rank that fails takes its connections with it, so its neighbours fail a moment later. The error
that is raised names the rank where it began. Of ranks that neither answer nor advance it says who
waits for whom:

    no answer for 30 s (timeout=30):
      rank 0 waits for a message, 1SEND_B0 from rank 1, for stage 0, microbatch 0
      rank 1 is in 1F2 (stage 1, forward, microbatch 2)
"""

from collections.abc import Mapping

from pipelab.action import Action, Kind
from pipelab.engine.failures import sentences
from pipelab.engine.failures.findings import Findings, State
from pipelab.engine.failures.sentences import in_words, rank_error
from pipelab.engine.protocol.commands import Done
from pipelab.engine.protocol.failure import FailureKind
from pipelab.engine.protocol.progress import Begun, Wanted
from pipelab.errors import RankError, RankTimeout
from pipelab.schedules.walk import cycle


def cause(found: Findings) -> RankError | None:
    """The error to raise; None if all ranks did what they were to do.

    In this order: what a rank raised by itself, a rank that closed its pipeline, a process that
    ended, a rank that neither answers nor advances, a connection that broke without any of these.
    """
    failures = found.failures
    for rank, failure in failures.items():
        if not failure.is_consequence:
            return sentences.failed(rank, failure, found.commands[rank])
    for rank, absent in found.absent_as(State.CLOSED).items():
        return sentences.closed(rank, absent)
    for rank, absent in found.absent_as(State.ENDED, State.SILENT).items():
        return sentences.died(rank, absent, found.begun[rank].action)
    if found.absent or any(f.kind is FailureKind.TIMED_OUT for f in failures.values()):
        return timed_out(found)
    for rank, failure in failures.items():
        return sentences.lost_peer(rank, failure, found.commands[rank])
    return None


def timed_out(found: Findings) -> RankTimeout:
    """Where each rank is, and which of them to look at first."""
    wanted = {r: w for r in found.unfinished if (w := found.begun[r].wanted) is not None}
    slow = _under_way(wanted)
    ring = cycle({rank: w.peer for rank, w in wanted.items() if rank not in slow})
    culprit = _culprit(found)
    seconds = f"{found.timeout:g}"
    lines = [f"no answer for {seconds} s (timeout={seconds}):"]
    lines += [f"  rank {rank} {_state(found, rank)}" for rank in range(len(found.commands))]
    if ring:
        arrows = " -> ".join(f"rank {rank}" for rank in [*ring, ring[0]])
        lines.append(f"They wait for each other in a ring: {arrows}")
    advice = _advice(found, culprit, bool(ring), slow)
    lines.append(f"All ranks were stopped. {advice}, or give a larger timeout.")
    return rank_error(RankTimeout, "\n".join(lines), culprit, found.begun[culprit].action)


def _under_way(wanted: Mapping[int, Wanted]) -> dict[int, Action]:
    """By rank, messages for which both their sender and their receiver wait: slow, and no fault."""
    return {r: w.message for r, w in wanted.items() if wanted.get(w.peer) == (w.message, r)}


def _culprit(found: Findings) -> int:
    """A rank whose process is stopped, else one that is busy, else the first without an answer."""
    late = sorted(found.absent) or found.unfinished
    stopped = [*found.absent_as(State.STOPPED)]
    busy = [rank for rank in late if not found.begun[rank].is_waiting]
    return (stopped or busy or late)[0]


def _advice(found: Findings, culprit: int, is_ring: bool, slow: Mapping[int, Action]) -> str:
    if culprit in found.absent_as(State.STOPPED):
        return f"Rank {culprit} was stopped from outside (kill -STOP, a debugger): let it continue"
    if is_ring:
        return "None of them can continue: change the order of their messages in the schedule"
    if slow and found.begun[culprit].is_waiting:
        tokens = ", ".join(sorted({message.token for message in slow.values()}))
        return f"Still under way: {tokens}. Use smaller messages or a machine that is less busy"
    only_others = ", or for a call that only the other ranks make" if found.runs_script else ""
    return f"Look for an endless loop on rank {culprit}{only_others}"


def _state(found: Findings, rank: int) -> str:
    if isinstance(found.answers.get(rank), Done):
        return "has finished"
    is_stopped = rank in found.absent_as(State.STOPPED)
    return _doing(found.begun[rank]) + (": its process is stopped" if is_stopped else "")


def _doing(begun: Begun) -> str:
    action = begun.action
    wanted = begun.wanted
    if action is None:
        return "has not begun"
    if wanted is None:
        if action.kind is Kind.WAIT:  # before STEP
            return "waits for the gradients of all ranks"
        return f"is in {in_words(action)}"
    if wanted.message == action:
        return f"waits until rank {wanted.peer} takes its message {action.token}"
    if wanted.message.kind is Kind.STEP:
        return (
            f"waits for a tied weight, which {wanted.message.token} of rank {wanted.peer} updates, "
            f"for stage {action.stage}"
        )
    return (
        f"waits for a message, {wanted.message.token} from rank {wanted.peer}, for stage "
        f"{action.stage}, microbatch {action.microbatch}"
    )

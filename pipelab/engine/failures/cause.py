"""The search for the one cause of a call's failure, for launched ranks and for torchrun's alike.

A rank that fails takes its connections with it, so its neighbours fail a moment later. The error
that is raised names the rank where it began.
"""

from pipelab.engine.failures import sentences
from pipelab.engine.failures.findings import Findings, State
from pipelab.engine.failures.stalled import timed_out
from pipelab.engine.protocol.failure import FailureKind
from pipelab.errors import RankError


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

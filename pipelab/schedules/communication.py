"""Lowering: from a schedule of computation to one with its messages and optimizer steps.

A walk in which every action takes one unit of time gives one global order that all ranks can
follow. Each SEND stands right after the action that made its result. Its RECV *posts* a buffer
(it never blocks) on the receiving rank, at the moment of the SEND and then one computing action
earlier, so that the message travels while the rank still computes something else. Executing the
global order proves that no deadlock is possible even where a send blocks until its receive is
posted (rendezvous): when a SEND is due, its RECV is already there.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pipelab.action import COMPUTE, Action, Kind, needs
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.walk import walk

AHEAD = 1  # computing actions by which a receive is posted before its message can arrive


class Message(NamedTuple):
    """One message between two ranks: its two ends, and the ranks that they run on."""

    send: Action
    recv: Action
    source: int
    destination: int


def message_of(action: Action, schedule: Schedule) -> Message | None:
    """The message that an action's result travels in, or None where it stays on its rank."""
    stage, kind, microbatch = action
    match kind:
        case Kind.F if stage + 1 < schedule.num_stages:
            to, send, recv = stage + 1, Kind.SEND_F, Kind.RECV_F
        case Kind.B | Kind.I if stage > 0:
            to, send, recv = stage - 1, Kind.SEND_B, Kind.RECV_B
        case _:
            return None
    source, destination = schedule.rank_of_stage[stage], schedule.rank_of_stage[to]
    if source == destination:
        return None
    return Message(
        Action(stage, send, microbatch), Action(to, recv, microbatch), source, destination
    )


def lower(schedule: Schedule) -> Schedule:
    """The same schedule with SEND, RECV and, at the end of each rank's row, STEP.

    >>> from pipelab.schedules import gpipe
    >>> print(lower(gpipe(2, 1)).to_csv(), end="")
    0RECV_B0,0F0,0SEND_F0,0B0,0STEP
    1RECV_F0,1F0,1B0,1SEND_B0,1STEP
    """
    visits = walk(schedule.ranks, partial(needs, num_stages=schedule.num_stages))
    # groups[rank][slot]: a computing action and its SEND; posted[rank][slot]: RECVs before it
    groups: list[list[list[Action]]] = [[] for _ in schedule.ranks]
    posted: list[dict[int, list[Action]]] = [defaultdict(list) for _ in schedule.ranks]
    for visit in sorted(visits, key=lambda v: (v.end, v.rank)):
        groups[visit.rank].append([visit.action])
        if message := message_of(visit.action, schedule):
            groups[message.source][-1].append(message.send)
            slot = max(0, len(groups[message.destination]) - AHEAD)
            posted[message.destination][slot].append(message.recv)
    rows = []
    for rank, slots in enumerate(groups):
        row = [a for slot, group in enumerate(slots) for a in (*posted[rank][slot], *group)]
        rows.append((*row, *(Action(s, Kind.STEP) for s in schedule.stages_of(rank))))
    return Schedule(tuple(rows), schedule.name)


def message_needs(schedule: Schedule, rendezvous: bool = True) -> Callable[[Action], list[Action]]:
    """What each action of a *lowered* schedule waits for, under a stated send rule.

    With ``rendezvous`` a SEND blocks until its RECV is posted, the strictest rule that NCCL may
    follow; without, sends are buffered. A RECV only posts a buffer and waits for nothing.
    """

    def wanted(action: Action) -> list[Action]:
        stage, kind, microbatch = action
        match kind:
            case Kind.SEND_F:
                own, posted = Kind.F, Action(stage + 1, Kind.RECV_F, microbatch)
            case Kind.SEND_B:
                own, posted = Kind.I, Action(stage - 1, Kind.RECV_B, microbatch)
            case _ if kind in COMPUTE:
                return [r for n in needs(action, schedule.num_stages) for r in arrival(n, action)]
            case _:
                return []
        return [Action(stage, own, microbatch), *([posted] if rendezvous else [])]

    def arrival(result: Action, action: Action) -> list[Action]:
        message = message_of(result, schedule) if result.stage != action.stage else None
        return [message.send, message.recv] if message else [result]

    return wanted

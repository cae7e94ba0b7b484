"""Lowering: from a schedule of computation to one with its messages and optimizer steps.

A walk in which every action takes one unit of time gives one global order that all ranks can
follow. Each SEND stands right after the action that made its result. Its RECV *posts* a buffer
(it never blocks) on the receiving rank, at the moment of the SEND and then one computing action
earlier, so that the message travels while the rank still computes something else. Executing the
global order proves that no deadlock is possible even where a send blocks until its receive is
posted (rendezvous): when a SEND is due, its RECV is already there.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from pipelab.action import Action, Kind, needs
from pipelab.schedules.collector import paused_collector
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.walk import walk

# Looked up once: in Python 3.11 each ``Kind.F`` is a function call, and these run by the million.
_F, _B, _I, _W = Kind.F, Kind.B, Kind.I, Kind.W
_SEND_F, _RECV_F, _SEND_B, _RECV_B = Kind.SEND_F, Kind.RECV_F, Kind.SEND_B, Kind.RECV_B
_REDUCE_GRAD, _STEP = Kind.REDUCE_GRAD, Kind.STEP


class Message(NamedTuple):
    """One message between two ranks: its two ends, and the ranks that they run on."""

    send: Action
    recv: Action
    source: int
    destination: int


def message_of(action: Action, schedule: Schedule) -> Message | None:
    """The message that an action's result travels in, or None where it stays on its rank."""
    stage, kind, microbatch = action
    if kind is _F and stage + 1 < schedule.num_stages:
        to, send, recv = stage + 1, _SEND_F, _RECV_F
    elif (kind is _B or kind is _I) and stage > 0:
        to, send, recv = stage - 1, _SEND_B, _RECV_B
    else:
        return None
    source, destination = schedule.rank_of_stage[stage], schedule.rank_of_stage[to]
    if source == destination:
        return None
    return Message(
        Action(stage, send, microbatch), Action(to, recv, microbatch), source, destination
    )


@paused_collector()
def lower(schedule: Schedule, replicas: int = 1) -> Schedule:
    """The same schedule with SEND, RECV and, at the end of each rank's row, STEP.

    Args:
        replicas: with more than one, each stage's gradients are averaged over them: REDUCE_GRAD
            stands right behind the stage's last backward (and its SEND, for which others wait),
            so that it overlaps with the cooldown.

    Raises:
        DeadlockError: the actions wait for each other, whatever the messages do.

    >>> from pipelab.schedules import gpipe
    >>> print(lower(gpipe(2, 1)).to_csv(), end="")
    0RECV_B0,0F0,0SEND_F0,0B0,0STEP
    1RECV_F0,1F0,1B0,1SEND_B0,1STEP
    """
    visits = walk(schedule.compute.ranks, partial(needs, num_stages=schedule.num_stages))
    # groups[rank][slot]: a computing action and its SEND; posted[rank][slot]: RECVs before it
    groups: list[list[list[Action]]] = [[] for _ in schedule.ranks]
    posted: list[dict[int, list[Action]]] = [defaultdict(list) for _ in schedule.ranks]
    for _, rank, action in sorted((v.end, v.rank, v.action) for v in visits):
        groups[rank].append([action])
        if message := message_of(action, schedule):
            groups[rank][-1].append(message.send)
            slot = max(0, len(groups[message.destination]) - 1)
            posted[message.destination][slot].append(message.recv)
    rows = []
    for rank, slots in enumerate(groups):
        if replicas > 1:
            _add_reductions(slots)
        row = [a for slot, group in enumerate(slots) for a in (*posted[rank].get(slot, ()), *group)]
        rows.append((*row, *(Action(s, Kind.STEP) for s in schedule.stages_of(rank))))
    return Schedule(tuple(rows), schedule.name)


def _add_reductions(slots: Sequence[list[Action]]) -> None:
    """REDUCE_GRAD at the end of each stage's last slot, which holds its last B or W."""
    last = {group[0].stage: group for group in slots}
    for stage, group in last.items():
        group.append(Action(stage, _REDUCE_GRAD))


def message_needs(schedule: Schedule, rendezvous: bool = True) -> Callable[[Action], list[Action]]:
    """What each action of a *lowered* schedule waits for, under a stated send rule.

    With ``rendezvous`` a SEND blocks until its RECV is posted, the strictest rule that NCCL may
    follow; without, sends are buffered. A RECV only posts a buffer and waits for nothing. A STEP
    waits for its stage's REDUCE_GRAD, where the schedule has one.
    """
    reduced = {a.stage for row in schedule.ranks for a in row if a.kind is _REDUCE_GRAD}
    home, last = schedule.rank_of_stage, schedule.num_stages - 1

    def wanted(action: Action) -> list[Action]:
        stage, kind, microbatch = action
        if kind is _F:
            if stage == 0 or home[stage - 1] == home[stage]:
                return needs(action, last + 1)
            return [Action(stage - 1, _SEND_F, microbatch), Action(stage, _RECV_F, microbatch)]
        if kind is _B or kind is _I:
            if stage == last or home[stage + 1] == home[stage]:
                return needs(action, last + 1)
            own, sent = Action(stage, _F, microbatch), Action(stage + 1, _SEND_B, microbatch)
            return [own, sent, Action(stage, _RECV_B, microbatch)]
        if kind is _SEND_F or kind is _SEND_B:
            return send_needs(action)
        if kind is _W:
            return [Action(stage, _I, microbatch)]
        return [Action(stage, _REDUCE_GRAD)] if kind is _STEP and stage in reduced else []

    def send_needs(action: Action) -> list[Action]:
        stage, kind, microbatch = action
        own = Action(stage, _F if kind is _SEND_F else _I, microbatch)
        if not rendezvous:
            return [own]
        to, recv = (stage + 1, _RECV_F) if kind is _SEND_F else (stage - 1, _RECV_B)
        return [own, Action(to, recv, microbatch)]

    return wanted

"""Messages between ranks: which there are, what waits for them, and whether those by hand fit.

rank 0   0F0  0SEND_F0           a result that another rank needs leaves in a SEND
rank 1   1RECV_F0  1F0           and arrives in a buffer that a RECV has posted
"""

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from itertools import zip_longest
from operator import itemgetter
from typing import NamedTuple

from pipelab.action import MESSAGES, SENDS, Action, Kind, needs
from pipelab.schedules.schedule import Schedule, refusal

# Looked up once: in Python 3.11 each ``Kind.F`` is a function call, and these run by the million.
_F, _B, _I, _W = Kind.F, Kind.B, Kind.I, Kind.W
_SEND_F, _RECV_F, _SEND_B, _RECV_B = Kind.SEND_F, Kind.RECV_F, Kind.SEND_B, Kind.RECV_B
_REDUCE_GRAD, _STEP = Kind.REDUCE_GRAD, Kind.STEP


class Route(NamedTuple):
    """How the results of one kind and stage travel: from rank to rank, and to which stage."""

    send: Kind
    recv: Kind
    stage: int
    source: int
    destination: int


class Message(NamedTuple):
    """One message between two ranks: its two ends, and the ranks that they run on."""

    send: Action
    recv: Action
    source: int
    destination: int


def routes(schedule: Schedule) -> Callable[[int, Kind], Route | None]:
    """How the results of a stage and kind travel, or None where they stay on their rank."""
    home, num_stages = schedule.rank_of_stage, schedule.num_stages

    @cache
    def route(stage: int, kind: Kind) -> Route | None:
        if kind is _F and stage + 1 < num_stages:
            to, send, recv = stage + 1, _SEND_F, _RECV_F
        elif (kind is _B or kind is _I) and stage > 0:
            to, send, recv = stage - 1, _SEND_B, _RECV_B
        else:
            return None
        if home[stage] == home[to]:
            return None
        return Route(send, recv, to, home[stage], home[to])

    return route


def message_of(action: Action, schedule: Schedule) -> Message | None:
    """The message that an action's result travels in, or None where it stays on its rank."""
    return _message(action, routes(schedule)(action.stage, action.kind))


def _message(action: Action, route: Route | None) -> Message | None:
    if route is None:
        return None
    stage, _, microbatch = action
    send, recv = Action(stage, route.send, microbatch), Action(route.stage, route.recv, microbatch)
    return Message(send, recv, route.source, route.destination)


def message_needs(schedule: Schedule, rendezvous: bool = True) -> Callable[[Action], list[Action]]:
    """What each action of a *lowered* schedule waits for, under a stated send rule.

    With ``rendezvous`` a SEND blocks until its RECV is posted, the strictest rule that NCCL may
    follow; without, sends are buffered. A RECV only posts a buffer and waits for nothing. A STEP
    waits for its stage's REDUCE_GRAD, where the schedule has one.
    """
    rows = (row for row in schedule.ranks if _REDUCE_GRAD in set(map(itemgetter(1), row)))
    reduced = {a.stage for row in rows for a in row if a.kind is _REDUCE_GRAD}
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


def check_messages(schedule: Schedule) -> None:
    """Every result that leaves its rank is sent once and received once, in the same order.

    Where messages have no tags (NCCL), only the order of a channel distinguishes them:
    two crossed messages would swap their contents.

    Raises:
        ScheduleError: a message missing, doubled, out of place, or crossed with another.
    """
    route = routes(schedule)
    found = (_message(a, route(a.stage, a.kind)) for row in schedule.ranks for a in row)
    expected = {message.send: message for message in found if message}
    expected |= {message.recv: message for message in expected.values()}
    cells: dict[Action, list[tuple[int, int]]] = defaultdict(list)
    for rank, row in enumerate(schedule.ranks):
        for i, action in enumerate(row):
            if action.kind in MESSAGES:
                _check_place(schedule, action, (rank, i), expected.get(action))
                cells[action].append((rank, i))
    for action in expected:
        if len(cells[action]) != 1:
            raise refusal(
                f"{action.token} stands {len(cells[action])} times: every message has one SEND "
                f"and one RECV",
                schedule.ranks,
                cells[action],
            )
    _check_channels(schedule, expected, {action: cell for action, (cell,) in cells.items()})


def _check_place(
    schedule: Schedule, action: Action, cell: tuple[int, int], message: Message | None
) -> None:
    """A message stands on the rank that it leaves from, or arrives on."""
    rank, _ = cell
    sends = action.kind in SENDS
    if message is None or rank != (message.source if sends else message.destination):
        raise refusal(
            f"rank {rank}: {action.token} is no message of this rank: "
            f"remove it, or move it to the rank of its stage",
            schedule.ranks,
            [cell],
        )


def _check_channels(
    schedule: Schedule, expected: dict[Action, Message], cell: dict[Action, tuple[int, int]]
) -> None:
    """Between two ranks, sends and receives stand in the same order."""
    sends: dict[tuple[int, int], list[Message]] = defaultdict(list)
    receives: dict[tuple[int, int], list[Message]] = defaultdict(list)
    for row in schedule.ranks:
        for action in row:
            if action.kind in MESSAGES:
                message = expected[action]
                channel = (message.source, message.destination)
                (sends if action.kind in SENDS else receives)[channel].append(message)
    for (source, destination), sent in sends.items():
        for a, b in zip_longest(sent, receives[source, destination]):
            if a != b:
                raise refusal(
                    f"rank {source} sends {a.send.token} where rank {destination} receives "
                    f"{b.recv.token}: crossed messages swap their contents; put both ends in the "
                    f"same order",
                    schedule.ranks,
                    [cell[a.send], cell[b.recv]],
                )

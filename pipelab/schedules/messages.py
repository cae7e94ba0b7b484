"""Judge what a lowered schedule adds to its computation.

Messages: all there, once, in one order at both ends. REDUCE_GRAD and STEP: behind the backwards.
"""

from collections import Counter, defaultdict
from itertools import zip_longest

from pipelab.action import MESSAGES, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules.communication import Message, message_of
from pipelab.schedules.grid import marked
from pipelab.schedules.schedule import Schedule

_SENDS = (Kind.SEND_F, Kind.SEND_B)
_TURNS = {Kind.B: 0, Kind.I: 0, Kind.W: 0, Kind.REDUCE_GRAD: 1, Kind.STEP: 2}


def check_messages(lowered: Schedule, compute: Schedule) -> None:
    """Every result that leaves its rank is sent once and received once, in the same order.

    Where messages have no tags (NCCL), the order of a channel is all that tells them apart: two
    crossed messages would swap their contents.

    Raises:
        ScheduleError: a message missing, doubled, out of place, or crossed with another.
    """
    found = (message_of(action, compute) for row in compute.ranks for action in row)
    expected = {message.send: message for message in found if message}
    expected |= {message.recv: message for message in expected.values()}
    at = {}
    for rank, row in enumerate(lowered.ranks):
        for i, action in enumerate(row):
            if action.kind in MESSAGES:
                _check_place(lowered, action, rank, i, expected.get(action))
                at[action] = (rank, i)
    count = Counter(a for row in lowered.ranks for a in row if a.kind in MESSAGES)
    for action in expected:
        if count[action] != 1:
            raise ScheduleError(
                f"{action.token} stands {count[action]} times: every message has one SEND and one "
                f"RECV"
            )
    _check_channels(lowered, expected, at)


def _check_place(
    lowered: Schedule, action: Action, rank: int, i: int, message: Message | None
) -> None:
    sends = action.kind in _SENDS
    if message is None or rank != (message.source if sends else message.destination):
        raise ScheduleError(
            f"rank {rank}: {action.token} is no message of this rank: "
            f"remove it, or move it to the rank of its stage\n" + marked(lowered.ranks, [(rank, i)])
        )


def _check_channels(
    lowered: Schedule, expected: dict[Action, Message], at: dict[Action, tuple[int, int]]
) -> None:
    """Between two ranks, sends and receives stand in the same order."""
    sends: dict[tuple[int, int], list[Message]] = defaultdict(list)
    receives: dict[tuple[int, int], list[Message]] = defaultdict(list)
    for row in lowered.ranks:
        for action in row:
            if action.kind in MESSAGES:
                message = expected[action]
                channel = (message.source, message.destination)
                (sends if action.kind in _SENDS else receives)[channel].append(message)
    for (source, destination), sent in sends.items():
        for a, b in zip_longest(sent, receives[source, destination]):
            if a != b:
                raise ScheduleError(
                    f"rank {source} sends {a.send.token} where rank {destination} receives "
                    f"{b.recv.token}: crossed messages swap their contents; put both ends in the "
                    f"same order\n" + marked(lowered.ranks, [at[a.send], at[b.recv]])
                )


def check_steps(lowered: Schedule) -> None:
    """A stage's REDUCE_GRAD and STEP stand at most once, in this order, behind its backwards.

    Raises:
        ScheduleError: one of them doubled or too early.
    """
    for rank, row in enumerate(lowered.ranks):
        reached: dict[int, tuple[int, int]] = {}
        for i, action in enumerate(row):
            turn = _TURNS.get(action.kind)
            if turn is None:
                continue
            latest, j = reached.get(action.stage, (0, i))
            if turn < latest or turn == latest > 0:
                raise ScheduleError(
                    f"rank {rank} runs {row[j].token} (position {j}) before {action.token} "
                    f"(position {i}): a stage averages its gradients once and steps once, in this "
                    f"order, after its last backward; move {row[j].token} down, or remove it\n"
                    + marked(lowered.ranks, [(rank, j), (rank, i)])
                )
            reached[action.stage] = turn, i

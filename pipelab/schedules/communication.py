"""Lowering: from a schedule as it is written to one that ranks can run, with all its messages.

What a schedule of computation gets: a walk in which every action takes one unit of time gives one
global order that all ranks can follow. Each SEND stands right after the action that made its
result. Its RECV *posts* a buffer (it never blocks) on the receiving rank, at the moment of the SEND
and then one computing action earlier, so that the message travels while the rank still computes
something else. Executing the global order proves that no deadlock is possible even where a send
blocks until its receive is posted (rendezvous): when a SEND is due, its RECV is already there.

Messages written by hand stay where they are: they are judged, and a walk looks for a deadlock.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import cached_property, partial
from itertools import chain
from operator import itemgetter

from pipelab.action import MESSAGES, RECEIVES, Action, Kind, needs
from pipelab.collector import paused_collector
from pipelab.errors import DeadlockError
from pipelab.schedules import rules
from pipelab.schedules.messages import check_messages, message_needs, routes
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.sliced import check_slices, whole_microbatches
from pipelab.schedules.walk import walk

Row = tuple[Action, ...]

_BACKWARD = frozenset({Kind.B, Kind.I, Kind.W})
_FORWARD = frozenset({Kind.F, Kind.SEND_F, Kind.RECV_F})
_THE_JUDGE = object()  # what ``lower`` signs with


@dataclass(frozen=True)
class Lowered(Schedule):
    """A schedule that can run: judged, and with its messages. Only ``lower`` makes one.

    Attributes:
        ranks: for each rank, its actions in order, messages included.
        schedule: as it was written.
        rendezvous: whether it runs where a send blocks until its receive is posted; otherwise it
            was judged for buffered sends alone.
    """

    _: KW_ONLY
    schedule: Schedule
    rendezvous: bool
    signature: InitVar[object]

    def __post_init__(self, signature: object) -> None:
        if signature is not _THE_JUDGE:
            raise TypeError("lower(schedule) makes a Lowered, which proves that it can run")

    @cached_property
    def forwards(self) -> tuple[Row, ...]:
        """For each rank, its forwards alone with their messages: an evaluation."""
        if _has_messages(self.schedule):  # a part of an order that runs, runs
            kept = ((a for a in row if a.kind in _FORWARD) for row in self.ranks)
            return tuple(map(whole_microbatches, kept))
        rows = (whole_microbatches(a for a in row if a.kind is Kind.F) for row in self.ranks)
        forwards = Schedule(tuple(rows))  # without backwards, nothing overlaps
        return tuple(map(tuple, _with_messages(forwards, _unit_walk(forwards))))


@paused_collector()
def lower(schedule: Schedule, replicas: int = 1, rendezvous: bool = True) -> Lowered:
    """The same schedule, judged, with SEND, RECV and, at the end of each rank's row, STEP.

    A schedule that holds messages already keeps them and all else as it stands. A ``Lowered`` comes
    back as it is; only one that was judged for buffered sends is judged again for rendezvous.

    Args:
        replicas: with more than one, each stage's gradients are averaged over them: REDUCE_GRAD
            stands right behind the stage's last backward (and its SEND, for which others wait),
            so that it overlaps with the cooldown.
        rendezvous: how messages written by hand are judged: a send blocks until its receive is
            posted. Without it, sends are buffered. Messages placed here run under both rules.

    Raises:
        ScheduleError: a rank without actions, a stage missing or on two ranks, an action
            missing, doubled, or before what it needs on its own rank; a message,
            REDUCE_GRAD or STEP out of place.
        DeadlockError: ranks wait for each other.

    >>> from pipelab.schedules import gpipe
    >>> print(lower(gpipe(2, 1)).to_csv(), end="")
    0RECV_B0,0F0,0SEND_F0,0B0,0STEP
    1RECV_F0,1F0,1B0,1SEND_B0,1STEP
    """
    if isinstance(schedule, Lowered):
        if schedule.rendezvous or not rendezvous:
            return schedule
        schedule = schedule.schedule
    starts = _judge(schedule, rendezvous)
    if _has_messages(schedule):
        return _signed(schedule, schedule.ranks, rendezvous)
    rows = with_updates(_with_messages(schedule, starts), replicas)
    return _signed(schedule, rows, rendezvous=True)


def _signed(schedule: Schedule, rows: tuple[Row, ...], rendezvous: bool) -> Lowered:
    return Lowered(
        rows, schedule.name, overlaps=schedule.overlaps, shares=schedule.shares,
        schedule=schedule, rendezvous=rendezvous,
        signature=_THE_JUDGE,
    )  # fmt: skip


@paused_collector()
def validate(schedule: Schedule, rendezvous: bool = True) -> None:
    """Return if the schedule can run; say what is wrong with it otherwise.

    It is what ``lower`` says, without its result.

    Args:
        rendezvous: how messages written by hand are judged; see ``lower``.

    Raises:
        ScheduleError: an action or a message missing, doubled or out of place.
        DeadlockError: ranks wait for each other.
    """
    proven = isinstance(schedule, Lowered) and (schedule.rendezvous or not rendezvous)
    if not proven:
        _judge(schedule, rendezvous)


@paused_collector()
def timed_rows(schedule: Schedule) -> tuple[Row, ...]:
    """The rows of ``lower`` for buffered sends, without RECVs: they take no time.

    A RECV only opens a buffer, and the schedule is judged here: each stands before its use.

    Raises:
        ScheduleError: as ``lower``.

    >>> from pipelab.schedules import gpipe
    >>> [" ".join(a.token for a in row) for row in timed_rows(gpipe(2, 1))]
    ['0F0 0SEND_F0 0B0 0STEP', '1F0 1B0 1SEND_B0 1STEP']
    """
    validate(schedule, rendezvous=False)
    if _has_messages(schedule):
        return tuple(tuple(a for a in row if a.kind not in RECEIVES) for row in schedule.ranks)
    route = routes(schedule)
    rows: list[list[Action]] = [[] for _ in schedule.ranks]
    for row, written in zip(rows, schedule.ranks, strict=True):
        for action in written:
            row.append(action)
            if there := route(action.stage, action.kind):
                row.append(Action(action.stage, there.send, action.microbatch))
    return with_updates(rows)


def with_updates(rows: Iterable[Iterable[Action]], replicas: int = 1) -> tuple[Row, ...]:
    """The rows with what they lack at the end of a training step; what is there stays in place.

    For each stage: with several replicas REDUCE_GRAD, right behind its last backward and the SEND
    of that one; STEP at the end of the row.
    """
    completed = []
    for row in map(list, rows):
        there = {action for action in row if action.microbatch is None}
        for stage in sorted(set(map(itemgetter(0), row))):
            reduce = Action(stage, Kind.REDUCE_GRAD)
            if replicas > 1 and reduce not in there:
                row.insert(_behind_backwards(row, stage), reduce)
            if (step := Action(stage, Kind.STEP)) not in there:
                row.append(step)
        completed.append(tuple(row))
    return tuple(completed)


def _behind_backwards(row: list[Action], stage: int) -> int:
    """The position behind a stage's last backward, and behind its SEND if that follows at once."""
    last = max(i for i, a in enumerate(row) if a.stage == stage and a.kind in _BACKWARD)
    send = Action(stage, Kind.SEND_B, row[last].microbatch)
    return last + 2 if row[last + 1 : last + 2] == [send] else last + 1


def _has_messages(schedule: Schedule) -> bool:
    return any(action.kind in MESSAGES for row in schedule.ranks for action in row)


def _judge(schedule: Schedule, rendezvous: bool) -> list[list[float]]:
    """Raise if it cannot run; return when each action starts if each takes one unit of time."""
    rules.check_stages(schedule)
    check_slices(schedule)
    rules.check_complete(schedule)
    rules.check_overlaps(schedule)
    if _has_messages(schedule):
        rules.check_order(schedule)
        check_messages(schedule)
        rules.check_steps(schedule)
        needed = message_needs(schedule, rendezvous)
        return walk(schedule.ranks, needed, together=schedule.together)
    rules.check_steps(schedule)
    return _unit_walk(schedule)


def _unit_walk(schedule: Schedule) -> list[list[float]]:
    """When each action of a schedule without messages starts if each takes one unit of time."""
    try:
        needed = partial(needs, num_stages=schedule.num_stages)
        return walk(schedule.ranks, needed, together=schedule.together)
    except DeadlockError:
        rules.check_order(schedule)  # says it better where one rank alone is at fault
        raise


def _with_messages(schedule: Schedule, starts: list[list[float]]) -> list[list[Action]]:
    """The rows of a schedule without messages, with all of them in place."""
    rows: list[list[Action]] = [[] for _ in schedule.ranks]
    latest: list[list[Action]] = [[] for _ in schedule.ranks]  # not in its row yet: RECVs go before
    route = routes(schedule)
    programs = [iter(row) for row in schedule.ranks]
    for rank in _turns(starts):
        action = stage, kind, microbatch = next(programs[rank])
        if microbatch is None:  # STEP or REDUCE_GRAD by hand: behind the same action
            latest[rank].append(action)
            continue
        rows[rank] += latest[rank]
        latest[rank] = [action]
        if there := route(stage, kind):
            latest[rank].append(Action(stage, there.send, microbatch))
            rows[there.destination].append(Action(there.stage, there.recv, microbatch))
    return [row + last for row, last in zip(rows, latest, strict=True)]


def _turns(starts: Sequence[Sequence[float]]) -> Iterator[int]:
    """The rank of each action in the global order: slot by slot of time, in each rank by rank."""
    slots: dict[float, list[int]] = defaultdict(list)
    for rank, row in enumerate(starts):
        for start in row:
            slots[start].append(rank)
    return chain.from_iterable(slots[start] for start in sorted(slots))

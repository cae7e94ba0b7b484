"""Predict: price a schedule's actions and walk through them. Nothing runs."""

from collections.abc import Callable, Iterator, Sequence, Set
from functools import cache
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, RECEIVES, SENDS, Action, Kind
from pipelab.schedules import Schedule
from pipelab.schedules.collector import paused_collector
from pipelab.schedules.communication import timed_rows
from pipelab.schedules.messages import message_needs
from pipelab.schedules.walk import walk
from pipelab.simulator.cost import Cost
from pipelab.trace import Event, Setting, Trace

_WAIT = Kind.WAIT  # looked up once: in Python 3.11 each is a function call


@paused_collector()
def simulate(schedule: Schedule, cost: Cost, overlap: bool = True) -> Trace:
    """The trace that ranks would record if every action took exactly its cost.

    A SEND lasts from the moment that the message leaves until it arrives, a WAIT from the moment
    that a rank is free until its next computation starts. Sends are buffered: they do not wait
    for their receivers.

    Args:
        schedule: of computation, which then gets its messages; or with messages, written by hand.
            A schedule that is lowered already is taken as it is.
        cost: seconds and bytes.
        overlap: messages and reductions travel beside the computation. Without it, each keeps
            the rank that sends or reduces busy until it has arrived.

    Raises:
        ScheduleError: the schedule cannot run, or the cost is one of another number of stages.

    >>> from pipelab.schedules import one_f_one_b
    >>> simulate(one_f_one_b(4, 8), Cost()).duration
    33.0
    """
    rows = timed_rows(schedule)
    cost.check_stages(schedule.num_stages)
    cost.check_microbatches(schedule.num_microbatches)
    alike = not cost.varies_by_microbatch
    home = schedule.rank_of_stage
    beside = SENDS | {Kind.REDUCE_GRAD} if overlap else frozenset[Kind]()

    @cache
    def priced(stage: int, kind: Kind, microbatch: int) -> _Price:
        return _price(Action(stage, kind, microbatch), cost, home)

    def price(action: Action) -> _Price:  # one for all microbatches where these are alike
        return priced(action.stage, action.kind, 0 if alike else action.microbatch or 0)

    def busy(action: Action) -> float:
        return 0.0 if action.kind in beside else price(action).seconds

    def travel(action: Action) -> float:
        return price(action).seconds if action.kind in beside else 0.0

    wanted = message_needs(schedule, rendezvous=False)

    def needs(action: Action) -> list[Action]:
        return [result for result in wanted(action) if result.kind not in RECEIVES]

    events: list[Event] = []
    for rank, starts in enumerate(walk(rows, needs, busy, travel, alike)):
        events += _events(rank, rows[rank], starts, price, beside)
    setting = Setting(
        schedule.name, schedule.num_ranks, schedule.num_microbatches, "", "", str(cost)
    )
    return Trace(tuple(events), "predicted", setting)


class _Price(NamedTuple):
    """What an action takes; ``peer``: where a SEND goes to, or F, B and I receive from."""

    seconds: float
    bytes: int
    peer: int | None


def _price(action: Action, cost: Cost, home: dict[int, int]) -> _Price:
    if action.kind in SENDS:
        other = action.stage + (1 if action.kind is Kind.SEND_F else -1)
        return _Price(cost.message_seconds(action), cost.message_size(action), home[other])
    other = action.stage + (-1 if action.kind is Kind.F else 1)
    return _Price(cost.seconds(action), cost.kept_bytes(action), home.get(other))


def _events(
    rank: int,
    row: Sequence[Action],
    starts: Sequence[float],
    price: Callable[[Action], _Price],
    beside: Set[Kind],
) -> Iterator[Event]:
    """What one rank's actions leave in the trace."""
    free = 0.0  # since when the rank has nothing else to do
    for action, start in zip(row, starts, strict=True):
        stage, kind, microbatch = action
        seconds, size, peer = price(action)
        end = start + seconds
        if kind in COMPUTE:
            if free < start:
                yield Event(rank, _WAIT, stage, microbatch, free, start, 0, peer)
            yield Event(rank, kind, stage, microbatch, start, end, size)
        elif kind in SENDS:
            yield Event(rank, kind, stage, microbatch, start, end, size, peer)
        elif kind in PER_STAGE and seconds > 0:
            yield Event(rank, kind, stage, None, start, end)
        free = start if kind in beside else end

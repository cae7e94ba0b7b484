"""Predict: price a schedule's actions and walk through them. Nothing runs."""

from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, SENDS, Action, Kind
from pipelab.schedules import Schedule
from pipelab.schedules.collector import paused_collector
from pipelab.schedules.communication import lower
from pipelab.schedules.messages import message_needs
from pipelab.schedules.walk import Visit, walk
from pipelab.simulator.cost import Cost
from pipelab.trace import Event, Setting, Trace


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
    lowered = lower(schedule, rendezvous=False)  # sends are buffered
    cost.check_stages(lowered.num_stages)
    beside = SENDS | {Kind.REDUCE_GRAD} if overlap else frozenset[Kind]()

    @cache  # one price for all microbatches
    def price(stage: int, kind: Kind) -> _Price:
        return _price(Action(stage, kind, 0), cost, lowered.rank_of_stage)

    def busy(action: Action) -> float:
        return 0.0 if action.kind in beside else price(action.stage, action.kind).seconds

    def travel(action: Action) -> float:
        return price(action.stage, action.kind).seconds if action.kind in beside else 0.0

    rows: list[list[Event]] = [[] for _ in lowered.ranks]
    for visit in walk(lowered.ranks, message_needs(lowered, rendezvous=False), busy, travel):
        rows[visit.rank].extend(_events(visit, price(visit.action.stage, visit.action.kind)))
    setting = Setting(lowered.name, lowered.num_ranks, lowered.num_microbatches, "", "", str(cost))
    return Trace(tuple(chain.from_iterable(rows)), "predicted", setting)


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


def _events(visit: Visit, price: _Price) -> Iterator[Event]:
    """What one action leaves in the trace: nothing for a RECV, which only opens a buffer."""
    rank, (stage, kind, microbatch), free, start, _ = visit
    end = start + price.seconds
    if kind in COMPUTE:
        if free < start:
            yield Event(rank, Kind.WAIT, stage, microbatch, free, start, 0, price.peer)
        yield Event(rank, kind, stage, microbatch, start, end, price.bytes)
    elif kind in SENDS:
        yield Event(rank, kind, stage, microbatch, start, end, price.bytes, price.peer)
    elif kind in PER_STAGE and price.seconds > 0:
        yield Event(rank, kind, stage, None, start, end)

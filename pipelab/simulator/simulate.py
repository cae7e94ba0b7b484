"""Predict: price a schedule's actions and walk through them. Nothing runs."""

from functools import cache
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, RECEIVES, SENDS, Action, Kind
from pipelab.schedules import Schedule
from pipelab.schedules.collector import paused_collector
from pipelab.schedules.communication import lower
from pipelab.schedules.messages import message_needs
from pipelab.schedules.walk import walk
from pipelab.simulator.cost import Cost
from pipelab.trace import Event, Setting, Trace

_WAIT = Kind.WAIT


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
        ScheduleError: the schedule cannot run, or the cost names too few stages.

    >>> from pipelab.schedules import one_f_one_b
    >>> simulate(one_f_one_b(4, 8), Cost()).duration
    33.0
    """
    lowered = lower(schedule, rendezvous=False)  # sends are buffered
    beside = SENDS | {Kind.REDUCE_GRAD} if overlap else frozenset[Kind]()

    @cache  # one price for all microbatches
    def price(stage: int, kind: Kind) -> _Price:
        return _price(Action(stage, kind, 0), cost, lowered.rank_of_stage)

    def busy(action: Action) -> float:
        return 0.0 if action.kind in beside else price(action.stage, action.kind).seconds

    def travel(action: Action) -> float:
        return price(action.stage, action.kind).seconds if action.kind in beside else 0.0

    wanted = message_needs(lowered, rendezvous=False)

    def needs(action: Action) -> list[Action]:
        return [result for result in wanted(action) if result.kind not in RECEIVES]

    # RECVs take no time, and lower has shown that each opens its buffer before its message's use
    rows = [[a for a in row if a.kind not in RECEIVES] for row in lowered.ranks]
    starts = walk(rows, needs, busy, travel)
    events: list[Event] = []
    for rank, row in enumerate(rows):
        free = 0.0
        for (stage, kind, microbatch), start in zip(row, starts[rank], strict=True):
            seconds, size, peer = price(stage, kind)
            end = start + seconds
            if kind in COMPUTE:
                if free < start:
                    events.append(Event(rank, _WAIT, stage, microbatch, free, start, 0, peer))
                events.append(Event(rank, kind, stage, microbatch, start, end, size))
            elif kind in SENDS:
                events.append(Event(rank, kind, stage, microbatch, start, end, size, peer))
            elif kind in PER_STAGE and seconds > 0:
                events.append(Event(rank, kind, stage, None, start, end))
            free = start if kind in beside else end
    setting = Setting(lowered.name, lowered.num_ranks, lowered.num_microbatches, "", "", str(cost))
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

"""Predict: price a schedule's actions and walk through them. Nothing runs."""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from pipelab.action import (
    COMPUTE,
    PER_STAGE,
    RECEIVES,
    SENDS,
    Action,
    Kind,
    Overlap,
    numbered_on,
)
from pipelab.collector import paused_collector
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.communication import Row, timed_rows
from pipelab.schedules.messages import message_needs
from pipelab.schedules.walk import walk
from pipelab.simulator.cost import Cost
from pipelab.simulator.overlapped import prices, side_by_side
from pipelab.trace import Event, Setting, Trace

_WAIT = Kind.WAIT  # looked up once: in Python 3.11 each is a function call


@paused_collector()
def simulate(
    schedule: Schedule, cost: Cost, overlap: bool = True, steps: int = 1, barrier: bool = False
) -> Trace:
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
        steps: how many steps follow each other, as ``Pipeline.train(..., in_flight=k)`` runs them:
            each rank goes from its last action straight to the first of its next step. See
            ``Trace.joined`` for how their microbatches are numbered.
        barrier: each step begins when all ranks have ended the one before, as with one step at a
            time, or where all need a common decision (a norm to clip by, an overflow).

    Raises:
        ScheduleError: the schedule cannot run, or the cost is one of another number of stages.

    >>> from pipelab.schedules import one_f_one_b
    >>> simulate(one_f_one_b(4, 8), Cost()).duration
    33.0
    """
    if steps < 1:
        raise ScheduleError(f"steps={steps}: at least 1")
    if barrier and steps > 1:
        return _one_after_another(simulate(schedule, cost, overlap), steps)
    rows = _repeated(timed_rows(schedule), steps, schedule.num_pieces)
    overlaps = _repeated_overlaps(schedule, steps)
    cost.check_stages(schedule.num_stages)
    cost.check_microbatches(schedule.num_pieces)
    alike = not (cost.varies_by_microbatch or schedule.overlaps)
    of_overlaps = prices(schedule.overlaps, cost)
    pieces = schedule.num_pieces
    home = schedule.rank_of_stage
    beside = SENDS | {Kind.REDUCE_GRAD} if overlap else frozenset[Kind]()

    @cache
    def priced(stage: int, kind: Kind, microbatch: int) -> _Price:
        action = Action(stage, kind, microbatch)
        return _price(action, cost, home, of_overlaps.get(action))

    def price(action: Action) -> _Price:  # one for all microbatches where these are alike
        return priced(action.stage, action.kind, 0 if alike else (action.microbatch or 0) % pieces)

    def busy(action: Action) -> float:
        return 0.0 if action.kind in beside else price(action).seconds

    def travel(action: Action) -> float:
        return price(action).seconds if action.kind in beside else 0.0

    wanted = message_needs(schedule, rendezvous=False)

    def needs(action: Action) -> list[Action]:
        return [result for result in wanted(action) if result.kind not in RECEIVES]

    events: list[Event] = []
    for rank, starts in enumerate(walk(rows, needs, busy, travel, alike, dict(overlaps))):
        events += _events(rank, rows[rank], starts, price, beside)
    if overlaps:
        events = side_by_side(events, overlaps)
    setting = Setting(
        schedule.name, schedule.num_ranks, schedule.num_microbatches, "", "", str(cost),
        steps=steps, slices=schedule.slices,
    )  # fmt: skip
    return Trace(tuple(events), "predicted", setting)


def _repeated(rows: Sequence[Row], steps: int, pieces: int) -> Sequence[Row]:
    """Each rank's actions, step after step; the microbatches of later steps are numbered on."""
    if steps == 1:
        return rows
    return [
        tuple(_later(action, first) for first in range(0, steps * pieces, pieces) for action in row)
        for row in rows
    ]


def _repeated_overlaps(schedule: Schedule, steps: int) -> list[Overlap]:
    pieces = schedule.num_pieces
    return [
        Overlap(*(_later(action, step * pieces) for action in both))
        for step in range(steps)
        for both in schedule.overlaps
    ]


def _later(action: Action, pieces: int) -> Action:
    number = action.microbatch
    return action if number is None else action._replace(microbatch=numbered_on(number, pieces))


def _one_after_another(step: Trace, steps: int) -> Trace:
    seconds = max(event.end for event in step.events)
    return Trace.joined(replace(step, began=number * seconds) for number in range(steps))


class _Price(NamedTuple):
    """What an action takes; ``peer``: where a SEND goes to, or F, B and I receive from."""

    seconds: float
    bytes: int
    peer: int | None


def _price(
    action: Action, cost: Cost, home: dict[int, int], seconds: float | None = None
) -> _Price:
    if action.kind in SENDS:
        other = action.stage + (1 if action.kind is Kind.SEND_F else -1)
        return _Price(cost.message_seconds(action), cost.message_size(action), home[other])
    other = action.stage + (-1 if action.kind is Kind.F else 1)
    seconds = cost.seconds(action) if seconds is None else seconds
    return _Price(seconds, cost.kept_bytes(action), home.get(other))


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

"""The schedule that a trace followed: each rank's computations in order of their start."""

from dataclasses import replace

from pipelab.action import COMPUTE, Action, Kind
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.recognition import order_of
from pipelab.trace import Trace

UNKNOWN = "custom"


def schedule_of(trace: Trace) -> Schedule:
    """Who ran what, in which order; its name is the catalogue's where the order is the same."""
    rows: list[list[Action]] = [[] for _ in range(trace.num_ranks)]
    for e in sorted(trace.events, key=lambda e: (e.start, e.kind != Kind.F)):
        if e.kind in COMPUTE:
            rows[e.rank].append(Action(e.stage, e.kind, e.microbatch))
    pairs = order_of(trace).overlaps
    schedule = Schedule(tuple(tuple(row) for row in rows), UNKNOWN, overlaps=pairs)
    found = recognise(schedule)
    is_same = found.name is not None and not found.is_own and not found.difference
    return replace(schedule, name=found.name) if is_same and found.name else schedule


def order_in_words(schedule: Schedule) -> str:
    """What the order is, for people: ``"1F1B"``, or what it is nearest to and how it differs."""
    return str(recognise(schedule))

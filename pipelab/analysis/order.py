"""The schedule that a trace followed: each rank's computations in order of their start."""

from dataclasses import replace
from functools import lru_cache

from pipelab.action import COMPUTE, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.catalogue import BUILDERS, paper_bubble, title_of
from pipelab.schedules.recognition import order_of
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.words import number

UNKNOWN = "custom"
_ENOUGH = 0.25  # of all ranks, to say what they are a part of


def schedule_of(trace: Trace) -> Schedule:
    """Who ran what, in which order; its name is the catalogue's where the order is the same.

    Ranks that were not recorded have no actions; of the others the order is compared. If it is
    that of a longer pipeline, the last ranks were not recorded either.
    """
    rows: list[list[Action]] = [[] for _ in range(trace.num_ranks)]
    for e in sorted(trace.events, key=lambda e: (e.start, e.kind != Kind.F)):
        if e.kind in COMPUTE:
            rows[e.rank].append(Action(e.stage, e.kind, e.microbatch))
    pairs = order_of(trace).overlaps
    schedule = Schedule(tuple(tuple(row) for row in rows), UNKNOWN, overlaps=pairs)
    if all(rows):
        found = recognise(schedule)
        if found.name is not None and not found.is_own and not found.difference:
            return replace(schedule, name=found.name)
        if not trace.setting.origin:  # of ours, which hold all ranks
            return schedule
    if (part := _part_of(schedule.ranks)) is None:
        return schedule
    name, missing = part
    return replace(schedule, name=name, ranks=schedule.ranks + ((),) * missing)


@lru_cache(maxsize=64)
def _part_of(rows: tuple[tuple[Action, ...], ...]) -> tuple[str, int] | None:
    """The first of the catalogue whose ranks do the same; how many of its last ones are missing.

    At most as many as ``rows`` has; None if there is none.
    """
    schedule = Schedule(rows, UNKNOWN)
    forwards = sum(action.kind is Kind.F for row in rows for action in row)
    held = sum(len(schedule.stages_of(rank)) for rank in range(len(rows)))
    there = sum(1 for row in rows if row)
    if forwards != held * schedule.num_microbatches or there < _ENOUGH * len(rows):
        return None
    v = max(len(schedule.stages_of(rank)) for rank in range(len(rows)))
    first = 0 if not all(rows) else 1
    for missing in range(first, len(rows) + 1):
        for name, builder in BUILDERS.items():
            if builder.stages_per_rank != v and (builder.stages_per_rank or v == 1):
                continue
            try:
                built = builder.build(len(rows) + missing, schedule.num_microbatches, v)
            except ScheduleError:  # it refuses these sizes
                continue
            if all(a == b for a, b in zip(rows, built.compute.ranks, strict=False) if a):
                return name, missing
    return None


def order_in_words(schedule: Schedule) -> str:
    """What the order is, for people: ``"1F1B"``, or what it is nearest to and how it differs."""
    there = sum(1 for row in schedule.ranks if row)
    if there < schedule.num_ranks:
        title = title_of(schedule.name) if schedule.name in BUILDERS else "your own"
        return f"{title} on the {number(there, 'rank')} that were recorded"
    return str(recognise(schedule))


def formula_of(schedule: Schedule) -> tuple[str, float] | None:
    """The bubble on paper: its formula's text and value; without a formula, the simulator's.

    None for an order that cannot be simulated, as where a rank was not recorded.
    """
    v = max(len(schedule.stages_of(rank)) for rank in range(schedule.num_ranks))
    sizes = schedule.num_ranks, schedule.num_microbatches
    if found := paper_bubble(schedule.name, *sizes, v):
        return found
    try:
        bubble = simulate(schedule, Cost()).bubble_fraction
    except ScheduleError:
        return None
    return "the simulator with equal stages, F = B / 2 and free messages", bubble

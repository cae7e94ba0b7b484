"""What if: the step time with one thing changed, simulated from the trace's own costs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.analysis.own_costs import (
    Row,
    cut_into,
    spread_evenly,
    stage_costs,
    typical,
    with_stages,
)
from pipelab.analysis.slowest import Slowest
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, title_of
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate

_SHOWN = 2  # other schedules
_SAME = 1.001  # a peak that is larger by less is the same

Stages = list[Row]


class WhatIf(NamedTuple):
    """One change and the step time that it would give.

    Attributes:
        name: for programs: ``rank``, ``rank_as_elsewhere``, ``stage``, ``even``, ``free_messages``,
            ``schedule:1f1b``.
        words: what is different, follows "with".
        duration: seconds of the step, simulated.
        bubble_fraction: of that step.
    """

    name: str
    words: str
    duration: float
    bubble_fraction: float


def what_ifs(
    schedule: Schedule, cost: Cost, slowest: Slowest, elsewhere: Cost | None
) -> list[WhatIf]:
    """All changes, in the order in which they are shown.

    Args:
        schedule: that the trace followed.
        cost: of the trace.
        slowest: its slowest rank and stage.
        elsewhere: the typical cost of the other replicas, if there are any.
    """
    rows = stage_costs(cost, schedule)
    changes = [*_changes(schedule, cost, rows, slowest, elsewhere)]
    found = []
    for name, words, changed in changes:
        trace = simulate(schedule, changed)
        found.append(WhatIf(name, words, trace.duration, trace.bubble_fraction))
    return found + _other_schedules(schedule, cost, rows)


def _changes(
    schedule: Schedule, cost: Cost, rows: Stages, slowest: Slowest, elsewhere: Cost | None
) -> Iterator[tuple[str, str, Cost]]:
    rank, stage = slowest.rank.number, slowest.stage.number
    own = set(schedule.stages_of(rank))
    others = typical([row for s, row in enumerate(rows) if s not in own] or rows)
    yield (
        "rank",
        f"rank {rank} like the other ranks",
        with_stages(cost, [others if s in own else row for s, row in enumerate(rows)]),
    )
    if elsewhere is not None:
        there = stage_costs(elsewhere, schedule)
        yield (
            "rank_as_elsewhere",
            f"rank {rank} like rank {rank} of the other replicas",
            with_stages(cost, [there[s] if s in own else row for s, row in enumerate(rows)]),
        )
    others = typical([row for s, row in enumerate(rows) if s != stage] or rows)
    yield (
        "stage",
        f"stage {stage} like the other stages",
        with_stages(cost, [others if s == stage else row for s, row in enumerate(rows)]),
    )
    yield "even", "the same work spread evenly", with_stages(cost, spread_evenly(rows))
    yield "free_messages", "free messages", replace(cost, latency=0.0)


def _other_schedules(schedule: Schedule, cost: Cost, rows: Stages) -> list[WhatIf]:
    """The shortest of the catalogue that hold no more activations, each rank with the same work."""
    limit = max(peak_activations(schedule)) * _SAME
    found = []
    for name, builder in BUILDERS.items():
        if name == schedule.name:
            continue
        free = sorted({2, len(rows) // schedule.num_ranks} - {0, 1})
        for v in [builder.stages_per_rank] if builder.stages_per_rank else free:
            other = _tried(name, v, schedule, cost, rows, limit)
            found += [other] if other else []
    found.sort(key=lambda what: what.duration)
    return found[:_SHOWN]


def _tried(
    name: str, v: int, schedule: Schedule, cost: Cost, rows: Stages, limit: float
) -> WhatIf | None:
    p, m = schedule.num_ranks, schedule.num_microbatches
    try:
        other = BUILDERS[name].build(p, m, v)
        if max(peak_activations(other)) > limit:
            return None
        trace = simulate(other, with_stages(cost, cut_into(rows, other.num_stages)))
    except ScheduleError:  # not for these sizes
        return None
    kinds, own = ({a.kind for row in s.ranks for a in row} for s in (other, schedule))
    halves = ", B in halves" if Kind.W in kinds - own else ""
    words = f"{title_of(name)}{f', {v} stages a rank' if v > 1 else ''}{halves}"
    return WhatIf(f"schedule:{name}", words, trace.duration, trace.bubble_fraction)

"""What if: the step time with one thing changed, simulated from the trace's own costs."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.analysis.own_costs import (
    Priced,
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
        name: for programs: ``rank``, ``rank_as_elsewhere``, ``replica_as_elsewhere``, ``stage``,
            ``even``, ``equal_microbatches``, ``no_pauses``, ``free_messages``, ``schedule:1f1b``.
        words: what is different, follows "with".
        duration: seconds of the step, simulated.
        bubble_fraction: of that step.
    """

    name: str
    words: str
    duration: float
    bubble_fraction: float


class Compared(NamedTuple):
    """What the shown step is changed to.

    Attributes:
        slowest: its slowest rank and stage.
        equal: its stages' costs with microbatches that all take what they do on average.
        unpaused: its stages' costs without the pauses between two actions; None if they have none.
        elsewhere: the same as if they were as fast as in the other replicas; None without others.
        replica: its own replica.
    """

    slowest: Slowest
    equal: Stages
    unpaused: Stages | None = None
    elsewhere: Stages | None = None
    replica: int = 0


def what_ifs(schedule: Schedule, own: Priced, compared: Compared) -> list[WhatIf]:
    """All changes to a trace that followed ``schedule``, in the order in which they are shown."""
    rows = stage_costs(own.cost, schedule)
    changes = [
        (name, words, with_stages(own.cost, changed))
        for name, words, changed in _changes(schedule, rows, compared)
    ]
    changes.append(("free_messages", "free messages", replace(own.cost, latency=0.0)))
    found = []
    for name, words, cost in changes:
        trace = simulate(schedule, cost)
        found.append(WhatIf(name, words, trace.duration, trace.bubble_fraction))
    found += _other_schedules(schedule, own.cost, rows)
    return [_without_pauses(what, own) for what in found]


def _without_pauses(what: WhatIf, own: Priced) -> WhatIf:
    """Its bubble with what was priced as computation and is none."""
    working = 1.0 if what.name == "no_pauses" else own.working
    return what._replace(bubble_fraction=1 - (1 - what.bubble_fraction) * working)


def _changes(
    schedule: Schedule, rows: Stages, compared: Compared
) -> Iterator[tuple[str, str, Stages]]:
    """Names, words, and what the stages then cost."""
    rank, stage = compared.slowest.rank.number, compared.slowest.stage.number
    own = schedule.stages_of(rank)
    like_others = f"rank {rank} like the other ranks"
    yield "rank", like_others, _put(rows, own, _typical_beside(rows, own))
    if (there := compared.elsewhere) is not None:
        like_there = f"rank {rank} like rank {rank} of the other replicas"
        yield "rank_as_elsewhere", like_there, _put(rows, own, there)
        whole = f"all of replica {compared.replica} like the other replicas"
        yield "replica_as_elsewhere", whole, there
    like_others = f"stage {stage} like the other stages"
    yield "stage", like_others, _put(rows, [stage], _typical_beside(rows, [stage]))
    yield "even", "the same work spread evenly over the stages", spread_evenly(rows)
    equal = "microbatches that all take the same time"
    yield "equal_microbatches", equal, compared.equal
    if compared.unpaused is not None:
        yield "no_pauses", "no pause between two actions of a rank", compared.unpaused


def _put(rows: Stages, stages: Collection[int], new: Stages) -> Stages:
    return [new[s] if s in stages else row for s, row in enumerate(rows)]


def _typical_beside(rows: Stages, stages: Collection[int]) -> Stages:
    """For all stages, what is typical of those that are not ``stages``."""
    return [typical([row for s, row in enumerate(rows) if s not in stages] or rows)] * len(rows)


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

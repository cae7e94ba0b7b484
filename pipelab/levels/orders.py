"""The best orders that the search knows for a level: they set its par, and the coach leads there.

One stage on each rank: what ``best_schedule`` tried. Several: what ``par`` tried. Where stages may
move, every cut of the model into parts that stand together is tried: a part is priced as one stage,
and the order found for the parts is that of their stages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, pairwise

from pipelab.action import Action, Kind
from pipelab.levels.level import Level, score
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, best_schedule
from pipelab.simulator import par as par_of_all

_SAME = 1e-9  # seconds


@lru_cache(maxsize=32)
def best_orders(level: Level) -> tuple[Schedule, ...]:
    """The shortest orders that are known within the level's rules; all are as short as each other.

    Of the same rows only one is in it.
    """
    found: dict[tuple[tuple[Action, ...], ...], tuple[float, Schedule]] = {}
    for schedule in _tried(level):
        if _fits(level, schedule) and schedule.ranks not in found:
            found[schedule.ranks] = score(level, schedule).seconds, schedule
    shortest = min(seconds for seconds, _ in found.values())
    return tuple(each for seconds, each in found.values() if seconds <= shortest + _SAME)


def par(level: Level) -> float:
    """Seconds of the shortest step that is known."""
    return score(level, best_orders(level)[0]).seconds


def _fits(level: Level, schedule: Schedule) -> bool:
    """Whether it is the level's work: on the same ranks, and with backwards of the same form."""
    split = any(action.kind is Kind.W for row in schedule.ranks for action in row)
    return split == level.is_split and (level.may_move or schedule.rank_of_stage == level.homes)


def _tried(level: Level) -> Iterator[Schedule]:
    p, m = level.num_ranks, level.num_microbatches
    if level.may_move:
        yield from _cut_anew(level)
    elif level.num_stages == p:
        yield from (each.schedule for each in best_schedule(p, m, level.cost(), level.limit).tried)
    else:
        whole = level.cost(level.num_stages // p)
        yield from (each.schedule for each in par_of_all(p, m, whole, level.limit).tried)


def _cut_anew(level: Level) -> Iterator[Schedule]:
    p, stages = level.num_ranks, range(level.num_stages)
    for cuts in combinations(stages[1:], p - 1):
        ends = [0, *cuts, level.num_stages]
        parts = [stages[a:b] for a, b in pairwise(ends)]
        loads = [len(part) * level.slow[rank] for rank, part in enumerate(parts)]
        f, i, w = ([seconds * load for load in loads] for seconds in level.times)
        cost = Cost(f, i, w, latency=level.latency)
        best = best_schedule(p, level.num_microbatches, cost, level.limit)
        for each in best.tried:
            yield _of_stages(each.schedule, parts)


def _of_stages(schedule: Schedule, parts: Sequence[range]) -> Schedule:
    """The order of the parts, as that of their stages: forwards upwards, backwards downwards."""

    def stages(action: Action) -> Iterator[Action]:
        part = parts[action.stage]
        for stage in part if action.kind is Kind.F else reversed(part):
            yield action._replace(stage=stage)

    rows = (tuple(each for action in row for each in stages(action)) for row in schedule.ranks)
    return replace(schedule, ranks=tuple(rows))

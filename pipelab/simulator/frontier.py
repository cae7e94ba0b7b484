"""How short a step can be with how much memory: par for one limit, and the frontier of all limits.

    bubble  │ S
            │   ·──┐            the line: the shortest schedule found within each limit
            │      └─V──┐       points: the schedules of the catalogue
            │        1  └──H    below the line: nothing that we know of
            └─────────────────
              1  2  3  4  5     activations on the fullest rank, in microbatches of its slice

(Qi et al. 2024, arXiv 2405.15362, draws such a picture in section 5.)
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipelab.action import Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.counts import peak_activations
from pipelab.simulator.cost import Cost
from pipelab.simulator.search import Best, Candidate, Searching, finished, searching
from pipelab.simulator.simulate import simulate


class Point(NamedTuple):
    """One schedule: its memory, and what it leaves idle.

    Attributes:
        name: of the schedule; ``"greedy"`` for one that the search made.
        peak: activations on the fullest rank, in microbatches of its slice.
        duration: of the step, in the cost's unit.
        bubble_fraction: idle over all rank-time.
    """

    name: str
    peak: float
    duration: float
    bubble_fraction: float


class Frontier(NamedTuple):
    """Bubble against memory, for one number of ranks and microbatches and one cost.

    Attributes:
        line: the shortest schedule found for each limit at which one is shorter than with less;
            in order of memory.
        named: all schedules of the catalogue that can be had in these sizes.
    """

    num_ranks: int
    num_microbatches: int
    cost: Cost
    line: tuple[Point, ...]
    named: tuple[Point, ...]

    def within(self, memory_limit: float) -> Point:
        """The shortest that we know of within a limit, in microbatches of a rank's slice.

        Raises:
            ScheduleError: a limit below 1.
        """
        found = [point for point in self.line if point.peak <= memory_limit]
        if not found:
            raise ScheduleError(
                f"memory_limit is {memory_limit}: a rank holds at least 1 microbatch"
            )
        return found[-1]


def par(num_ranks: int, num_microbatches: int, cost: Cost, memory_limit: int | None = None) -> Best:
    """The shortest schedule that we know of within a limit, and all that it was compared with.

    ``best_schedule`` searches one stage per rank; here the schedules of several stages per rank are
    candidates too. ``bound``: the work of one rank, which nothing can beat.

    Args:
        cost: of a rank's whole slice of the model, one number for all ranks.
        memory_limit: microbatches whose activations a rank may hold at once; None for no limit.

    Raises:
        ScheduleError: a limit below 1, or a cost with a number for each stage.

    >>> par(4, 8, Cost(), memory_limit=2).schedule.name
    'v_min'
    """
    return finished(searching_par(num_ranks, num_microbatches, cost, memory_limit))


def searching_par(
    num_ranks: int, num_microbatches: int, cost: Cost, memory_limit: int | None = None
) -> Searching:
    """``par`` in steps, see ``searching``."""
    cost.for_stages(1)  # which refuses a number for each stage
    found = yield from searching(num_ranks, num_microbatches, cost, memory_limit)
    limit = min(memory_limit or num_microbatches, num_microbatches)
    others = []
    for schedule in _named(num_ranks, num_microbatches):
        yield
        if schedule.num_stages > num_ranks and max(peak_activations(schedule)) <= limit:
            others.append(_tried(schedule, cost))
            yield
    tried = tuple(sorted([*found.tried, *others], key=lambda c: c.duration))
    schedule, duration, peak = tried[0]
    work = cost.seconds(Action(0, Kind.F, 0)) + cost.seconds(Action(0, Kind.B, 0))
    return Best(schedule, duration, peak, work * num_microbatches, tried)


def frontier(num_ranks: int, num_microbatches: int, cost: Cost) -> Frontier:
    """Par for every limit, from 1 microbatch to all, and the schedules of the catalogue.

    Raises:
        ScheduleError: a cost with a number for each stage.

    >>> [point.name for point in frontier(2, 4, Cost()).line]
    ['greedy', 'zero_bubble_v']
    """
    line: list[Point] = []
    for limit in range(1, num_microbatches + 1):
        found = par(num_ranks, num_microbatches, cost, limit)
        if not line or found.duration < line[-1].duration:
            best = min(c.peak for c in found.tried if c.duration == found.duration)
            chosen = next(c for c in found.tried if (c.duration, c.peak) == (found.duration, best))
            line.append(_point(chosen, cost))
    catalogue = [_tried(schedule, cost) for schedule in _named(num_ranks, num_microbatches)]
    named = tuple(_point(c, cost) for c in catalogue)
    return Frontier(num_ranks, num_microbatches, cost, tuple(line), named)


def _named(p: int, m: int) -> Iterator[Schedule]:
    """Every schedule of the catalogue that can be had in these sizes."""
    for builder in BUILDERS.values():
        v = builder.stages_per_rank or 2
        try:
            yield builder.build(p, m, v)
        except ScheduleError:
            continue  # it wants more microbatches


def _tried(schedule: Schedule, cost: Cost) -> Candidate:
    """``cost``: of a rank's whole slice, which its stages share."""
    v = schedule.num_stages // schedule.num_ranks
    duration = simulate(schedule, cost.for_stages(v)).duration
    return Candidate(schedule, duration, max(peak_activations(schedule)))


def _point(candidate: Candidate, cost: Cost) -> Point:
    schedule, duration, peak = candidate
    v = schedule.num_stages // schedule.num_ranks
    trace = simulate(schedule, cost.for_stages(v))
    return Point(schedule.name, peak, duration, trace.bubble_fraction)

"""Search for a better schedule: all builders and a list scheduler, judged by the simulator."""

from collections.abc import Generator, Iterator
from typing import NamedTuple

from pipelab.action import SENDS, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.counts import peak_activations
from pipelab.simulator.cost import Cost
from pipelab.simulator.greedy import Preference, greedy
from pipelab.simulator.simulate import simulate

_ON_THE_WAY = (Kind.F, Kind.SEND_F)  # what each stage before adds to a microbatch's way to a rank


class Candidate(NamedTuple):
    """One schedule that was tried: predicted seconds, and the most activations of any rank."""

    schedule: Schedule
    duration: float
    peak: float


class Best(NamedTuple):
    """The shortest schedule that fits, and its proof: everything that it was compared with.

    ``tried`` is in order of duration; those above the memory limit are not in it. ``bound`` is a
    duration that no schedule of one stage per rank can beat.
    """

    schedule: Schedule
    duration: float
    peak: float
    bound: float
    tried: tuple[Candidate, ...]


Searching = Generator[None, None, Best]


def best_schedule(
    num_ranks: int, num_microbatches: int, cost: Cost, memory_limit: int | None = None
) -> Best:
    """The shortest schedule of one stage per rank, never worse than the best builder.

    Args:
        cost: seconds per action and message.
        memory_limit: microbatches whose activations a rank may hold at once; None for no limit.

    Raises:
        ScheduleError: a limit below 1: a rank must hold one microbatch to run it.

    >>> best = best_schedule(4, 8, Cost(), memory_limit=4)
    >>> best.schedule.name, best.duration <= 27.0
    ('zero_bubble_h1', True)
    """
    return finished(searching(num_ranks, num_microbatches, cost, memory_limit))


def finished(steps: Searching) -> Best:
    """What a search finds, step after step until its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            best: Best = end.value
            return best


def searching(
    num_ranks: int, num_microbatches: int, cost: Cost, memory_limit: int | None = None
) -> Searching:
    """``best_schedule`` in steps: to make a schedule, to try it. It can be left between two.

    Raises:
        ScheduleError: a limit below 1, at the first step.
    """
    if memory_limit is not None and memory_limit < 1:
        raise ScheduleError(f"memory_limit is {memory_limit}: a rank holds at least 1 microbatch")
    limit = min(memory_limit or num_microbatches, num_microbatches)
    candidates = []
    for schedule in _schedules(num_ranks, num_microbatches, cost, limit):
        yield
        peak = max(peak_activations(schedule))
        if peak <= limit:
            candidates.append(Candidate(schedule, simulate(schedule, cost).duration, peak))
        yield
    tried = tuple(sorted(candidates, key=lambda c: c.duration))
    best = tried[0]
    bound = lower_bound(num_ranks, num_microbatches, cost)
    return Best(best.schedule, best.duration, best.peak, bound, tried)


def lower_bound(num_ranks: int, num_microbatches: int, cost: Cost) -> float:
    """No rank can finish earlier: a first forward has to reach it, then it has all its work.

    The first one is the microbatch that can be there soonest, where they differ.
    """

    def seconds(kind: Kind, stage: int, microbatch: int) -> float:
        action = Action(stage, kind, microbatch)
        return cost.message_seconds(action) if kind in SENDS else cost.seconds(action)

    everything = range(num_microbatches if cost.varies_by_microbatch else 1)
    bounds = []
    for r in range(num_ranks):
        ways = [[seconds(k, s, i) for s in range(r) for k in _ON_THE_WAY] for i in everything]
        works = [seconds(Kind.F, r, i) + seconds(Kind.B, r, i) for i in everything]
        bounds.append(min(map(sum, ways)) + sum(works) * num_microbatches / len(everything))
    return max(bounds)


def _schedules(p: int, m: int, cost: Cost, limit: int) -> Iterator[Schedule]:
    for builder in BUILDERS.values():
        if builder.stages_per_rank == 1:
            yield builder.build(p, m)
    preferences = [Preference(True, ranks) for ranks in sorted({0, p - 1, p})]
    for preference in [*preferences, Preference(False, 0), Preference(False, p)]:
        # fewer activations than allowed can be faster: forwards in excess delay backwards
        for width in sorted({limit, min(limit, p), min(limit, 2 * p - 1)}):
            yield greedy(p, m, cost, width, preference)

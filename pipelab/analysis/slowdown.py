"""How much slower a job is than one whose ranks and microbatches are all alike, and which to blame.

The figures of Lin et al. 2025 ("Understanding Stragglers in Large Model Training Using What-if
Analysis", arXiv 2505.05713, equations 1, 4 and 5 and section 5.2), as their published program
(ByteDance-Seed/StragglerAnalysis) computes them, so that a job can be compared with theirs:

    S    T / T_ideal                          T: a step, simulated from its own times, of the
                                              replica that ends last; the mean of the steps
                                              T_ideal: each F takes the mean of all F of the job,
                                              each B and W likewise, a message the median
    M_W  (T - T_w) / (T - T_ideal)            T_w: with the slowest 3 % of the ranks ideal
    M_S  (T - T_s) / (T - T_ideal)            T_s: with the last rank of each replica ideal

A rank's slowness is the smaller of two slowdowns: with its replica's times in an ideal job, and
with those of its place in all replicas. Theirs are of whole steps, with the reductions and the
optimizer's step, and count tensor-parallel ranks; ours are of the computation alone.

One more of ours, for sequences of unequal lengths, whose sums differ from replica to replica: the
step if all microbatches of the job were of the same length. A microbatch's length is the median,
over the stages, of its time over what the stage takes on average: a slow rank stays slow.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from statistics import mean, median
from typing import NamedTuple

from pipelab.analysis.order import schedule_of
from pipelab.analysis.own_costs import Row, latency_of, stage_costs, with_stages
from pipelab.errors import ScheduleError, TraceError
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

SOURCE = "Lin et al. 2025, arXiv 2505.05713"
_EVENTS = 120_000  # that are simulated in all
_SLOWEST = 0.03  # of the ranks
_LEAST = 1.03  # the difference from the ideal job is too small to be shared out below this

_KINDS = range(3)  # F, I, W

_Rank = tuple[int, int]  # replica and rank


class Slowdown(NamedTuple):
    """How much slower a job is than one whose ranks and microbatches are all alike.

    Attributes:
        overall: S; 1.0 is ideal.
        slowest_ranks: M_W, the share of the difference that goes with the slowest ranks at the
            mean; None where S is below 1.03.
        last_rank: M_S, the same of the last rank of all replicas. Above 1 if it is slower than the
            mean so that the others are faster.
        ranks: those of M_W, as (replica, rank).
        seconds: T.
        equal_lengths: seconds of the same steps if all microbatches of the job were equally long.
        steps: that were simulated.
        source: whose figures these are.
    """

    overall: float
    slowest_ranks: float | None
    last_rank: float | None
    ranks: tuple[_Rank, ...]
    seconds: float
    equal_lengths: float
    steps: int
    source: str = SOURCE


class _Ideal(NamedTuple):
    """What all actions and messages take in the ideal job: F, I and W; and a message's. Seconds."""

    means: tuple[float, ...]
    latency: float


class _Own(NamedTuple):
    """One step of one replica: its order, and for each stage F, I and W of each microbatch."""

    schedule: Schedule
    cost: Cost
    rows: list[Row]

    @property
    def seconds(self) -> float:
        """Of the step as it was."""
        return simulate(self.schedule, self.cost).duration

    @property
    def by_microbatch(self) -> list[list[float]]:
        """For each stage, all seconds of each microbatch."""
        m = len(self.rows[0]) // len(_KINDS)
        return [[sum(row[i::m]) for i in range(m)] for row in self.rows]

    @property
    def sums(self) -> list[float]:
        """All seconds of F, of I and of W."""
        m = len(self.rows[0]) // len(_KINDS)
        return [sum(sum(row[i * m : (i + 1) * m]) for row in self.rows) for i in _KINDS]

    def with_ideal(self, ideal: _Ideal, is_ideal: Callable[[int], bool]) -> float:
        """Seconds of the step where these ranks take the ideal times, the others their own."""
        home, m = self.schedule.rank_of_stage, len(self.rows[0]) // len(_KINDS)
        alike = tuple(seconds for seconds in ideal.means for _ in range(m))
        rows = [alike if is_ideal(home[stage]) else row for stage, row in enumerate(self.rows)]
        return simulate(self.schedule, with_stages(self.cost, rows)).duration

    def as_ideal(self, ideal: _Ideal) -> float:
        """Seconds of the step in the ideal job."""
        cost = replace(self.cost, latency=ideal.latency)
        return self._replace(cost=cost).with_ideal(ideal, lambda rank: True)


_Step = Mapping[int, _Own]  # by replica


def slowdown(traces: Sequence[Trace]) -> Slowdown | None:
    """Of the steps that all replicas have; None where they cannot be simulated."""
    try:
        steps = [{r: _own(trace) for r, trace in step.items()} for step in _chosen(traces)]
        recorded = [{r: own.seconds for r, own in step.items()} for step in steps]
    except (ScheduleError, TraceError):
        return None
    if not steps:
        return None
    ideal = _ideal([own for step in steps for own in step.values()])
    least = [next(iter(step.values())).as_ideal(ideal) for step in steps]
    whole = mean(max(row.values()) for row in recorded)
    overall, equal = whole / mean(least), _of_equal_lengths(steps)
    if overall < _LEAST:
        return Slowdown(overall, None, None, (), whole, equal, len(steps))
    ranks = _slowest(steps, recorded, ideal, least)
    last = max(rank for own in steps[0].values() for rank in own.schedule.rank_of_stage.values())
    without = [
        _mean(steps, ideal, lambda replica, rank: (replica, rank) in ranks),
        _mean(steps, ideal, lambda _, rank: rank == last),
    ]
    workers, stage = ((whole - seconds) / (whole - mean(least)) for seconds in without)
    return Slowdown(overall, workers, stage, ranks, whole, equal, len(steps))


def _chosen(traces: Sequence[Trace]) -> list[dict[int, Trace]]:
    """Of all steps that every replica has, as many as take seconds, evenly spread."""
    by_number: dict[int, dict[int, Trace]] = defaultdict(dict)
    for trace in traces:
        by_number[trace.setting.step][trace.setting.replica] = trace
    replicas = {trace.setting.replica for trace in traces}
    whole = [step for _, step in sorted(by_number.items()) if step.keys() == replicas]
    simulations = 3 + max(trace.num_ranks for trace in traces)
    size = sum(len(t.events) for step in whole for t in step.values()) * simulations
    return whole[:: max(1, ceil(size / _EVENTS))]


def _own(trace: Trace) -> _Own:
    schedule, cost = schedule_of(trace), Cost.from_trace(trace, by_microbatch=True)
    cost = replace(cost, latency=latency_of(trace), step=0.0, reduce=0.0)
    return _Own(schedule, cost, stage_costs(cost, schedule))


def _ideal(every: Sequence[_Own]) -> _Ideal:
    """The mean of each kind, the median of messages."""
    number = sum(len(row) // len(_KINDS) for own in every for row in own.rows)
    sums = zip(*(own.sums for own in every), strict=True)
    means = tuple(sum(column) / number for column in sums)
    return _Ideal(means, median(own.cost.latency for own in every))


def _mean(steps: Sequence[_Step], ideal: _Ideal, is_ideal: Callable[[int, int], bool]) -> float:
    """Seconds of a step of the replica that ends last, for which the others wait; the mean."""
    return mean(
        max(own.with_ideal(ideal, partial(is_ideal, replica)) for replica, own in step.items())
        for step in steps
    )


def _of_equal_lengths(steps: Sequence[_Step]) -> float:
    """Seconds of a step, as ``_mean``, if all microbatches were as long as the average one."""
    every = [own for step in steps for own in step.values()]
    stages = zip(*(own.by_microbatch for own in every), strict=True)
    typical = [mean(x for row in rows for x in row) for rows in stages]
    lengths = [
        [median(x / usual for x, usual in zip(column, typical, strict=True) if usual)
         for column in zip(*own.by_microbatch, strict=True)]
        for own in every
    ]  # fmt: skip
    average = mean(length for row in lengths for length in row)
    found = iter(zip(every, lengths, strict=True))
    return mean(max(_resized(*next(found), average) for _ in step) for step in steps)


def _resized(own: _Own, lengths: Sequence[float], length: float) -> float:
    """Seconds of a step whose microbatches of these lengths all have the same one."""
    factors = [length / own if own else 1.0 for own in lengths] * len(_KINDS)
    rows = [tuple(x * f for x, f in zip(row, factors, strict=True)) for row in own.rows]
    return simulate(own.schedule, with_stages(own.cost, rows)).duration


def _slowest(
    steps: Sequence[_Step],
    recorded: Sequence[Mapping[int, float]],
    ideal: _Ideal,
    least: Sequence[float],
) -> tuple[_Rank, ...]:
    """The slowest 3 % of all ranks, one at least."""
    of_replica = {
        replica: mean(max(row[replica], best) for row, best in zip(recorded, least, strict=True))
        for replica in recorded[0]
    }
    places = {rank for own in steps[0].values() for rank in own.schedule.rank_of_stage.values()}
    of_place = {place: _mean(steps, ideal, partial(_is_elsewhere, place)) for place in places}
    ranks = [(replica, place) for replica in of_replica for place in places]
    ranks.sort(key=lambda at: (-min(of_replica[at[0]], of_place[at[1]]), at))
    return tuple(sorted(ranks[: ceil(_SLOWEST * len(ranks))]))


def _is_elsewhere(place: int, replica: int, rank: int) -> bool:
    return rank != place

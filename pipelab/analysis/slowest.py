"""The rank, stage, kind and microbatch that take longest, against what is typical of the others."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

from pipelab.action import COMPUTE, Kind
from pipelab.trace import Trace

K = TypeVar("K")


class Slow(NamedTuple):
    """One rank, stage or kind; seconds of computation.

    Attributes:
        number: of the rank or stage.
        replica: that it is in; -1 for a stage, which all replicas have.
        seconds: in a step, or of one action of ``kind``.
        others: the median of the others.
        kind: for a kind: which one; else None.
    """

    number: int
    replica: int
    seconds: float
    others: float
    kind: Kind | None = None

    @property
    def ratio(self) -> float:
        """How many times as long as the others."""
        return self.seconds / self.others if self.others else 1.0


class Slowest(NamedTuple):
    """What to look at first."""

    rank: Slow
    stage: Slow
    kind: Slow


def slowest(traces: Sequence[Trace]) -> Slowest:
    """Of all steps and replicas, the medians over the steps."""
    ranks: dict[tuple[int, int], list[float]] = defaultdict(list)
    stages: dict[int, list[float]] = defaultdict(list)
    kinds: dict[tuple[Kind, int], list[float]] = defaultdict(list)
    for trace in traces:
        by_rank: dict[int, float] = defaultdict(float)
        by_stage: dict[int, float] = defaultdict(float)
        for e in trace.events:
            if e.kind in COMPUTE:
                by_rank[e.rank] += e.end - e.start
                by_stage[e.stage] += e.end - e.start
                kinds[e.kind, e.stage].append(e.end - e.start)
        for rank, seconds in by_rank.items():
            ranks[trace.setting.replica, rank].append(seconds)
        for stage, seconds in by_stage.items():
            stages[stage].append(seconds)
    (replica, rank), seconds, others = _worst({k: median(v) for k, v in ranks.items()})
    stage, stage_seconds, stage_others = _worst({k: median(v) for k, v in stages.items()})
    return Slowest(
        Slow(rank, replica, seconds, others),
        Slow(stage, -1, stage_seconds, stage_others),
        _slowest_kind({k: median(v) for k, v in kinds.items()}),
    )


def _worst(seconds: Mapping[K, float]) -> tuple[K, float, float]:
    """The largest, and the median of the others."""
    key = max(seconds, key=lambda k: seconds[k])
    others = [value for other, value in seconds.items() if other != key]
    return key, seconds[key], median(others or [seconds[key]])


def _slowest_kind(seconds: Mapping[tuple[Kind, int], float]) -> Slow:
    """The kind whose slowest stage loses most against the same kind of the other stages."""
    found = []
    for kind in {kind for kind, _ in seconds}:
        own = {stage: value for (k, stage), value in seconds.items() if k is kind}
        stage, value, others = _worst(own)
        found.append(Slow(stage, -1, value, others, kind))
    return max(found, key=lambda slow: slow.ratio)


def longest_microbatch(traces: Sequence[Trace]) -> float:
    """How many times the average one's computation the longest takes, all ranks together.

    The median of all steps; well above 1 where sequences of unequal lengths are trained on.
    """
    found = []
    for trace in traces:
        seconds: dict[int | None, float] = defaultdict(float)
        for e in trace.events:
            if e.kind in COMPUTE:
                seconds[e.microbatch] += e.end - e.start
        average = sum(seconds.values()) / len(seconds)
        found.append(max(seconds.values()) / average if average else 1.0)
    return median(found)

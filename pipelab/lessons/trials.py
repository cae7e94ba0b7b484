"""Configurations of one training step, tried on real ranks: which fit a budget, which are fast.

Bytes are the same in every run, so they are known before. Paced seconds are those that the
simulator predicts, unless the machine has other work: it is the simulator that decides who is
fastest, so a busy machine can delay the answer but not change it.
"""

from functools import cache, partial

import torch

from pipelab.lessons.experiment import Experiment, experiment, record
from pipelab.schedules.catalogue import build
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

__all__ = ["trial"]

Candidate = tuple[str, int, int]  # schedule, ranks, microbatches

CANDIDATES: tuple[Candidate, ...] = tuple(
    (schedule, p, m) for schedule in ("gpipe", "1f1b") for p in (1, 2, 4) for m in (2, 4, 8)
)
WORK = 0.32  # seconds of the whole step on one rank
LATENCY = 0.004  # seconds of one message
_ADAM = partial(torch.optim.Adam, lr=0.001)
# Bytes on the fullest rank, from the second step on: what the slow test of trials records.
NEEDS: dict[Candidate, int] = {
    ("gpipe", 1, 2): 2_766_928,
    ("gpipe", 1, 4): 2_766_944,
    ("gpipe", 1, 8): 2_766_976,
    ("gpipe", 2, 2): 1_772_576,
    ("gpipe", 2, 4): 1_641_504,
    ("gpipe", 2, 8): 1_575_968,
    ("gpipe", 4, 2): 1_148_432,
    ("gpipe", 4, 4): 1_017_360,
    ("gpipe", 4, 8): 951_824,
    ("1f1b", 1, 2): 1_716_296,
    ("1f1b", 1, 4): 1_124_424,
    ("1f1b", 1, 8): 828_488,
    ("1f1b", 2, 2): 1_772_576,
    ("1f1b", 2, 4): 1_052_704,
    ("1f1b", 2, 8): 659_488,
    ("1f1b", 4, 2): 1_148_432,
    ("1f1b", 4, 4): 1_017_360,
    ("1f1b", 4, 8): 591_888,
}


def share(work: float, p: int, m: int, latency: float = 0.0) -> Cost:
    """The pace of one action: ``work``, a third each for F, I and W, cut into p * m parts.

    Args:
        work: seconds of a whole step on one rank, forward and backward of all rows.
        p: ranks.
        m: microbatches.
        latency: seconds of each message, however small it is.

    >>> str(share(0.24, p=4, m=2))
    'F 10 ms, B 20 ms'
    """
    part = work / 3 / (p * m)
    return Cost(part, part, part, latency=latency)


def trial(schedule: str, p: int, m: int, budget: int | None = None) -> Trace:
    """One configuration on real ranks, paced: the least disturbed of three steps.

    Args:
        schedule: ``"gpipe"`` or ``"1f1b"``.
        p: ranks.
        m: microbatches.
        budget: bytes that each rank may hold.

    Raises:
        RankOutOfMemory: a rank held more than ``budget`` bytes.
    """
    pace = share(WORK, p, m, LATENCY)
    return record(_narrow_layers(), build(schedule, p, m), pace, _ADAM, memory_budget=budget)


@cache
def predicted(candidate: Candidate) -> float:
    """Seconds of a paced step, if the machine has nothing else to do."""
    schedule, p, m = candidate
    return simulate(build(schedule, p, m), share(WORK, p, m, LATENCY)).duration


def best(budget: int) -> Candidate:
    """The fastest of those that train in ``budget`` bytes on each rank.

    >>> best(700_000)
    ('1f1b', 4, 8)
    """
    return min((c for c in CANDIDATES if NEEDS[c] <= budget), key=predicted)


def race(p: int, m: int, latency: float) -> tuple[Trace, Trace]:
    """The same work in m microbatches on one rank and on p, GPipe, ``latency`` s a message."""
    one, many = (
        record(_narrow_layers(), build("gpipe", ranks, m), share(WORK, ranks, m, latency), _ADAM)
        for ranks in (1, p)
    )
    return one, many


def _narrow_layers() -> Experiment:
    """Narrow layers and many rows: here it is activations that fill a rank."""
    return experiment(rows=1024, width=64, depth=8, features=64, classes=64)

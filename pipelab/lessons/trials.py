"""Configurations of one training step, tried on real ranks: which fit a budget, which are fast.

Bytes are the same in every run. Seconds are those of paced runs, and of several runs the least
disturbed counts, so that a busy machine can delay the answer but not change it.
"""

from collections.abc import Iterable
from functools import cache, partial

import torch

from pipelab.errors import RankOutOfMemory
from pipelab.lessons.experiment import Experiment, experiment, least_disturbed, record, start
from pipelab.schedules.catalogue import build
from pipelab.simulator import Cost
from pipelab.trace import Trace

__all__ = ["trial"]

Candidate = tuple[str, int, int]  # schedule, ranks, microbatches

CANDIDATES: tuple[Candidate, ...] = tuple(
    (schedule, p, m) for schedule in ("gpipe", "1f1b") for p in (1, 2, 4) for m in (2, 4, 8)
)
WORK = 0.32  # seconds of the whole step on one rank
LATENCY = 0.004  # seconds of one message
_ADAM = partial(torch.optim.Adam, lr=0.001)
_BEST: dict[Candidate, Trace] = {}  # the least disturbed run of each so far, in this process


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


def again(candidate: Candidate, *runs: Trace) -> Trace:
    """The least disturbed run of a candidate: of these, of all before, and of a new one if none."""
    before = [_BEST[candidate]] if candidate in _BEST else []
    _BEST[candidate] = least_disturbed([*before, *(runs or [trial(*candidate)])])
    return _BEST[candidate]


def fastest(candidates: Iterable[Candidate]) -> Trace:
    """The shortest step of them all; each runs at least once, and the best so far once more."""
    runs = {candidate: _BEST.get(candidate) or again(candidate) for candidate in candidates}
    best = min(runs, key=lambda candidate: runs[candidate].duration)
    return least_disturbed([*runs.values(), again(best)])


@cache
def fitting(budget: int, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Those that train in ``budget`` bytes on each rank."""
    return tuple(candidate for candidate in candidates if _fits(candidate, budget))


def race(p: int, m: int, latency: float) -> tuple[Trace, Trace]:
    """The same work in m microbatches on one rank and on p, GPipe, ``latency`` s a message."""
    one, many = (
        record(_narrow_layers(), build("gpipe", ranks, m), share(WORK, ranks, m, latency), _ADAM)
        for ranks in (1, p)
    )
    return one, many


def _fits(candidate: Candidate, budget: int) -> bool:
    """Two real steps, as fast as they can: the second begins with the optimizer's state."""
    model, inputs, targets = _narrow_layers()
    try:
        with start(model, build(*candidate), _ADAM, memory_budget=budget) as pipeline:
            for _ in range(2):
                pipeline.step(inputs, targets)
    except RankOutOfMemory:
        return False
    return True


def _narrow_layers() -> Experiment:
    """Narrow layers and many rows: here it is activations that fill a rank."""
    return experiment(rows=1024, width=64, depth=8, features=64, classes=64)

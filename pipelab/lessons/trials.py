"""Configurations of one training step, tried on real ranks: which fit a budget, which are fast.

Bytes are the same in every run. Seconds are those of paced runs, and of several runs the least
disturbed counts, so that a busy machine can delay the answer but not turn it round.
"""

from collections.abc import Iterable
from functools import cache, partial

import torch
from torch import Tensor, nn

from pipelab.engine import Pipeline
from pipelab.errors import RankOutOfMemory
from pipelab.models import mlp
from pipelab.schedules.catalogue import build
from pipelab.simulator import Cost
from pipelab.trace import Trace

__all__ = ["trial"]

Candidate = tuple[str, int, int]  # schedule, ranks, microbatches

CANDIDATES: tuple[Candidate, ...] = tuple(
    (schedule, p, m) for schedule in ("gpipe", "1f1b") for p in (1, 2, 4) for m in (2, 4, 8)
)
WORK, LATENCY = 0.32, 0.004  # seconds: the whole step on one rank, and one message
_LOSS = nn.functional.cross_entropy
_RUNS: dict[Candidate, Trace] = {}  # the least disturbed run of each so far, in this process


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
    """One configuration on real ranks, paced, under a budget: the least disturbed of three steps.

    Raises:
        RankOutOfMemory: a rank held more than ``budget`` bytes.
    """
    return _paced((schedule, p, m), share(WORK, p, m, LATENCY), budget)


def again(candidate: Candidate, *runs: Trace) -> Trace:
    """The least disturbed run of a candidate: of these, of all before, and of a new one if none."""
    before = [_RUNS[candidate]] if candidate in _RUNS else []
    _RUNS[candidate] = quickest([*before, *(runs or [trial(*candidate)])])
    return _RUNS[candidate]


def fastest(candidates: Iterable[Candidate]) -> Trace:
    """The shortest step of them all; each runs at least once, and the best so far once more."""
    runs = {candidate: _RUNS.get(candidate) or again(candidate) for candidate in candidates}
    best = min(runs, key=lambda candidate: runs[candidate].duration)
    return quickest([*runs.values(), again(best)])


@cache
def fitting(budget: int, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Those that train under a budget: two real steps each, as fast as they can."""
    model, inputs, targets = _experiment()
    found = []
    for candidate in candidates:
        try:
            with _pipeline(model, candidate, budget) as pipeline:
                for _ in range(2):  # the second has the optimizer's state from its beginning
                    pipeline.step(inputs, targets)
        except RankOutOfMemory:
            continue
        found.append(candidate)
    return tuple(found)


def race(p: int, m: int, latency: float) -> tuple[Trace, Trace]:
    """The same work in m microbatches on one rank and on p, GPipe, ``latency`` s a message."""
    one, many = (_paced(("gpipe", ranks, m), share(WORK, ranks, m, latency)) for ranks in (1, p))
    return one, many


def quickest(traces: Iterable[Trace]) -> Trace:
    """The shortest: what disturbs a paced run makes it longer, never shorter."""
    return min(traces, key=lambda trace: trace.duration)


def _paced(candidate: Candidate, pace: Cost, budget: int | None = None) -> Trace:
    model, inputs, targets = _experiment()
    with _pipeline(model, candidate, budget) as pipeline:
        pipeline.step(inputs, targets)  # opens the connections, makes the optimizer's state
        pipeline.pace = pace
        pipeline.use(pipeline.schedule)
        return quickest(pipeline.step(inputs, targets).trace for _ in range(3))


def _experiment() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Narrow layers and many rows: here it is activations that fill a rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = mlp(width=64, depth=8, features=64, classes=64), torch.randn(1024, 64)
        return model, inputs, torch.randint(64, (1024,))


def _pipeline(model: nn.Sequential, candidate: Candidate, budget: int | None = None) -> Pipeline:
    """Its ranks have a thread each, however many ranks there are: else one rank had several."""
    adam = partial(torch.optim.Adam, lr=0.001)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        schedule = build(*candidate)
        return Pipeline(model, schedule, loss=_LOSS, optimizer=adam, memory_budget=budget)
    finally:
        torch.set_num_threads(threads)

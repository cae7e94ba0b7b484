"""The small model and batch that checks train, and how they record a run that can be judged.

Times are judged on paced runs, and of several steps the shortest counts: what disturbs a paced run
makes it longer, never shorter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import Schedule
from pipelab.simulator import Cost
from pipelab.threads import num_threads
from pipelab.trace import Trace

LOSS = nn.functional.cross_entropy

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Experiment(NamedTuple):
    """A model, (rows, features) -> (rows, classes), and one batch for it."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers that are the same in each run; the learner's own are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def experiment(
    rows: int = 32, width: int = 32, depth: int = 8, features: int = 16, classes: int = 10
) -> Experiment:
    """A stack of ``depth`` linear layers and a batch of ``rows``, the same in each call."""
    with seeded():
        model = mlp(width, depth, features, classes)
        inputs = torch.randn(rows, features)
        return Experiment(model, inputs, torch.randint(classes, (rows,)))


def start(
    model: nn.Module | list[nn.Module],
    schedule: Schedule,
    optimizer: Optimizer | None = None,
    memory_budget: int | None = None,
) -> Pipeline:
    """A pipeline whose ranks have a thread each, however many there are: times stay comparable."""
    with num_threads(1):
        return Pipeline(
            model, schedule, loss=LOSS, optimizer=optimizer, memory_budget=memory_budget
        )


def record(
    of: Experiment,
    schedule: Schedule,
    pace: Cost,
    optimizer: Optimizer | None = None,
    memory_budget: int | None = None,
) -> Trace:
    """The least disturbed of three paced steps on real ranks.

    Raises:
        RankOutOfMemory: a rank held more than ``memory_budget`` bytes.
    """
    with start(of.model, schedule, optimizer, memory_budget) as pipeline:
        pipeline.step(of.inputs, of.targets)  # opens connections, makes the optimizer's state
        pipeline.pace = pace
        pipeline.use(schedule)
        return least_disturbed(pipeline.step(of.inputs, of.targets).trace for _ in range(3))


def in_turn(
    pipeline: Pipeline, batch: tuple[Tensor, Tensor], schedules: Sequence[Schedule], pace: Cost
) -> list[Trace]:
    """The least disturbed of three paced steps of each schedule, on the same ranks.

    The schedules take turns, so that whatever slows down one slows down all.
    """
    pipeline.step(*batch)  # opens connections, makes the optimizer's state
    pipeline.pace = pace
    runs: list[list[Trace]] = [[] for _ in schedules]
    for _ in range(3):
        for schedule, traces in zip(schedules, runs, strict=True):
            pipeline.use(schedule)
            traces.append(pipeline.step(*batch).trace)
    return [least_disturbed(traces) for traces in runs]


def least_disturbed(traces: Iterable[Trace]) -> Trace:
    """The shortest."""
    return min(traces, key=lambda trace: trace.duration)

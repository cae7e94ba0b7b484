"""A plan on real ranks: three steps of SGD, what the ranks held and took, beside one process.

The model is a tiny GPT on real English, each F, I and W paced to the machine's numbers. SGD with
momentum, as Adam would hide a gradient of the wrong scale.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine import Pipeline
from pipelab.lessons.experiment import least_disturbed, seeded
from pipelab.lessons.plans import (
    Layer,
    Machine,
    Model,
    Plan,
    predicted,
    price,
    schedule_of,
    step_seconds,
)
from pipelab.models import batches, next_byte_loss, tiny_gpt
from pipelab.partition import measure
from pipelab.threads import num_threads
from pipelab.trace import Trace
from pipelab.trace.memory import peak_bytes

__all__ = ["MACHINE", "Comparison", "Run", "compare", "run", "text", "the_model", "tiny"]

MACHINE = Machine(ranks=4, start=0.001, latency=0.001, bandwidth=100e6)
STEPS = 3
WIDTH, BLOCKS, HEADS, CONTEXT, ROWS = 64, 6, 2, 16, 16
RATE, MOMENTUM = 0.1, 0.9
SEED = 0
_CLOSE = 1e-4  # of a parameter's largest value: sums of other groups of rows round differently
_EMBEDDING, _BLOCK, _HEAD = 0.0002, 0.001, 0.002  # seconds of F for one row
_CLASSES, _INDEX = 256, 8  # logits of a byte, and bytes of a target


class Comparison(NamedTuple):
    """Parameters beside those of one process.

    Attributes:
        same: how many are the same but for rounding.
        all: how many there are.
        largest: the largest difference, relative to the parameter's largest value.
    """

    same: int
    all: int
    largest: float

    def __str__(self) -> str:
        return f"{self.same} of {self.all} parameters equal, largest difference {self.largest:.1e}"


@dataclass(frozen=True)
class Run:
    """What a plan's run on real ranks showed.

    Attributes:
        losses: of each step, on the same batch.
        trace: the least disturbed step, of all replicas.
        on_paper: one replica's step, predicted.
        held: for each rank, the most bytes.
        parameters: after the last step, beside those of one process.
        left: how many processes were still there after the end.
    """

    plan: Plan
    losses: tuple[float, ...]
    trace: Trace
    on_paper: Trace
    held: tuple[int, ...]
    parameters: Comparison
    left: int

    @property
    def seconds(self) -> float:
        """Of the recorded step, the average of the gradients included."""
        return step_seconds(self.trace)

    @property
    def on_paper_seconds(self) -> float:
        """The same of the prediction."""
        return step_seconds(self.on_paper)


def tiny() -> nn.Sequential:
    """The lesson's model, the same in each call: embedding, six blocks, head."""
    with seeded(SEED):
        return tiny_gpt(WIDTH, BLOCKS, HEADS, CONTEXT)


def text() -> tuple[Tensor, Tensor]:
    """The lesson's batch: (rows, tokens) of bytes, and the next byte of each."""
    return next(batches(ROWS, CONTEXT, SEED))


@cache
def the_model() -> Model:
    """The same model as numbers: bytes as they are measured, seconds as they are paced."""
    sample = text()[0][:2]
    measured = measure(tiny(), sample, repeats=1)
    seconds = (_EMBEDDING, *(_BLOCK,) * BLOCKS, _HEAD)
    rows = len(sample)
    layers = [
        Layer(paced, m.parameter_bytes, m.activation_bytes / rows, m.output_bytes / rows)
        for paced, m in zip(seconds, measured, strict=True)
    ]
    of_loss = CONTEXT * (4 * _CLASSES + _INDEX)  # what the loss keeps: log-probabilities, targets
    layers[-1] = layers[-1]._replace(kept=layers[-1].kept + of_loss + 1)
    return Model(ROWS, layers)


def run(plan: Plan, machine: Machine = MACHINE, budget: int | None = None) -> Run:
    """Train the tiny GPT by this plan, three steps on one batch.

    Args:
        plan: for ``the_model()``.
        machine: whose pace the ranks keep.
        budget: bytes that each rank may hold.

    Raises:
        PipelabError: a plan that cannot run, before any process starts.
        RankOutOfMemory: a rank held more than ``budget`` bytes.
    """
    plan = Plan(*plan)
    model, batch = tiny(), text()
    cost = price(machine, the_model(), plan)
    with num_threads(1):  # for each rank, however many there are
        pipeline = Pipeline(
            model, schedule_of(plan), loss=next_byte_loss, optimizer=optimizer(),
            replicas=plan.replicas, split=plan.sizes, pace=cost, memory_budget=budget,
        )  # fmt: skip
    with pipeline:
        results = [pipeline.step(*batch) for _ in range(STEPS)]
        state, pids = pipeline.state_dict(), pipeline.pids
    traces = [result.trace for result in results]
    return Run(
        plan,
        losses=tuple(result.loss for result in results),
        trace=least_disturbed(traces[1:]),  # the first one opens connections
        on_paper=predicted(machine, the_model(), plan),
        held=tuple(point.total for point in peak_bytes(traces[-1])),
        parameters=compare(state),
        left=sum(map(_is_there, pids)),
    )


def optimizer() -> partial[torch.optim.SGD]:
    """Of each stage."""
    return partial(torch.optim.SGD, lr=RATE, momentum=MOMENTUM)


def compare(state: Mapping[str, Tensor]) -> Comparison:
    """Parameters by the model's names beside those of one process after the same steps."""
    reference = _one_process()
    worst = [
        ((state[name] - value).abs().max() / value.abs().max()).item() if name in state else 1.0
        for name, value in reference.items()
    ]
    return Comparison(sum(w <= _CLOSE for w in worst), len(worst), max(worst))


@cache
def _one_process() -> dict[str, Tensor]:
    """The parameters after the same steps in this process, each on the whole batch."""
    model, (inputs, targets) = tiny(), text()
    sgd = optimizer()(list(model.parameters()))
    for _ in range(STEPS):
        sgd.zero_grad()
        next_byte_loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        sgd.step()
    return {name: value.detach() for name, value in model.named_parameters()}


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

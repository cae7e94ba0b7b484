"""Step: one training step of pipelab and of torch.distributed.pipelining, in turns.

Same stages and starting weights, same batch, same SGD (lr 0.01, no momentum), same threads per
rank, gloo over loopback, processes from one fork server. Before any time is taken, one step of
both must give the same loss and the same gradients.

What is in a step, and why it is fair, leaning towards torch:

    ours     seconds in the parent from the call of pipeline.step() to its return: the batch is
             pickled and sent, the step runs and is recorded, the loss and all events come home
    torch    seconds on the ranks, after a barrier, from the first one's start to the last one's
             end, over the steps of a block: no parent, no pipe, its batch is already there, and
             a rank may begin its next step while another still ends the last

Both zero the gradients, step the optimizer and turn the loss into a number. torch scales the
gradients by 1/m after the last backward (its default, right for these equal microbatches), we
scale the loss. Blocks alternate, A B A B; a ratio compares two blocks that are neighbours.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipelab.bench.ratio import Ratio
from pipelab.bench.torch_rank import Job
from pipelab.bench.torch_ranks import TorchRanks
from pipelab.engine import Pipeline
from pipelab.engine.commands import Loss
from pipelab.engine.processes import threads_per_rank
from pipelab.errors import PipelabError
from pipelab.models import batches, mlp, next_byte_loss, tiny_gpt
from pipelab.partition import split
from pipelab.schedules import gpipe, one_f_one_b

MICROBATCHES = 8
OPTIMIZER = partial(torch.optim.SGD, lr=0.01)
_TOLERANCE = 1e-5  # of a loss or a gradient, relative to its largest entry
_SCHEDULES = {"gpipe": gpipe, "1f1b": one_f_one_b}


class Workload(NamedTuple):
    """A model, its loss and one batch."""

    model: nn.Sequential
    loss: Loss
    inputs: Tensor
    targets: Tensor


def _mlp() -> Workload:
    inputs, targets = torch.randn(64, 16), torch.randint(10, (64,))
    return Workload(mlp(), nn.functional.cross_entropy, inputs, targets)


def _gpt(rows: int, tokens: int, width: int) -> Workload:
    inputs, targets = next(batches(rows, tokens))
    return Workload(tiny_gpt(width=width, context=tokens), next_byte_loss, inputs, targets)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "mlp": _mlp,
    "tiny gpt": partial(_gpt, rows=8, tokens=32, width=64),
    "medium gpt": partial(_gpt, rows=8, tokens=128, width=256),
}


class Case(NamedTuple):
    """One line of the table: what runs on how many ranks, and in how long blocks."""

    workload: str
    schedule: Literal["gpipe", "1f1b"]
    num_ranks: int
    num_blocks: int
    block_seconds: float
    pin_torch: bool = False


class StepResult(NamedTuple):
    """What a case measured: seconds per step, one entry per block."""

    case: Case
    num_parameters: int
    steps_per_block: int
    loss: tuple[float, float]
    gradient_difference: float
    ours: list[float]
    torch: list[float]

    @property
    def ratio(self) -> Ratio:
        """Our time over torch's."""
        return Ratio.of(self.ours, self.torch)

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        return {
            "model": self.case.workload,
            "parameters": self.num_parameters,
            "schedule": self.case.schedule,
            "ranks": self.case.num_ranks,
            "microbatches": MICROBATCHES,
            "threads_per_rank": threads_per_rank(self.case.num_ranks),
            "steps_per_block": self.steps_per_block,
            "loss": {"ours": self.loss[0], "torch": self.loss[1]},
            "gradient_difference": self.gradient_difference,
            "seconds_per_step": {"ours": self.ours, "torch": self.torch},
            "ours_over_torch": self.ratio._asdict(),
        }


def bench_case(case: Case) -> StepResult:
    """Launch both sides, let them agree, then time them in turns."""
    torch.manual_seed(0)
    work = WORKLOADS[case.workload]()
    schedule = _SCHEDULES[case.schedule](case.num_ranks, MICROBATCHES)
    with (
        Pipeline(
            work.model, schedule, loss=work.loss, optimizer=OPTIMIZER, timeout=60.0
        ) as pipeline,
        TorchRanks(_jobs(work, case)) as others,
    ):
        loss, difference = _agree(pipeline, others, work)
        once = partial(pipeline.step, work.inputs, work.targets)
        steps = max(1, round(case.block_seconds / min(_seconds(once, 1) for _ in range(3))))
        others.run(3)
        pairs = [
            (_seconds(once, steps) / steps, others.run(steps)[0] / steps)
            for _ in range(case.num_blocks)
        ]
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    size = sum(p.numel() for p in work.model.parameters())
    return StepResult(case, size, steps, loss, difference, ours, theirs)


def _jobs(work: Workload, case: Case) -> list[Job]:
    last = case.num_ranks - 1
    return [
        Job(
            stage,
            work.loss,
            OPTIMIZER,
            case.schedule,
            MICROBATCHES,
            work.inputs if rank == 0 else None,
            work.targets if rank == last else None,
            case.pin_torch,
        )
        for rank, stage in enumerate(split(work.model, case.num_ranks))
    ]


def _agree(
    pipeline: Pipeline, others: TorchRanks, work: Workload
) -> tuple[tuple[float, float], float]:
    """The losses of one step on both sides, and how far the gradients lie apart at most.

    Raises:
        PipelabError: they differ, so that there is nothing to compare.
    """
    loss = pipeline.step(work.inputs, work.targets).loss, others.run(1)[1]
    ours, theirs = pipeline.gradients(), others.gradients()
    if ours.keys() != theirs.keys():
        raise PipelabError(f"gradients on one side only: {sorted(ours.keys() ^ theirs.keys())}")
    difference = max(_difference(ours[name], theirs[name]) for name in ours)
    if abs(loss[0] - loss[1]) > _TOLERANCE * abs(loss[1]) or difference > _TOLERANCE:
        raise PipelabError(
            f"the two sides do not compute the same: losses {loss[0]} and {loss[1]}, gradients "
            f"apart by {difference:.1e} of their largest entry, at most {_TOLERANCE:.0e} is right"
        )
    return loss, difference


def _difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()


def _seconds(step: Callable[[], object], times: int) -> float:
    start = time.monotonic()
    for _ in range(times):
        step()
    return time.monotonic() - start


HEAD = ["step", "p", "schedule", "ours, ms", "torch, ms", "ours / torch (quartiles)"]


def row(result: StepResult) -> list[object]:
    """A case's line of the table."""
    case = result.case
    times = [f"{1000 * median(seconds):.1f}" for seconds in (result.ours, result.torch)]
    return [case.workload, case.num_ranks, case.schedule, *times, result.ratio]

"""Compare every gradient of a pipeline with those of one process."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine.checks import check_batch, microbatch_sizes
from pipelab.engine.commands import Loss
from pipelab.engine.launch import threads_per_rank
from pipelab.engine.pipeline import Pipeline
from pipelab.schedules import Schedule

TOLERANCE = 1e-6  # of the largest entry of the gradient


class ParameterCheck(NamedTuple):
    """One parameter: ``exact`` is bit for bit, ``close`` within 1e-6 of its largest entry."""

    name: str
    exact: bool
    close: bool
    max_difference: float

    @property
    def verdict(self) -> str:
        """``exact``, ``close`` or ``WRONG``."""
        return "exact" if self.exact else "close" if self.close else "WRONG"


@dataclass(frozen=True)
class GradientReport:
    """``parameters``: one row each. ``ok``: all of them are close, and the losses too."""

    parameters: tuple[ParameterCheck, ...]
    loss: float
    reference_loss: float

    @property
    def ok(self) -> bool:
        """Whether the pipeline computed the gradient of one process."""
        near = abs(self.loss - self.reference_loss) <= TOLERANCE * max(1.0, abs(self.loss))
        return bool(self.parameters) and near and all(row.close for row in self.parameters)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.parameters], default=4)
        rows = [
            f"{row.name.ljust(width)}  {row.verdict}  max difference {row.max_difference:.1e}"
            for row in self.parameters
        ]
        return "\n".join([*rows, f"loss {self.loss:.6f}, one process {self.reference_loss:.6f}"])


def verify_gradients(
    model: nn.Module, schedule: Schedule, inputs: Tensor, targets: Tensor, loss: Loss
) -> GradientReport:
    """Run one step on real ranks and in one process; compare all gradients.

    The one process runs a plain loop over the same microbatches, on a copy of the model.
    """
    with Pipeline(model, schedule, loss=loss) as pipeline:
        ours = pipeline.step(inputs, targets).loss
        gradients = pipeline.gradients()
    with _threads(threads_per_rank(schedule.num_ranks)):
        reference, theirs = one_process_gradients(
            model, inputs, targets, loss, schedule.num_microbatches
        )
    rows = tuple(
        _compare(n, gradients.get(n), reference.get(n)) for n, _ in model.named_parameters()
    )
    return GradientReport(rows, ours, theirs)


def one_process_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, num_microbatches: int
) -> tuple[dict[str, Tensor], float]:
    """Gradients and loss of a plain loop over microbatches, in this process: the reference."""
    model = copy.deepcopy(model)
    model.zero_grad(set_to_none=True)
    rows = check_batch(inputs, targets, num_microbatches, train=True)
    sizes = list(microbatch_sizes(rows, num_microbatches))
    total = 0.0
    for x, y in zip(torch.split(inputs, sizes), torch.split(targets, sizes), strict=True):
        scaled = loss(model(x), y) * (len(x) / rows)
        scaled.backward()  # type: ignore[no-untyped-call]
        total += scaled.item()
    named = model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}, total


def _compare(name: str, ours: Tensor | None, reference: Tensor | None) -> ParameterCheck:
    if ours is None or reference is None:  # unused or frozen: right only if in both
        same = ours is reference
        return ParameterCheck(name, same, same, 0.0 if same else float("inf"))
    difference = (ours - reference).abs().max().item() if ours.numel() else 0.0
    largest = reference.abs().max().item() if ours.numel() else 0.0
    exact = torch.equal(ours, reference)
    return ParameterCheck(name, exact, exact or difference <= TOLERANCE * largest, difference)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Sums depend on how many threads share them: use as many as a rank does."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

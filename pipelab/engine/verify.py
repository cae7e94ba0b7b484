"""Compare every gradient of a pipeline with those of one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine.driver.checks import check_batch
from pipelab.engine.driver.microbatches import Count, Rule, Share, share_out
from pipelab.engine.pipeline import Pipeline
from pipelab.engine.protocol.commands import Loss
from pipelab.engine.protocol.copies import copied
from pipelab.engine.protocol.gradient_rule import weighted_loss
from pipelab.engine.rank.stage import on_device, seed_for, seed_layers
from pipelab.engine.ranks import threads
from pipelab.partition import as_model, call, split
from pipelab.schedules import Schedule

TOLERANCE = 1e-6  # of the largest entry of the gradient


class ParameterCheck(NamedTuple):
    """One parameter: ``exact`` is bit for bit, ``close`` within 1e-6 of its largest entry."""

    name: str
    exact: bool
    close: bool
    max_difference: float

    @property
    def result(self) -> str:
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
            f"{row.name.ljust(width)}  {row.result}  max difference {row.max_difference:.1e}"
            for row in self.parameters
        ]
        return "\n".join([*rows, f"loss {self.loss:.6f}, one process {self.reference_loss:.6f}"])


def verify_gradients(
    model: nn.Module | list[nn.Module],
    schedule: Schedule,
    inputs: Any,
    targets: Any,
    loss: Loss,
    **options: Any,
) -> GradientReport:
    """Run one step on real ranks and in one process; compare all gradients.

    The one process runs a plain loop over the same microbatches, on a copy of the model, on the
    ranks' kind of device.
    ``options`` are those of ``Pipeline``, such as ``replicas=2``; of these, the one process
    follows ``replicas``, ``count``, ``reduction``, ``autocast`` and ``seed``. The messages of a
    first step travel through host memory, also where later ones use NCCL (transport/p2p.py).
    """
    with Pipeline(model, schedule, loss=loss, **options) as pipeline:
        ours = pipeline.step(inputs, targets)
        gradients = pipeline.gradients()
    options |= {"device": ours.trace.setting.device}
    with _threads(threads(schedule.num_ranks * pipeline.replicas)):
        reference, theirs = one_process_gradients(model, inputs, targets, loss, schedule, **options)
    names = [name for name, _ in as_model(model).named_parameters()]
    rows = tuple(_compare(name, gradients.get(name), reference.get(name)) for name in names)
    return GradientReport(rows, ours.loss, theirs)


def one_process_gradients(
    model: nn.Module | list[nn.Module],
    inputs: Any,
    targets: Any,
    loss: Loss,
    schedule: Schedule,
    replicas: int = 1,
    count: Count | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    autocast: torch.dtype | None = None,
    seed: int = 0,
    device: str = "cpu",
    **_: Any,
) -> tuple[dict[str, Tensor], float]:
    """Gradients and loss of a plain loop over microbatches, in this process: the reference."""
    whole = as_model(model)
    model, inputs = copied((whole, inputs), [whole])  # layers may work on them in place
    model.to(device).zero_grad(set_to_none=True)
    loss = on_device(loss, torch.device(device))
    stages = split(model, schedule.num_stages)
    m = schedule.num_microbatches
    batch = check_batch(inputs, targets, m * replicas, train=True)
    total, number = 0.0, 0
    for share in share_out(*batch, m, replicas, Rule(count, reduction)):
        for value, target, weight in _microbatches(share, device):
            with torch.autocast(device, autocast, enabled=autocast is not None):
                for place, stage in enumerate(stages):
                    # dropout draws what it draws on the ranks
                    seed_layers(seed_for(seed, 0, place, number), device)
                    value = call(stage, value)
                scaled = weighted_loss(loss, value, target, weight)
            scaled.backward()  # type: ignore[no-untyped-call]
            total += scaled.item()
            number += 1
    named = model.named_parameters()
    return {name: p.grad.to_dense().cpu() for name, p in named if p.grad is not None}, total


def _microbatches(share: Share, device: str) -> Iterator[tuple[Any, Any, float]]:
    """Inputs, targets and weight of each microbatch of a share."""
    assert share.targets is not None
    inputs = share.inputs.to(device).cut(share.sizes)
    targets = share.targets.to(device).cut(share.sizes)
    for value, target, weight in zip(inputs, targets, share.weights, strict=True):
        yield value.unflatten(), target.unflatten(), weight


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

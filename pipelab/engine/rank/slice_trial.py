"""Whether a stage gives the same for a sequence in slices as for the whole one, tried once.

A layer that looks along the sequence without asking for earlier slices (pipelab.models.slices)
would train silently with other numbers: a convolution, attention of somebody else's, a mean over
tokens. So would a loss that is no mean over tokens. The first microbatch of a training is run both
ways, without gradients and in eval mode.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pipelab.action import Slice
from pipelab.engine.protocol.commands import Loss
from pipelab.errors import BatchError
from pipelab.models.slices import Slices
from pipelab.partition import call
from pipelab.partition.tree import Flat, flatten, join

_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}
_ROUNDING_OF_HALF = 0.05


class SliceTrial:
    """Collects the slices of one microbatch, then judges the stage by them."""

    def __init__(self, stage: int, module: nn.Module, loss: Loss | None):
        self.stage = stage
        self.module = module
        self.loss = loss
        self.inputs: list[Flat] = []
        self.targets: list[Flat] = []
        self.weights: list[float] = []
        self.is_done = False

    def add(self, number: int, inputs: Flat, target: Flat | None, weight: float) -> None:
        """One slice that is about to run. Raises BatchError with the last one, if they differ."""
        if self.is_done or not isinstance(number, Slice):
            return
        self.inputs.append(inputs.map(lambda tensor: tensor.detach().clone()))
        self.targets += [] if target is None else [target]
        self.weights.append(weight)
        if len(self.inputs) == number.of:
            self.is_done = True
            self._judge(number.of)
            self.inputs, self.targets = [], []

    @torch.no_grad()
    def _judge(self, count: int) -> None:
        with torch.random.fork_rng(devices=[]):  # the forward to come draws what it would
            whole, outputs = self._both_ways(count)
        if self.loss is None:
            self._compare(flatten(whole), along_tokens([*map(flatten, outputs)]))
        else:
            self._compare_losses(self.loss, whole, outputs)

    def _both_ways(self, count: int) -> tuple[Any, list[Any]]:
        """What the whole sequence gives, and what its slices do."""
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        slices, outputs = Slices(), []
        for place, part in enumerate(self.inputs):
            with slices.forward(Slice(0, place, count), part.tensors):
                outputs.append(call(self.module, part.map(Tensor.clone).unflatten()))
        whole = call(self.module, along_tokens(self.inputs).unflatten())
        for module, mode in modes:
            module.training = mode
        return whole, outputs

    def _compare(self, whole: Flat, joined: Flat) -> None:
        pairs = zip(whole.tensors, joined.tensors, strict=True)
        if not all(_is_close(a, b) for a, b in pairs):
            raise BatchError(
                f"stage {self.stage} gives other outputs for a sequence in {len(self.inputs)} "
                f"slices than for\nthe whole one: a layer looks along the sequence; let it ask for "
                f"earlier slices\n(pipelab.models.slices), or use a schedule without slices"
            )

    def _compare_losses(self, loss: Loss, whole: Any, outputs: list[Any]) -> None:
        """The weighted mean of the slices' losses is that of the whole sequence."""
        total = sum(self.weights)
        if not total:  # all of its targets are ignored: there is no mean to compare
            return
        parts = zip(outputs, self.targets, self.weights, strict=True)
        losses = [loss(x, target.unflatten()) * (w / total) for x, target, w in parts if w]
        mean, expected = sum(losses), loss(whole, along_tokens(self.targets).unflatten())
        if expected.isfinite().all() and not _is_close(expected, torch.as_tensor(mean)):
            raise BatchError(
                f"the loss of a whole sequence is {float(expected):.4g}, the mean of those of its "
                f"slices {float(mean):.4g}:\neither it is no mean over tokens (or count= is "
                f"missing), or a layer of stage {self.stage}\nlooks along the sequence without "
                f"asking for earlier slices (pipelab.models.slices)"
            )


def along_tokens(parts: list[Flat]) -> Flat:
    """Slices as one sequence."""
    first = parts[0].form
    leaves = tuple(leaf if leaf is None else _along(leaf) for leaf in first.leaves)
    return join([Flat(part.tensors, first._replace(leaves=leaves)) for part in parts])


def _along(leaf: Any) -> Any:
    return leaf._replace(dim=1) if hasattr(leaf, "dim") and leaf.dim is not None else leaf


def _is_close(a: Tensor, b: Tensor) -> bool:
    rounding = _ROUNDING.get(a.dtype, _ROUNDING_OF_HALF)
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    scale = float(a.abs().max()) if a.numel() else 0.0
    return bool(torch.allclose(a, b.to(a.dtype), rtol=rounding, atol=rounding * scale))

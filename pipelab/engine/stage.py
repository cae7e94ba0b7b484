"""A stage on its rank: forward and backward of one microbatch, and what is kept in between."""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from pipelab.engine.backward import WeightsLater
from pipelab.engine.commands import Loss
from pipelab.engine.memory import SavedBytes


class _Kept(NamedTuple):
    """A microbatch in flight: its graph from ``node``, at the input, to ``output``.

    ``entry`` receives the gradient of the input.
    """

    entry: list[Tensor]
    node: Node | None
    output: Tensor


class Stage:
    """Some layers of the model, and the activations of the microbatches in flight.

    Args:
        loss: set on the last stage alone.
        is_first: its inputs are the learner's data, which need no gradient.
    """

    def __init__(self, module: nn.Module, loss: Loss | None, is_first: bool):
        self.module = module
        self.loss = loss
        self.is_first = is_first
        self.kept: dict[int, _Kept] = {}
        self.halved: dict[int, WeightsLater] = {}  # after I, before W
        self._saved_bytes: dict[tuple[object, ...], int] = {}

    def forward(
        self, microbatch: int, inputs: Tensor, target: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """The output for the next stage; on the last stage the loss, scaled by ``weight``.

        Keeps the graph from input to output until ``backward``.
        """
        entry: list[Tensor] = []
        if not self.is_first:
            inputs = _Entry.apply(_anchor(), inputs, entry)  # type: ignore[no-untyped-call]
        output = self._apply(inputs)
        if self.loss is not None:
            assert target is not None
            # the one place where a gradient is scaled: rows of the microbatch over all rows
            output = mean_loss(self.loss, output, target) * weight
        self.kept[microbatch] = _Kept(entry, None if self.is_first else inputs.grad_fn, output)
        return output

    def backward(self, microbatch: int, gradient: Tensor | None) -> Tensor | None:
        """The gradient of the input, given that of the output (None on the last stage)."""
        kept = self.kept.pop(microbatch)
        if kept.output.requires_grad:  # a first stage of frozen layers has no graph
            torch.autograd.backward(kept.output, gradient)
        return kept.entry[0] if kept.entry else None

    def backward_input(self, microbatch: int, gradient: Tensor | None) -> Tensor | None:
        """The gradient of the input alone; those of the weights wait for ``backward_weight``."""
        kept = self.kept.pop(microbatch)
        half = self.halved[microbatch] = WeightsLater(kept.output, kept.node)
        half.backward_input(gradient, _anchor())
        return kept.entry[0] if kept.entry else None

    def backward_weight(self, microbatch: int) -> None:
        """The gradients of the weights, and the end of the microbatch's activations."""
        self.halved.pop(microbatch).backward_weight()

    def kept_bytes(self, inputs: Tensor) -> int:
        """Bytes that one forward of such inputs keeps; measured once for each shape."""
        return self._saved_bytes.get((tuple(inputs.shape), inputs.dtype), 0)

    def _apply(self, inputs: Tensor) -> Tensor:
        key = (tuple(inputs.shape), inputs.dtype)
        if key in self._saved_bytes:
            output = self.module(inputs)
        else:
            with SavedBytes(self.module) as saved:
                output = self.module(inputs)
            if isinstance(output, Tensor):
                saved.keep(inputs)
                saved.keep(output)
            self._saved_bytes[key] = saved.total
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the stage returned a {type(output).__name__}: a stage returns one tensor"
            )
        return output


class _Entry(torch.autograd.Function):
    """Where a stage's graph begins: lays the gradient that arrives there into a list.

    A plain ``inputs.requires_grad_()`` would do, but for layers that work in place (such as
    ``ReLU(inplace=True)`` at the start of a stage): those may not touch a leaf.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, inputs: Tensor, entry: list[Tensor]) -> Tensor:
        ctx.entry = entry
        ctx.mark_dirty(inputs)
        return inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ctx.entry.append(gradient)
        return None, None, None


@cache
def _anchor() -> Tensor:
    """Makes autograd follow the entry, although the input itself needs no gradient."""
    return torch.zeros((), requires_grad=True)


def mean_loss(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    """The loss, if it is one number; raises TypeError otherwise."""
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"the loss returned {found}, not a tensor with one number: return the mean over the "
            f"rows (reduction='mean')"
        )
    return value.reshape(())

"""A stage on its rank: forward and backward of one microbatch, and what is kept in between."""

import torch
from torch import Tensor, nn

from pipelab.engine.commands import Loss
from pipelab.engine.memory import SavedBytes


class Stage:
    """Some layers of the model, and the activations of the microbatches in flight.

    ``loss`` is set on the last stage alone.
    """

    def __init__(self, module: nn.Module, loss: Loss | None):
        self.module = module
        self.loss = loss
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}  # microbatch -> (input, output)
        self._saved_bytes: dict[tuple[object, ...], int] = {}

    def forward(
        self, microbatch: int, inputs: Tensor, target: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """The output for the next stage; on the last stage the loss, scaled by ``weight``.

        Keeps the input and the output until ``backward``.
        """
        inputs = inputs.detach()
        if inputs.is_floating_point() or inputs.is_complex():
            inputs.requires_grad_()
        output = self._apply(inputs)
        if self.loss is not None:
            assert target is not None
            # the one place where a gradient is scaled: rows of the microbatch over all rows
            output = mean_loss(self.loss, output, target) * weight
        self.kept[microbatch] = inputs, output
        return output

    def backward(self, microbatch: int, gradient: Tensor | None) -> Tensor | None:
        """The gradient of the input, given that of the output (None on the last stage)."""
        inputs, output = self.kept.pop(microbatch)
        if output.requires_grad:  # a stage of frozen layers after integer inputs has no graph
            torch.autograd.backward(output, gradient)
        return inputs.grad

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

"""The loss of a microbatch, in the place and with the weight that the gradient rule wants."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipelab.engine.protocol import tree
from pipelab.engine.protocol.commands import Loss


def on_device(loss: Loss, device: torch.device) -> Loss:
    """The same loss where its stage computes: with copies of the tensors that it holds.

    Those are a module's, such as the classes' weights, or what a ``partial`` was given.
    """
    if device.type == "cpu":
        return loss
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss).to(device)
    if isinstance(loss, partial):
        given = tree.to([*loss.args], device), tree.to(loss.keywords, device)
        return partial(on_device(loss.func, device), *given[0], **given[1])
    return loss


def weighted_loss(loss: Loss, output: Any, target: Any, weight: float) -> Tensor:
    """The loss, if it is one number, times what the microbatch counts; raises TypeError otherwise.

    A microbatch that counts nothing, all of its targets ignored, adds an exact 0: its own mean is
    0/0, and a NaN would spread to all gradients. So would an output's own infinity times 0: the sum
    is over none of its entries.
    """
    if weight == 0.0:
        return sum((x.flatten()[:0].sum() for x in tree.tensors_of(output)), torch.zeros(()))
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"the loss returned {found}, not a tensor with one number: return the mean over the "
            f"rows (reduction='mean')"
        )
    return value.reshape(()) * weight

"""A loss on the device where its stage computes."""

import copy
from functools import partial

import torch
from torch import nn

from pipelab.engine.protocol.commands import Loss
from pipelab.partition.tree import map_tensors


def on_device(loss: Loss, device: torch.device) -> Loss:
    """The same loss with its tensors on ``device``.

    These are the tensors of a module, such as the weights of the classes, or the arguments of a
    ``partial``.
    """
    if device.type == "cpu":
        return loss
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss).to(device)
    if isinstance(loss, partial):
        args, keywords = map_tensors(lambda t: t.to(device), ([*loss.args], loss.keywords))
        return partial(on_device(loss.func, device), *args, **keywords)
    return loss

"""THE GRADIENT RULE.

The gradient of a step is that of the mean loss over *all* rows of the batch:

    gradient = sum over microbatches of   weight x gradient of the microbatch's own mean loss
    weight   = what the microbatch counts / what the whole batch counts, all replicas included

A microbatch counts its rows, or what ``count=`` says for its targets. So microbatches of different
sizes, and replicas with different numbers of rows, are right without a special case.

    weights()         computes the weights, in the process that asks (driver/microbatches.py)
    weighted_loss()   multiplies a loss by its weight, on the last stage (rank/stage.py)

Each gradient is scaled exactly once, there: at the loss. Everything after that only adds. A stage
adds the gradients of its microbatches, an all-reduce adds those of the replicas
(rank/data_parallel.py), and the owner of a tied weight adds those of its other stages
(rank/tied_weights.py). (With fp16 the loss is also multiplied by the loss scale, which is divided
out again before the update: rank/update.py.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipelab.engine.protocol.commands import Loss, Reduction
from pipelab.errors import BatchError
from pipelab.partition.tree import described, tensors_of


def weights(counts: Sequence[float], reduction: Reduction = "mean") -> list[float]:
    """What to multiply the loss of each microbatch of the whole batch by.

    ``reduction``: whether each loss is a mean over what its microbatch counts, or a sum.

    >>> weights([3, 1])
    [0.75, 0.25]

    Raises:
        BatchError: counts of which no mean can be taken.
    """
    total = sum(counts)
    if not 0.0 < total < float("inf") or min(counts) < 0.0:
        raise BatchError(
            f"count= gave {[*counts]} for the microbatches: a mean needs counts >= 0, and one "
            f"above 0"
        )
    # one division per microbatch: the same float that a plain loop would multiply by
    return [n / total if reduction == "mean" else 1.0 / total for n in counts]


def weighted_loss(loss: Loss, output: Any, target: Any, weight: float) -> Tensor:
    """The loss times its weight: the only place where a gradient is scaled.

    A microbatch with weight 0, all of its targets ignored, adds an exact 0: its own mean is 0/0,
    and a NaN would spread to all gradients. So would an infinity of the output times 0: the sum is
    over none of its entries.

    Raises:
        TypeError: the loss did not return one number.
    """
    if weight == 0.0:
        return sum((x.flatten()[:0].sum() for x in tensors_of(output)), torch.zeros(()))
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(
            f"the loss returned {described(value)}, not a tensor with one number: return the mean "
            f"over the rows (reduction='mean')"
        )
    if value.is_complex():
        raise TypeError("the loss returned a complex number: return a real one, such as its .abs()")
    if value.is_leaf:
        value = value.detach()  # made anew: its graph, if it says to have one, ends there
    return value.reshape(()) * weight

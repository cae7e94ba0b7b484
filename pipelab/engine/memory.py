"""Bytes that a rank holds: its slice of the model, and what a forward keeps for its backward."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipelab.partition.saved import SavedBytes as SavedBytes
from pipelab.trace import Memory


def held_by(stages: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> Memory:
    """Bytes of parameters, of their gradients, and of the optimizers' state, on this rank."""
    parameters = [p for stage in stages for p in stage.parameters()]
    state = [
        value for o in optimizers for entry in o.state.values() for value in entry.values()
        if isinstance(value, Tensor)
    ]  # fmt: skip
    return Memory(
        sum(p.nbytes for p in parameters),
        sum(p.grad.nbytes for p in parameters if p.grad is not None),
        sum(value.nbytes for value in state),
    )

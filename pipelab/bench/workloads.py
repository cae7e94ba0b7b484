"""What is trained in the benches: a model, its loss and one batch of 64 or 32 rows.

The batch stays the same whatever m is: more microbatches are smaller ones. At m = 8 a microbatch
of the tiny GPT has 32 tokens, of the medium one 128.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine.protocol.commands import Loss
from pipelab.models import batches, mlp, next_byte_loss, tiny_gpt

OPTIMIZER = partial(torch.optim.SGD, lr=0.01)
_ROWS = 32  # as many as the most microbatches of the grid
_ENDS = 2  # layers of a GPT that are no blocks: embedding and head


class Workload(NamedTuple):
    """A model, its loss and one batch."""

    model: nn.Sequential
    loss: Loss
    inputs: Tensor
    targets: Tensor

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.model.parameters())


def _mlp(num_stages: int) -> Workload:
    inputs, targets = torch.randn(64, 16), torch.randint(10, (64,))
    return Workload(mlp(depth=max(8, num_stages)), nn.functional.cross_entropy, inputs, targets)


def _gpt(num_stages: int, tokens: int, width: int) -> Workload:
    inputs, targets = next(batches(_ROWS, tokens))
    model = tiny_gpt(width, blocks=max(4, num_stages - _ENDS), context=tokens)
    return Workload(model, next_byte_loss, inputs, targets)


WORKLOADS: dict[str, Callable[[int], Workload]] = {
    "mlp": _mlp,
    "tiny gpt": partial(_gpt, tokens=8, width=64),
    "medium gpt": partial(_gpt, tokens=32, width=256),
}


def workload(name: str, num_stages: int) -> Workload:
    """One by its name, with a layer for each stage at least; the same weights every time."""
    torch.manual_seed(0)
    return WORKLOADS[name](num_stages)

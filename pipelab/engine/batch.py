"""One batch on one rank: its microbatches, and the results that wait for their next user."""

from typing import Any

import torch
from torch import Tensor

from pipelab.action import Action
from pipelab.engine import tree
from pipelab.engine.commands import Run
from pipelab.engine.tree import Form


class Batch:
    """The data of one ``Run``, cut by rows.

    Attributes:
        inputs, targets: one entry for each microbatch; empty on ranks that do not see them.
        values: for an F, its input: tensors and form. Laid there by the rank itself or the mail.
        gradients: for a B or I (as I), those of its stage's output.
        leaving: for a SEND, what it takes along: a value's tensors and form, or gradients.
    """

    def __init__(self, run: Run, device: torch.device):
        self.run = run
        self.train = run.train
        inputs, targets = tree.to(run.inputs, device), tree.to(run.targets, device)
        self.inputs = [] if inputs is None else tree.cut(inputs, run.sizes)
        self.targets = [] if targets is None else tree.cut(targets, run.sizes)
        self.values: dict[Action, tuple[list[Tensor], Form]] = {}
        self.gradients: dict[Action, list[Tensor]] = {}
        self.leaving: dict[Action, Any] = {}
        self.losses: list[Tensor] = []
        self.outputs: list[Any] = []

    def rows(self, action: Action) -> int:
        """Rows of the action's microbatch."""
        return self.run.sizes[number(action)]

    def input_of(self, action: Action) -> tuple[list[Tensor], Form]:
        """What an F works on: the learner's data on the first stage."""
        if action.stage == 0:
            return tree.take_apart(self.inputs[number(action)])
        return self.values.pop(action)

    @property
    def loss(self) -> float | None:
        """This rank's share of the loss; None where it computed none."""
        return sum(loss.item() for loss in self.losses) if self.losses else None

    @property
    def collected(self) -> Any:
        """The outputs of all microbatches, if they are wanted and this rank has them."""
        return tree.join(self.outputs) if self.run.collect and self.outputs else None


def number(action: Action) -> int:
    """The action's microbatch; REDUCE_GRAD and STEP alone have none."""
    assert action.microbatch is not None
    return action.microbatch

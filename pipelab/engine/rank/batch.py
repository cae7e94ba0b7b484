"""One batch on one rank: its microbatches, the results that wait, and which message goes where."""

from typing import Any

import torch
from torch import Tensor

from pipelab.action import MESSAGES, Action, Kind
from pipelab.engine.protocol import tree
from pipelab.engine.protocol.commands import Run
from pipelab.engine.protocol.tree import Form

_NEEDS = {Kind.F: Kind.RECV_F, Kind.B: Kind.RECV_B, Kind.I: Kind.RECV_B}
_SENT_AS = {Kind.RECV_F: (-1, Kind.SEND_F), Kind.RECV_B: (+1, Kind.SEND_B)}


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


class Route:
    """One rank's row, for training or for evaluation.

    Attributes:
        needs_message: for each computing action that needs a message, the RECV that posts it.
        home: the rank of each stage.
    """

    def __init__(self, row: tuple[Action, ...], home: dict[int, int]):
        self.row = row
        self.home = home
        posted = set(row)
        pairs = ((a, a._replace(kind=_NEEDS[a.kind])) for a in row if a.kind in _NEEDS)
        self.needs_message = {action: recv for action, recv in pairs if recv in posted}

    def actions(self, num_microbatches: int, update: bool) -> list[Action]:
        """The row for a batch that may have fewer microbatches, or no update at its end."""
        return [
            a
            for a in self.row
            if (update if a.microbatch is None else a.microbatch < num_microbatches)
        ]

    def channels(self, rank: int) -> set[tuple[int, int]]:
        """The ways from rank to rank that this rank's messages take."""
        found = set()
        for action in self.row:
            if action.kind in MESSAGES:
                ends = (rank, self.peer(action))
                sends = action.kind in (Kind.SEND_F, Kind.SEND_B)
                found.add(ends if sends else ends[::-1])
        return found

    def peer(self, message: Action) -> int:
        """The rank at the other end of a message."""
        forward = message.kind in (Kind.SEND_F, Kind.RECV_B)
        return self.home[message.stage + (1 if forward else -1)]


def sent_as(recv: Action) -> Action:
    """The SEND at the other end of a RECV.

    >>> sent_as(Action(2, Kind.RECV_F, 0)).token
    '1SEND_F0'
    """
    step, kind = _SENT_AS[recv.kind]
    return recv._replace(stage=recv.stage + step, kind=kind)

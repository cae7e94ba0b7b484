"""Tied weights: one parameter that several stages have, and of which each rank has a copy.

    rank of stage 3    its gradient ──┐                            ┌─▶ the new value
    rank of stage 2    its gradient ──┤                            ├─▶ the new value
    rank of stage 0    its gradient ──┴─▶ sum ─▶ clip ─▶ STEP ─────┘

The lowest stage that has a tied weight owns it. Before the first STEP its rank adds to its own
gradient those of the others, the last stage first, as in the backward of one process; THE GRADIENT
RULE (protocol/gradient_rule.py) has weighted them all. It alone has the optimizer's state, and it
counts the gradient in norms once. After its STEP it sends the new value to the others, so that
copies are equal bit for bit, whatever the optimizer does.

One process adds stages within each microbatch, and then microbatches; here each stage has added its
microbatches before. So all bits are equal for one microbatch, and a rounding apart for more, or if
a stage below the last uses the weight twice, since autograd adds these two first. Stages on one
rank have the same parameter, and autograd adds their gradients.

No two ranks can wait for each other: gradients leave when a rank has run all its microbatches, and
every buffer is open before anything is waited for. A STEP waits for values of lower stages alone,
and the STEPs of a rank stand in the order of its stages (driver/plan.py). Both ends of a channel
take tied weights in the same order, as NCCL needs it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelab.action import Action, Kind
from pipelab.engine.rank.stage import Stage
from pipelab.engine.transport.backends import Channel, named
from pipelab.engine.transport.rank_messages import Messages
from pipelab.errors import PartitionError
from pipelab.partition.sharing import Tie

_TAGS = 1 << 30  # behind those of all microbatches
_DENSE, _SPARSE = 1, 2


@dataclass(eq=False)
class _Copy:
    """A tied weight on this rank, of which other ranks have copies too.

    Attributes:
        number: its place among all tied weights.
        stage: the lowest stage of this rank that has it.
        is_owner: whether that is the lowest of all.
        peers: for the owner, the other ranks, that of the last stage first; else the owner's rank.
        version: counts the changes of the parameter that were meant.
        value: where the new value arrives, if it is on its way.
    """

    number: int
    tie: Tie
    parameter: nn.Parameter
    stage: int
    is_owner: bool
    peers: list[int] = field(default_factory=list)
    version: int = 0
    value: Tensor | None = None
    arriving: dist.Work | None = None

    @property
    def buffer_bytes(self) -> int:
        """Of its gradients as they travel, one for each peer."""
        return len(self.peers) * (self.parameter.numel() + 1) * self.parameter.element_size()


class TiedWeights:
    """The tied weights of one rank.

    Args:
        ties: of the whole model, in the same order on all ranks.
        hands_on: whether there is an optimizer, after whose step the new values are sent.
    """

    def __init__(
        self, ties: Sequence[Tie], stages: Mapping[int, Stage], messages: Messages, hands_on: bool
    ):
        self.stages = stages
        self.messages = messages
        self.hands_on = hands_on
        self.is_added = False  # whether the gradients of this step have been added up
        self.sending: list[tuple[Action, int, dist.Work, Tensor]] = []
        self.names = _names(stages)
        self.copies: list[_Copy] = []
        for number, tie in enumerate(ties):
            if here := [stage for stage in sorted(tie.names) if stage in stages]:
                self._add(number, tie, here)

    def _add(self, number: int, tie: Tie, here: list[int]) -> None:
        """A tied weight that some stages ``here`` have."""
        parameter = _parameter(self.stages[here[0]], tie.names[here[0]])
        self.names[parameter] = tie.name
        is_owner = here[0] == tie.owner
        for stage in here:
            # counted once: where its gradient is made first
            if stage != here[-1]:
                _remove(self.stages[stage].parameters, parameter)
            if stage != tie.owner:
                _remove(self.stages[stage].updated, parameter)
        if tie.is_trained and len(here) < len(tie.names):
            self.copies.append(_Copy(number, tie, parameter, here[0], is_owner))

    def use(self, home: Mapping[int, int]) -> set[Channel]:
        """Each stage is on this rank from now on; returns the channels that are needed."""
        channels = set()
        for copy in self.copies:
            own = home[copy.stage]
            holders = dict.fromkeys(home[stage] for stage in sorted(copy.tie.names, reverse=True))
            copy.peers = [rank for rank in holders if rank != own]
            if not copy.is_owner:
                copy.peers = [home[copy.tie.owner]]
            channels |= {pair for rank in copy.peers for pair in ((own, rank), (rank, own))}
        self.remember()
        return channels

    def begin(self, train: bool) -> None:
        """Start a batch."""
        self.is_added = self.is_added and not train

    def remember(self) -> None:
        """Take the weights as they are now for equal on all ranks: at the start, after a load."""
        for copy in self.copies:
            copy.version = copy.parameter._version

    def _check(self) -> None:
        for copy in self.copies:
            if copy.version != copy.parameter._version:
                raise PartitionError(_changed(copy))

    def buffer_bytes(self, stage: int) -> int:
        """Bytes that travel for the REDUCE_GRAD of a stage."""
        return sum(copy.buffer_bytes for copy in self.copies if copy.stage == stage)

    def add_up(self) -> None:
        """Block until each owner on this rank has the sum, and the others' gradients have left.

        Raises:
            PartitionError: a forward has changed a tied weight, and so one of its copies.
        """
        self._check()
        started = [(copy, *self._exchange(copy)) for copy in self.copies]
        for copy, tensors, works in started:
            for peer, work in zip(copy.peers, works, strict=True):
                self._finish(Action(copy.stage, Kind.REDUCE_GRAD), peer, work)
            if copy.is_owner:
                _add_gradients(copy.parameter, map(self.messages.carrier.arrived, tensors))
        del started
        for copy in self.copies:
            if self.hands_on and not copy.is_owner:
                self._expect(copy)
        self.is_added = True

    def _exchange(self, copy: _Copy) -> tuple[list[Tensor], list[dist.Work]]:
        """Open a buffer for each peer's gradient, or send the one of this rank."""
        carrier, parameter, tag = self.messages.carrier, copy.parameter, _TAGS + 2 * copy.number
        with named(Action(copy.stage, Kind.REDUCE_GRAD), copy.peers[0]):
            if not copy.is_owner:
                tensors = [carrier.outgoing(_flat(parameter))]
                return tensors, [carrier.send(tensors[0], copy.peers[0], tag)]
            size = (parameter.numel() + 1,)
            tensors = [carrier.buffer(size, parameter.dtype) for _ in copy.peers]
            return tensors, [
                carrier.receive(tensor, peer, tag)
                for tensor, peer in zip(tensors, copy.peers, strict=True)
            ]

    def _expect(self, copy: _Copy) -> None:
        """Open a buffer for the new value."""
        carrier, (owner,) = self.messages.carrier, copy.peers
        copy.value = carrier.buffer((copy.parameter.numel(),), copy.parameter.dtype)
        with named(_step_of(copy), owner):
            copy.arriving = carrier.receive(copy.value, owner, _TAGS + 2 * copy.number + 1)

    def hand_on(self, stage: int) -> None:
        """After the STEP of a stage: start to send the new values of what it owns."""
        carrier = self.messages.carrier
        for copy in self.copies:
            if copy.is_owner and copy.stage == stage and self.hands_on:
                copy.version = copy.parameter._version
                value = carrier.outgoing(copy.parameter).view(-1)
                for peer in copy.peers:
                    with named(_step_of(copy), peer):
                        work = carrier.send(value, peer, _TAGS + 2 * copy.number + 1)
                    self.sending.append((_step_of(copy), peer, work, value))

    def awaited(self, stage: int) -> Iterator[tuple[_Copy, Action, int]]:
        """The new values that the STEP of a stage waits for: of which STEP, on which rank."""
        for copy in self.copies:
            if copy.stage == stage and copy.arriving is not None:
                yield copy, _step_of(copy), copy.peers[0]

    def take(self, copy: _Copy) -> None:
        """Block until a new value is there, and take it."""
        assert copy.arriving is not None and copy.value is not None
        self._finish(_step_of(copy), copy.peers[0], copy.arriving)
        with torch.no_grad():
            copy.parameter.copy_(self.messages.carrier.arrived(copy.value).view_as(copy.parameter))
        copy.version = copy.parameter._version
        copy.arriving = copy.value = None

    def finish(self) -> None:
        """End a batch: block until all values have left. Raises PartitionError as ``add_up``."""
        self._check()
        for action, peer, work, _ in self.sending:
            self._finish(action, peer, work)
        self.sending.clear()

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Those of this rank, by the model's own names.

        Of a tied weight each rank gives its part, and after the sum its owner alone.
        """
        of_others = {copy.parameter for copy in self.copies if self.is_added and not copy.is_owner}
        for stage in self.stages.values():
            for parameter in stage.parameters:
                if parameter.grad is not None and parameter not in of_others:
                    yield self.names[parameter], parameter.grad

    def _finish(self, action: Action, peer: int, work: dist.Work) -> None:
        with named(action, peer):
            self.messages.carrier.finish(work, self.messages.timeout)


def _names(stages: Mapping[int, Stage]) -> dict[nn.Parameter, str]:
    return {p: name for stage in stages.values() for name, p in stage.module.named_parameters()}


def _parameter(stage: Stage, name: str) -> nn.Parameter:
    return dict(stage.module.named_parameters(remove_duplicate=False))[name]


def _remove(parameters: list[nn.Parameter], one: nn.Parameter) -> None:
    """``list.remove`` would compare values."""
    parameters[:] = [parameter for parameter in parameters if parameter is not one]


def _step_of(copy: _Copy) -> Action:
    return Action(copy.tie.owner, Kind.STEP)


def _changed(copy: _Copy) -> str:
    names = ", ".join(f"{name} (stage {stage})" for stage, name in copy.tie.names.items())
    return (
        f"a forward of stage {copy.stage} has changed a tied weight:\n"
        f"  {names} are one weight, of which each rank has a copy.\n"
        f"  Let the optimizer alone change it (an embedding's max_norm= does it in each forward),\n"
        f"  or keep these layers in one stage: split(model, num_stages, sizes=...)."
    )


def _flat(parameter: nn.Parameter) -> Tensor:
    """A gradient as it travels: in one row, and behind it what it is; zeros if there is none."""
    if parameter.grad is None:
        return parameter.new_zeros(parameter.numel() + 1)
    gradient = parameter.grad.to_dense()
    kind = _SPARSE if parameter.grad.is_sparse else _DENSE
    return torch.cat([gradient.flatten(), gradient.new_full((1,), kind)])


def _add_gradients(parameter: nn.Parameter, parts: Iterable[Tensor]) -> None:
    """Add to a gradient what ``_flat`` made of others; where nobody has one, it stays None.

    It stays sparse if all are.
    """
    own = parameter.grad
    are_sparse = own is None or own.is_sparse
    total: Tensor | None = None
    for part in parts:
        if part[-1] != 0:
            are_sparse = are_sparse and bool(part[-1] == _SPARSE)
            total = part[:-1] if total is None else total.add_(part[:-1])
    if total is not None:
        total = total.view_as(parameter)
        total = total.clone() if own is None else total + own.to_dense()
        parameter.grad = total.to_sparse(1) if are_sparse else total

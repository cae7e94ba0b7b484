"""One batch on one rank: its microbatches, the results that wait, and which message goes where."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.action import COMPUTE, MESSAGES, SENDS, Action, Kind, Overlap
from pipelab.engine.protocol.commands import Run
from pipelab.engine.protocol.progress import Wanted
from pipelab.engine.rank.recorder import waiting_for
from pipelab.engine.transport.rank_messages import Content, number
from pipelab.errors import BatchError
from pipelab.partition.tree import Flat, flatten, join

_NEEDS = {Kind.F: Kind.RECV_F, Kind.B: Kind.RECV_B, Kind.I: Kind.RECV_B}
_SENT_AS = {Kind.RECV_F: (-1, Kind.SEND_F), Kind.RECV_B: (+1, Kind.SEND_B)}


class Need(NamedTuple):
    """A message that a computing action waits for.

    Attributes:
        action: which takes it.
        recv: which has opened its buffer.
        wanted: its SEND, and on which rank.
        wait: the event of waiting for it.
    """

    action: Action
    recv: Action
    wanted: Wanted
    wait: tuple[Action, Wanted]


class Part(NamedTuple):
    """What a rank runs of its row in one batch.

    Attributes:
        together: for each action of a pair that overlaps, the pair, if the batch has both.
        needs: what to wait for before each action.
    """

    actions: Sequence[Action]
    num_computing: int
    together: Mapping[Action, Overlap]
    needs: Mapping[Action, Sequence[Need]]


class Route:
    """One rank's row of the schedule, for training or for evaluation.

    Attributes:
        needs: for each computing action that needs a message, which; none for a STEP, which may
            have to wait for all ranks.
        peers: for each message the rank at its other end.
        blocks: for each SEND what it waits for, if there is no room or no open receive.
        takers: for each computing action what takes its result: one of this rank's, or its SEND.
        home: the rank of each stage.
    """

    def __init__(
        self, row: tuple[Action, ...], home: dict[int, int], rank: int,
        overlaps: Iterable[Overlap] = (),
    ):  # fmt: skip
        self.row = row
        self.overlaps = [both for both in overlaps if home[both.forward.stage] == rank]
        self.home = home
        self.rank = rank
        posted = set(row)
        self.peers = {a: self._peer(a) for a in row if a.kind in MESSAGES}
        self.takers = {a: self._taker(a, posted) for a in row if a.kind in (*_NEEDS,)}
        self.needs: dict[Action, list[Need]] = {
            a: [self._need(a, recv)]
            for a in row
            if a.kind in _NEEDS and (recv := a._replace(kind=_NEEDS[a.kind])) in posted
        }
        self.needs |= {action: [] for action in row if action.kind is Kind.STEP}
        self.blocks = {a: Wanted(a, self.peers[a]) for a in row if a.kind in SENDS}
        self._last: tuple[tuple[int, bool], Part] | None = None

    def part(self, num_pieces: int, update: bool) -> Part:
        """The row for a batch that may have fewer microbatches, or no update at its end."""
        key = num_pieces, update
        if self._last is None or self._last[0] != key:  # else as the batch before
            actions = [
                a
                for a in self.row
                if (update if a.microbatch is None else a.microbatch < num_pieces)
            ]
            together = {
                action: both
                for both in self.overlaps
                if max(map(number, both)) < num_pieces
                for action in both
            }
            num_computing = max(1, sum(a.kind in COMPUTE for a in actions))
            self._last = key, Part(actions, num_computing, together, self._needed(together))
        return self._last[1]

    def _needed(self, together: Mapping[Action, Overlap]) -> Mapping[Action, Sequence[Need]]:
        """What to wait for before each action: pairs that overlap start together, with their F."""
        if not together:
            return self.needs
        found = defaultdict[Action, list[Need]](list)
        for action, needs in self.needs.items():
            both = together.get(action)
            found[both.forward if both else action] += needs
        return found

    def channels(self) -> set[tuple[int, int]]:
        """The channels, from rank to rank, that this rank's messages use."""
        found = set()
        for action, peer in self.peers.items():
            ends = (self.rank, peer)
            found.add(ends if action.kind in SENDS else ends[::-1])
        return found

    def _peer(self, message: Action) -> int:
        forward = message.kind in (Kind.SEND_F, Kind.RECV_B)
        return self.home[message.stage + (1 if forward else -1)]

    def _need(self, action: Action, recv: Action) -> Need:
        wanted = Wanted(sent_as(recv), self.peers[recv])
        return Need(action, recv, wanted, (waiting_for(action), wanted))

    def _taker(self, action: Action, row: Set[Action]) -> Action | None:
        """None where nothing takes it: on the last stage, and backward on the first."""
        stage, kind, microbatch = action
        goal = stage + 1 if kind is Kind.F else stage - 1
        if goal not in self.home:
            return None
        if self.home[goal] != self.rank:
            return Action(stage, Kind.SEND_F if kind is Kind.F else Kind.SEND_B, microbatch)
        whole = Action(goal, Kind.F if kind is Kind.F else Kind.B, microbatch)
        return whole if whole in row else whole._replace(kind=Kind.I)


class Batch:
    """The data of one ``Run`` while a rank's row is run.

    Attributes:
        part: of the rank's row, that the batch has.
        inputs, targets: one entry for each microbatch; empty on ranks that do not have them.
        rows, weights: of each microbatch: its rows, and what to multiply its loss by.
        losses: of the microbatches, weighted; empty on ranks without the last stage.
        outputs: of the microbatches, if they are to be collected.
    """

    def __init__(self, run: Run, route: Route, device: torch.device):
        self.run = run
        self.route = route
        self.part = route.part(len(run.weights), run.update)
        self.train = run.train
        self.inputs = [] if run.inputs is None else _pieces(run.inputs.to(device), run)
        self.targets = [] if run.targets is None else _pieces(run.targets.to(device), run)
        self.losses: list[Tensor] = []
        self.outputs: list[Flat] = []
        sizes = run.sizes
        if run.tokens:
            sizes = tuple(rows for rows in sizes for _ in run.tokens)
        self.rows: Mapping[int | None, int] = dict(enumerate(sizes))
        self.weights: Mapping[int | None, float] = dict(enumerate(run.weights))
        self._values: dict[Action, Flat] = {}  # by the F that needs it
        self._gradients: dict[Action, list[Tensor]] = {}  # by the B or I that needs it
        self._leaving: dict[Action, Content] = {}  # by its SEND

    def target(self, action: Action) -> Flat | None:
        """The targets of its microbatch, where this rank has them."""
        return self.targets[number(action)] if self.targets else None

    def input_of(self, action: Action) -> Flat:
        """What an F works on: on the first stage the learner's data."""
        if action.stage == 0:
            return self.inputs[number(action)].unshared()
        return self._values.pop(action)

    def gradients_of(self, action: Action) -> list[Tensor]:
        """For a B or I, the gradients of its stage's output; none on the last stage."""
        return self._gradients.pop(action, [])

    def leaving(self, send: Action) -> Content:
        """What a SEND takes along."""
        return self._leaving.pop(send)

    def arrived(self, action: Action, content: Content) -> None:
        """Keep what a message brought until its action takes it."""
        if isinstance(content, Flat):
            self._values[action] = content
        else:
            self._gradients[action] = content

    def pass_on(self, action: Action, output: Flat) -> None:
        """Keep an output for its SEND, or for the next stage on this rank."""
        taker = self.route.takers[action]
        assert taker is not None, "the last stage passes nothing on"
        if taker.kind is Kind.SEND_F:
            self._leaving[taker] = output
            return
        # copies, as a message is one: the next stage may work on them in place
        copies = [tensor.detach().clone() for tensor in output.tensors]
        self._values[taker] = Flat(copies, output.form)

    def pass_back(self, action: Action, gradients: list[Tensor]) -> None:
        """Keep the gradients of an input for their SEND, or for the stage before on this rank."""
        taker = self.route.takers[action]
        if taker is not None:
            held = self._leaving if taker.kind is Kind.SEND_B else self._gradients
            held[taker] = gradients

    def collect(self, action: Action, output: object) -> None:
        """Keep an output of the last stage, if it is wanted. Raises BatchError."""
        if self.run.collect:
            flat = flatten(output, self.run.output_dim)
            if len(self.run.sizes) > 1:
                check_rows(flat, self.rows[action.microbatch], self.run.output_dim)
            self.outputs.append(flat)

    @property
    def loss(self) -> float | None:
        """This rank's share of the loss; None where it computed none."""
        return sum(loss.item() for loss in self.losses) if self.losses else None

    @property
    def collected(self) -> Flat | None:
        """The outputs of all microbatches, if they are wanted and this rank has them."""
        return join(self.outputs).to("cpu") if self.outputs else None


def _pieces(batch: Flat, run: Run) -> list[Flat]:
    """The microbatches of a batch, or all their slices."""
    parts = batch.cut(run.sizes)
    return [piece for part in parts for piece in part.sliced(run.tokens)] if run.tokens else parts


def check_rows(output: Flat, rows: int, dim: int) -> None:
    """Raise BatchError if outputs of microbatches cannot be joined by rows in this dimension."""
    for tensor in output.tensors:
        if tensor.dim() and not _has_rows(tensor, rows, dim):
            raise BatchError(
                f"predict joins outputs by rows, in dimension {dim}; of {rows} rows came shape "
                f"{tuple(tensor.shape)}:\nsay where rows are, as in predict(x, dim=1), or let the "
                f"last layer return them first"
            )


def _has_rows(tensor: Tensor, rows: int, dim: int) -> bool:
    """Whether a dimension has the rows; the first one may have several entries for each of them."""
    if dim < tensor.dim() and tensor.shape[dim] == rows:
        return True
    others = tensor.shape[1:] if rows > 1 else tensor.shape[1:-1]  # a width of 1 is common
    return dim == 0 and tensor.shape[0] % rows == 0 and rows not in others


def sent_as(recv: Action) -> Action:
    """The SEND at the other end of a RECV.

    >>> sent_as(Action(2, Kind.RECV_F, 0)).token
    '1SEND_F0'
    """
    step, kind = _SENT_AS[recv.kind]
    return recv._replace(stage=recv.stage + step, kind=kind)

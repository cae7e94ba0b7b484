"""Messages through shared memory: the ranks of one machine, on its CPUs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.action import Action
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport.backends import Channel, named, of_message
from pipelab.engine.transport.rank_messages import Content, boundary, is_backward, number, place
from pipelab.engine.transport.rings import NO_STAGE, Name, Rings, plain_form
from pipelab.errors import PartitionError
from pipelab.partition.tree import Flat, Form, memory_order


class _Kind(NamedTuple):
    """What messages have in common whose form stays while batches have one shape.

    Attributes:
        boundary, is_backward: as of a ``Name``.
        place: which slice of its microbatch.
    """

    boundary: int
    is_backward: bool
    place: int
    rows: int
    train: bool


@dataclass(slots=True)
class _Last:
    """The form of the last message of a kind, and its bytes; None and 0 before the first one."""

    form: Form | None = None
    nbytes: int = 0

    def follow(self, form: Form) -> Form:
        """Take another form from now on. Returns the one before, or if there was none, the same."""
        before, self.form, self.nbytes = self.form, form, form.nbytes
        return before or form


@dataclass(slots=True)
class _Way:
    """One message of this rank's row; ``sent``: its number in the ring, once it is there."""

    name: Name
    peer: int
    last: _Last
    sent: int = 0


class RingMessages:
    """One rank's open sends and receives.

    Args:
        rings: carry them.
    """

    is_by_host = True
    clock_offset = 0.0  # a machine has one clock

    def __init__(self, rings: Rings):
        self.rings = rings
        self.timeout = rings.timeout
        self.carrier = RingTransport(rings)
        self.ways: dict[Action, _Way] = {}  # in batches like this one
        self.last: dict[_Kind, _Last] = {}
        self.changed: dict[tuple[int, int], str] = {}  # stage and microbatch: another form came
        self.signature: tuple[object, ...] = ()  # of this batch
        self.cut: tuple[object, ...] = ()  # how it is cut, and what for
        self.train = self.stamped = False

    def use(self, channels: Iterable[Channel]) -> None:
        """Prepare for a schedule whose messages use these channels."""
        self.rings.connect(channels)
        self.ways.clear()

    def begin(self, run: Run, stamped: bool) -> None:
        """Start a batch."""
        cut = run.sizes, run.tokens, run.train
        self.train, self.stamped = run.train, stamped
        if run.signature != self.signature:
            self.last.clear()
        if (run.signature, cut) != (self.signature, self.cut):
            self.ways.clear()
        self.signature, self.cut = run.signature, cut
        self.changed.clear()

    def post(self, recv: Action, peer: int, rows: int) -> int:
        """Open a receive. Returns its bytes, if such a message came before."""
        way = self.ways.get(recv) or self._way(recv, peer, rows)
        self.rings.open(way.name, peer)
        return way.last.nbytes

    def wait(self, recv: Action, rows: int) -> tuple[Content, float]:
        """Block until a posted message is there: its content, its stamp."""
        way = self.ways[recv]
        try:
            flat, stamp = self.rings.wait(way.name, way.peer)
        except RuntimeError as error:
            raise of_message(error, recv, way.peer) from None
        before = None if flat.form == way.last.form else way.last.follow(flat.form)
        if way.name.is_backward:
            return flat.tensors, stamp
        if before is not None and before != flat.form:
            self.changed[recv.stage, number(recv)] = (
                f"Its input, from rank {way.peer}, is {flat.form}, but the last one from {rows} "
                f"rows was {before}: look at the output of stage {recv.stage - 1}"
            )
        return flat, stamp

    def explain(self, action: Action, error: Exception) -> None:
        """Add to an error of an action that its input is unlike the ones before."""
        if note := self.changed.get((action.stage, number(action))):
            error.add_note(note)

    def send(self, send: Action, content: Content, peer: int, rows: int, stamp: float) -> int:
        """Copy a message into the ring; blocks only while that has no room. Returns its bytes."""
        flat = content if isinstance(content, Flat) else Flat(content, plain_form(content))
        way = self.ways.get(send) or self._way(send, peer, rows)
        last, form = way.last, flat.form
        if form != last.form and not form.is_alike(before := last.follow(form)):
            raise PartitionError(
                f"{send.token}: {flat.form}, but the last one from {rows} rows was {before}.\n"
                f"While the batch keeps its shape, only the sizes of what a stage hands over may "
                f"change"
            )
        try:
            way.sent = self.rings.send(way.name, _ordered(flat), peer, self.stamped and stamp)
        except RuntimeError as error:
            raise of_message(error, send, peer) from None
        return last.nbytes

    def block(self, send: Action) -> None:
        """Block until the receiver has opened its buffer for a send, as without overlap."""
        way = self.ways[send]
        with named(send, way.peer):
            self.rings.wait_until_opened(way.sent, way.peer)

    def finish(self, before_wait: Callable[[Action, int], None] = lambda send, peer: None) -> None:
        """Nothing to do: what was sent is in the ring."""

    def close(self) -> None:
        """Nothing to do: the memory goes with the process."""

    def _way(self, message: Action, peer: int, rows: int) -> _Way:
        kind = _Kind(
            boundary(message), is_backward(message), place(message), rows, self.train
        )  # fmt: skip
        last = self.last.setdefault(kind, _Last())
        way = self.ways[message] = _Way(Name(number(message), *kind[:2]), peer, last)
        return way


class _Pending(NamedTuple):
    """A tensor under way; ``buffer`` where it is received."""

    name: Name
    peer: int
    buffer: Tensor | None = None


class RingTransport:
    """Single tensors through the same rings: for what is no value or gradient of a microbatch."""

    def __init__(self, rings: Rings):
        self.rings = rings

    def open(self, channels: Iterable[Channel]) -> None:
        """Be ready for messages of these channels."""
        self.rings.connect(channels)

    def send(self, tensor: Tensor, peer: int, tag: int) -> _Pending:
        """Send what ``outgoing`` gave."""
        name = Name(tag, NO_STAGE, False)
        self.rings.send(name, _ordered(Flat([tensor], plain_form([tensor]))), peer)
        return _Pending(name, peer)

    def receive(self, buffer: Tensor, peer: int, tag: int) -> _Pending:
        """Open a buffer for a message; never blocks."""
        name = Name(tag, NO_STAGE, False)
        self.rings.open(name, peer)
        return _Pending(name, peer, buffer)

    def finish(self, work: _Pending, timeout: float) -> None:
        """Block until a message has completed."""
        if work.buffer is not None:
            (tensor,) = self.rings.wait(work.name, work.peer)[0].tensors
            work.buffer.copy_(tensor)

    def close(self) -> None:
        """Nothing to do."""

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An empty tensor to receive into."""
        return torch.empty(shape, dtype=dtype)

    def outgoing(self, tensor: Tensor) -> Tensor:
        """A tensor as it leaves."""
        return _outgoing(tensor)

    def arrived(self, buffer: Tensor) -> Tensor:
        """As it is."""
        return buffer


def _ordered(flat: Flat) -> Flat:
    """As it leaves: its tensors' numbers one after the other, and in its form in which order."""
    for x in flat.tensors:
        if not x.is_contiguous() or x.is_conj() or x.is_neg():
            break
    else:
        return flat  # most are
    flat = Flat([_outgoing(tensor) for tensor in flat.tensors], flat.form)
    return Flat(flat.tensors, flat.in_memory())


def _outgoing(tensor: Tensor) -> Tensor:
    """The tensor's numbers, one after the other, in the order of dimensions that it has."""
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    tensor = tensor.detach()
    return tensor.contiguous() if memory_order(tensor) is None else tensor

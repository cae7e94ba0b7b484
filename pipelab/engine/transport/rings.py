"""What one rank sends and receives through shared memory: trees of tensors, each with a name.

A message is a few numbers, the form of its content (shapes, dtypes, tree), and the bytes of its
tensors. So shapes may change from one microbatch to the next, and no buffer must be known before.

A send copies its message into the ring and is done; it waits only where the ring has no more room.
Then, and wherever else this rank waits, it takes what has come for its own open receives. So a send
waits at most for its receiver's RECV: that is the rule under which schedules are proven.
"""

import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from ctypes import c_double
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.engine.transport.backends import Channel, MessageError
from pipelab.engine.transport.groups import TimedOut
from pipelab.engine.transport.shared_memory import READER, WRITER, Bell, Ring, Shared, memmove
from pipelab.partition.tree import Flat, Form, Leaf, decode, encode

_HEAD = struct.Struct("=qqqq")  # the name, bytes of the form; then the form, and
_STAMP = struct.Struct("=d")


class Name(NamedTuple):
    """Of a message: equal at both ends, different for all that are under way.

    Attributes:
        number: the microbatch; or, for what is no value or gradient, any number.
        boundary: the stage in front of which it crosses; NO_STAGE for what is no value or gradient.
        is_backward: whether it brings gradients.
    """

    number: int
    boundary: int
    is_backward: bool

    def __str__(self) -> str:
        if self.boundary == NO_STAGE:
            return f"tensor {self.number}"
        what = "gradients" if self.is_backward else "value"
        return (
            f"the {what} of microbatch {self.number} between stages {self.boundary - 1} and "
            f"{self.boundary}"
        )


NO_STAGE = -1
_SUM = Name(-1, NO_STAGE, False)


class _Frame(NamedTuple):
    """What messages with one name and one form have in common.

    Attributes:
        head: the bytes in front of the stamp.
        size: bytes of the whole message.
        leaves: its tensors as they come, and ``form``, which they have then.
    """

    head: bytes
    size: int
    leaves: Sequence[Leaf]
    form: Form


@lru_cache(maxsize=1 << 12)  # a step has the same ones again
def _framed(name: Name, form: Form) -> _Frame:
    data = encode(form)
    head = _HEAD.pack(*name, len(data)) + data
    return _Frame(head, len(head) + _STAMP.size + form.nbytes, form.tensors, form.in_memory())


class _Inbox:
    """What comes from one rank. ``opened``: the receives that are open, in order."""

    def __init__(self, ring: Ring, peer: int, bell: Bell):
        self.ring = ring
        self.peer = peer
        self.bell = bell
        self.opened: deque[Name] = deque()
        self.arrived: dict[Name, tuple[Flat, float]] = {}
        self.last: dict[Name, _Frame] = {}  # of the last message of each name
        self._messages = self._take_messages()

    def open(self, name: Name) -> None:
        """Open a receive."""
        self.opened.append(name)
        if self.ring.open_receive():
            self.bell.ring(self.peer)

    def take(self) -> None:
        """Copy out what is there for open receives, as far as it has come."""
        next(self._messages)

    def _take_messages(self) -> Iterator[None]:
        """One message after another; yields where there is nothing to do for now."""
        ring = self.ring
        while True:
            while not self.opened:
                yield
            frame = self.last.get(wanted := self.opened[0])
            while not (address := frame and ring.begins(frame.head, frame.size)):
                if ring.num_there:
                    break
                yield
            self.opened.popleft()
            if frame and address:  # as the last one
                stamp: float = c_double.from_address(address).value
                address += _STAMP.size
            else:
                frame = self.last[wanted] = self._next_frame(wanted)
                (stamp,) = _STAMP.unpack(ring.read_head(_STAMP.size))
            tensors = []
            for leaf in frame.leaves:
                shape = leaf.memory_shape if leaf.order else leaf.shape
                buffer = torch.empty(shape, dtype=leaf.dtype)
                goal, size = buffer.data_ptr(), buffer.nbytes
                if address:
                    memmove(goal, address, size)
                    address += size
                else:
                    while (taken := ring.read(goal, size)) < size:
                        goal, size = goal + taken, size - taken
                        if ring.free():
                            self.bell.ring(self.peer)
                        yield
                tensors.append(leaf.of_memory(buffer) if leaf.order else buffer)
            if ring.free():
                self.bell.ring(self.peer)
            self.arrived[wanted] = Flat(tensors, frame.form), stamp

    def _next_frame(self, wanted: Name) -> _Frame:
        """Read the head of a message that is unlike the last one. Raises MessageError."""
        *name, size = _HEAD.unpack(self.ring.read_head(_HEAD.size))
        if (*name,) != wanted:
            sent = Name(name[0], name[1], bool(name[2]))
            raise MessageError(f"rank {self.peer} sent {sent} in place of {wanted}", self.peer)
        return _framed(wanted, decode(self.ring.read_head(size)))


class Rings:
    """The ends of one rank.

    Args:
        rank: whose they are.
        shared: the memory, and how ranks wake each other up.
        timeout: seconds that any wait may take.
    """

    def __init__(self, rank: int, shared: Shared, timeout: float):
        self.rank = rank
        self.num_ranks = len(shared.bells)
        self.timeout = timeout
        self._memory = shared.memory
        self._bell = Bell(rank, shared)
        self._inboxes: dict[int, _Inbox] = {}  # by the rank that sends
        self._outgoing: dict[int, Ring] = {}  # by the rank that receives

    def connect(self, channels: Iterable[Channel]) -> None:
        """Map the rings of these channels."""
        for source, goal in channels:
            if source == self.rank and goal not in self._outgoing:
                self._outgoing[goal] = self._ring(source, goal)
            elif goal == self.rank and source not in self._inboxes:
                self._inboxes[source] = _Inbox(self._ring(source, goal), source, self._bell)
        self._bell.expect({*self._inboxes, *self._outgoing})

    def _ring(self, source: int, goal: int) -> Ring:
        return Ring(self._memory, source * self.num_ranks + goal)

    def open(self, name: Name, peer: int) -> None:
        """Open a receive; never blocks. Both ends of a channel take messages in the same order."""
        self._inboxes[peer].open(name)

    def wait(self, name: Name, peer: int) -> tuple[Flat, float]:
        """Block until a message is there for which a receive was opened: its content, its stamp.

        Raises:
            TimedOut: it did not come in time.
            RuntimeError: its sender has ended.
            MessageError: another message came in its place.
        """
        inbox = self._inboxes[peer]
        if name not in inbox.arrived:
            inbox.take()
            if name not in inbox.arrived:
                self._wait_until(lambda: name in inbox.arrived, peer, inbox.ring, READER)
        return inbox.arrived.pop(name)

    def send(self, name: Name, flat: Flat, peer: int, stamp: float = 0.0) -> int:
        """Copy a message into the ring, for which it may wait; returns its number in there.

        Args:
            name: of the message.
            flat: tensors whose numbers are one after the other in memory, in the order of
                dimensions that the form says: the receiver gets them in the same, since a product
                of matrices may be rounded otherwise where one of them is transposed.
            peer: the rank that receives it.
            stamp: seconds, the time at which it leaves.

        Raises:
            TimedOut, RuntimeError: there was no room in time, or the receiver has ended.
        """
        ring, frame = self._outgoing[peer], _framed(name, flat.form)
        head = frame.head + _STAMP.pack(stamp)
        if address := ring.begin(head, frame.size):
            for tensor in flat.tensors:
                memmove(address, tensor.data_ptr(), size := tensor.nbytes)
                address += size
        else:
            self._send_in_pieces(ring, head, flat.tensors, peer)
        if ring.publish():
            self._bell.ring(peer)
        ring.sent += 1
        return ring.sent

    def _send_in_pieces(
        self, ring: Ring, head: bytes, tensors: Iterable[Tensor], peer: int
    ) -> None:
        if ring.room < len(head):  # its reader takes it out as one
            self._wait_for_room(ring, len(head), peer)
        ring.write_head(head)
        for tensor in tensors:
            source, size = tensor.data_ptr(), tensor.nbytes
            while (written := ring.write(source, size)) < size:
                source, size = source + written, size - written
                ring.publish()
                self._wait_for_room(ring, 1, peer)

    def _wait_for_room(self, ring: Ring, size: int, peer: int) -> None:
        self._bell.ring(peer)  # it may sleep for another ring's sake
        self._wait_until(lambda: ring.room >= size, peer, ring, WRITER)

    def wait_until_opened(self, number: int, peer: int) -> None:
        """Block until the receiver has opened a receive for the message of that number."""
        ring = self._outgoing[peer]
        self._wait_until(lambda: ring.opened >= number, peer, ring, WRITER)

    def total(self, value: float) -> float:
        """A number added up over all ranks, in their order, so that all get the same; blocks."""
        others = [rank for rank in range(self.num_ranks) if rank != self.rank]
        self.connect(
            [(rank, self.rank) for rank in others] + [(self.rank, rank) for rank in others]
        )
        own = torch.tensor(value, dtype=torch.float64)
        for rank in others:
            self.open(_SUM, rank)
        for rank in others:
            self.send(_SUM, Flat([own], plain_form([own])), rank)
        found = {self.rank: own}
        for rank in others:
            (found[rank],) = self.wait(_SUM, rank)[0].tensors
        return sum(found[rank].item() for rank in range(self.num_ranks))

    def _wait_until(self, condition: Callable[[], bool], peer: int, ring: Ring, end: int) -> None:
        """Take what comes, until a condition holds that the other end of a ring brings about."""
        until = time.monotonic() + self.timeout
        ring.sleep(end, True)
        while True:
            has_ended = peer in self._bell.gone  # what it sent before is looked at once more
            for inbox in self._inboxes.values():
                inbox.take()
            if condition():
                ring.sleep(end, False)
                return
            if has_ended:
                raise RuntimeError("its process has ended")
            if (left := until - time.monotonic()) <= 0:
                raise TimedOut(f"not complete after {self.timeout:g} s")
            self._bell.sleep(left)


def plain_form(tensors: Iterable[Tensor]) -> Form:
    """The form of tensors one after the other."""
    return Form(None, tuple(Leaf(tuple(t.shape), t.dtype, False) for t in tensors))

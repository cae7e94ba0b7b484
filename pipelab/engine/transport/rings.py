"""What one rank sends and receives through shared memory: trees of tensors, each with a name.

A message is a few numbers, the form of its content (shapes, dtypes, tree), and the bytes of its
tensors. So shapes may change from one microbatch to the next, and no buffer must be known before.

A send copies its message into the ring and is done; it waits only where the ring has no more room.
Then, and wherever else this rank waits, it takes what has come for its own open receives. So a send
waits at most for its receiver's RECV: that is the rule under which schedules are proven.
"""

import ctypes
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.engine.transport.backends import Channel, MessageError
from pipelab.engine.transport.groups import TimedOut
from pipelab.engine.transport.shared_memory import Bell, Ring, Shared
from pipelab.partition.tree import Flat, Form, Leaf, decode, encode

_HEAD = struct.Struct("=qqqqd")  # the name, bytes of the form, stamp


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


class Arrived(NamedTuple):
    """A message's content, and the time at which it left."""

    flat: Flat
    stamp: float


class _Scratch:
    """Bytes at an address that stays until more are needed: for what is in no tensor."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(1 << 10)

    def hold(self, size: int) -> int:
        """The address of so many bytes."""
        if size > len(self.bytes):
            self.bytes = ctypes.create_string_buffer(size)
        return ctypes.addressof(self.bytes)


@lru_cache(maxsize=64)
def _received(data: bytes) -> tuple[list[Leaf], Form]:
    """Of a message with this form: its tensors as they come, and the form that they then have."""
    form = decode(data)
    return form.tensors, form.in_memory()


class _Inbox:
    """What comes from one rank. ``opened``: the receives that are open, in order."""

    def __init__(self, ring: Ring, peer: int, bell: Bell):
        self.ring = ring
        self.peer = peer
        self.bell = bell
        self.opened: deque[Name] = deque()
        self.arrived: dict[Name, Arrived] = {}
        self._messages = self._take_messages()

    def open(self, name: Name) -> None:
        """Open a receive."""
        self.opened.append(name)
        self.ring.open_receive()
        self._wake_writer()

    def take(self) -> None:
        """Copy out what is there for open receives, as far as it has come."""
        next(self._messages)

    def _take_messages(self) -> Iterator[None]:
        """One message after another; yields where there is nothing to do for now."""
        scratch = _Scratch()
        while True:
            while not self.opened:
                yield
            yield from self._fill(scratch.hold(_HEAD.size), _HEAD.size)
            number, boundary, is_backward, size, stamp = _HEAD.unpack_from(scratch.bytes)
            name, wanted = Name(number, boundary, bool(is_backward)), self.opened.popleft()
            if name != wanted:
                text = f"rank {self.peer} sent {name} in place of {wanted}"
                raise MessageError(text, self.peer)
            yield from self._fill(scratch.hold(size), size)
            leaves, form = _received(scratch.bytes[:size])  # type: ignore[arg-type]
            buffers = [torch.empty(x.memory_shape, dtype=x.dtype) for x in leaves]
            for buffer in buffers:
                yield from self._fill(buffer.data_ptr(), buffer.nbytes)
            self._free()
            tensors = [leaf.of_memory(x) for leaf, x in zip(leaves, buffers, strict=True)]
            self.arrived[name] = Arrived(Flat(tensors, form), stamp)

    def _fill(self, goal: int, size: int) -> Iterator[None]:
        """Copy so many bytes to an address."""
        while size:
            taken = self.ring.read(goal, size)
            goal, size = goal + taken, size - taken
            if size:
                self._free()
                yield

    def _free(self) -> None:
        self.ring.free()
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self.ring.is_writer_asleep:
            self.bell.ring(self.peer)


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
        self._scratch = _Scratch()  # what is sent; only one send is under way
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

    def wait(self, name: Name, peer: int) -> Arrived:
        """Block until a message is there for which a receive was opened.

        Raises:
            TimedOut: it did not come in time.
            RuntimeError: its sender has ended.
            MessageError: another message came in its place.
        """
        arrived = self._inboxes[peer].arrived
        self._wait_until(lambda: name in arrived, peer)
        return arrived.pop(name)

    def send(self, name: Name, flat: Flat, peer: int, stamp: float = 0.0) -> int:
        """Copy a message into the ring, for which it may wait; returns its number in there.

        Args:
            name: of the message.
            flat: tensors whose numbers are one after the other in memory, in whatever order of
                dimensions: the receiver gets them in the same, since a product of matrices may be
                rounded otherwise where one of them is transposed.
            peer: the rank that receives it.
            stamp: seconds, the time at which it leaves.

        Raises:
            TimedOut, RuntimeError: there was no room in time, or the receiver has ended.
        """
        ring, form = self._outgoing[peer], encode(flat.in_memory())
        size = _HEAD.size + len(form)
        address = self._scratch.hold(size)
        self._scratch.bytes[:size] = _HEAD.pack(*name, len(form), stamp) + form  # type: ignore[call-overload]
        self._write(address, size, ring, peer)
        for tensor in flat.tensors:
            self._write(tensor.data_ptr(), tensor.nbytes, ring, peer)
        ring.publish()
        self._bell.ring(peer)
        return ring.count_send()

    def _write(self, source: int, size: int, ring: Ring, peer: int) -> None:
        while size:
            written = ring.write(source, size)
            source, size = source + written, size - written
            if size:
                ring.publish()
                self._bell.ring(peer)
                self._wait_for_reader(ring, lambda: ring.room > 0, peer)

    def wait_until_opened(self, number: int, peer: int) -> None:
        """Block until the receiver has opened a receive for the message of that number."""
        ring = self._outgoing[peer]
        self._wait_for_reader(ring, lambda: ring.opened >= number, peer)

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
            (found[rank],) = self.wait(_SUM, rank).flat.tensors
        return sum(found[rank].item() for rank in range(self.num_ranks))

    def _wait_for_reader(self, ring: Ring, condition: Callable[[], bool], peer: int) -> None:
        ring.sleep(True)
        self._wait_until(condition, peer)
        ring.sleep(False)

    def _wait_until(self, condition: Callable[[], bool], peer: int) -> None:
        """Take what comes, until a condition holds that the other rank brings about."""
        until = time.monotonic() + self.timeout
        while True:
            has_ended = peer in self._bell.gone  # what it sent before is looked at once more
            for inbox in self._inboxes.values():
                inbox.take()
            if condition():
                return
            if has_ended:
                raise RuntimeError("its process has ended")
            if (left := until - time.monotonic()) <= 0:
                raise TimedOut(f"not complete after {self.timeout:g} s")
            self._bell.sleep(left)


def plain_form(tensors: Iterable[Tensor]) -> Form:
    """The form of tensors one after the other."""
    return Form(None, tuple(Leaf(tuple(t.shape), t.dtype, False) for t in tensors))

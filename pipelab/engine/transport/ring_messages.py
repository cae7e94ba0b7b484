"""Messages through shared memory: the ranks of one machine, on its CPUs.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.action import Action
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport.backends import Channel, MessageError, named
from pipelab.engine.transport.groups import TimedOut
from pipelab.engine.transport.messages import Content, Key, boundary, is_backward, number
from pipelab.engine.transport.shared_memory import Bell, Ring, Shared
from pipelab.partition.tree import Flat, Form, Leaf, decode, encode

_HEAD = struct.Struct("=qqqqd")  # microbatch, boundary, gradients?, bytes of the form, stamp


class _Arrived(NamedTuple):
    flat: Flat
    stamp: float


class _Inbox:
    """What comes from one rank. ``posted``: the receives that are open, in order."""

    def __init__(self, ring: Ring, peer: int):
        self.ring = ring
        self.peer = peer
        self.posted: deque[Action] = deque()
        self.arrived: dict[Action, _Arrived] = {}
        self._messages = self._take_messages()

    def take(self) -> None:
        """Copy out what is there for open receives, as far as it has come."""
        next(self._messages)

    def _take_messages(self) -> Iterator[None]:
        """One message after another; yields where there is nothing to do for now."""
        while True:
            while not self.posted:
                yield
            head = ctypes.create_string_buffer(_HEAD.size)
            yield from self._fill(ctypes.addressof(head), _HEAD.size)
            *name, size, stamp = _HEAD.unpack(head)
            recv = self.posted.popleft()
            if (wanted := _name(recv)) != tuple(name):
                raise MessageError(_out_of_place(recv, wanted, name, self.peer), self.peer)
            text = ctypes.create_string_buffer(size)
            yield from self._fill(ctypes.addressof(text), size)
            form = decode(text.raw)
            tensors = [torch.empty(leaf.shape, dtype=leaf.dtype) for leaf in form.tensors]
            for tensor in tensors:
                yield from self._fill(tensor.data_ptr(), tensor.nbytes)
            self.arrived[recv] = _Arrived(Flat(tensors, form), stamp)

    def _fill(self, goal: int, size: int) -> Iterator[None]:
        """Copy so many bytes to an address."""
        while size:
            taken = self.ring.read(goal, size)
            if not taken:
                yield
            goal, size = goal + taken, size - taken


class RingMessages:
    """One rank's open sends and receives.

    Args:
        rank: whose they are.
        shared: the memory, and how ranks wake each other up.
        timeout: seconds that any wait may take.
    """

    is_by_host = True
    clock_offset = 0.0  # a machine has one clock

    def __init__(self, rank: int, shared: Shared, timeout: float):
        self.rank = rank
        self.shared = shared
        self.timeout = timeout
        self.bell = Bell(rank, shared)
        self.inboxes: dict[int, _Inbox] = {}  # by the rank that sends
        self.outgoing: dict[int, Ring] = {}  # by the rank that receives
        self.peers: dict[Action, int] = {}  # of the receives that are open
        self.unconfirmed: dict[Action, tuple[int, int]] = {}  # sends: peer, number in its ring
        self.forms: dict[tuple[Key, bool], Form] = {}  # of the last message of each kind
        self.changed: dict[tuple[int, int], str] = {}  # stage and microbatch: another form came
        self.train = self.stamped = False

    def use(self, channels: Iterable[Channel]) -> None:
        """Map the rings of these channels."""
        for source, goal in channels:
            if source == self.rank and goal not in self.outgoing:
                self.outgoing[goal] = self._ring(source, goal)
            elif goal == self.rank and source not in self.inboxes:
                self.inboxes[source] = _Inbox(self._ring(source, goal), source)
        self.bell.expect({*self.inboxes, *self.outgoing})

    def _ring(self, source: int, goal: int) -> Ring:
        return Ring(self.shared.memory, source * len(self.shared.bells) + goal)

    def begin(self, run: Run, stamped: bool) -> None:
        """Start a batch."""
        self.train, self.stamped = run.train, stamped
        self.unconfirmed.clear()
        self.changed.clear()

    def post(self, recv: Action, peer: int, rows: int) -> int:
        """Open a receive. Returns its bytes, if such a message came before."""
        self.peers[recv] = peer
        inbox = self.inboxes[peer]
        inbox.posted.append(recv)
        inbox.ring.open_receive()
        self._wake_writer(peer)
        form = self.forms.get(self._kind(recv, rows))
        return 0 if form is None else form.nbytes

    def wait(self, recv: Action, rows: int) -> tuple[Content, float, int]:
        """Block until a posted message is there: its content, its stamp, the rank that sent it."""
        peer = self.peers.pop(recv)
        arrived = self.inboxes[peer].arrived
        with named(recv, peer):
            self._wait_until(lambda: recv in arrived, peer)
        flat, stamp = arrived.pop(recv)
        before = self._keep_form(recv, rows, flat.form)
        if is_backward(recv):
            return flat.tensors, stamp, peer
        if before != flat.form:
            self.changed[recv.stage, number(recv)] = (
                f"Its input, from rank {peer}, is {flat.form}, but the last one from {rows} rows "
                f"was {before}: look at the output of stage {recv.stage - 1}"
            )
        return flat, stamp, peer

    def _keep_form(self, message: Action, rows: int, form: Form) -> Form:
        """Keep the form of a message, and return that of the one before of its kind."""
        kind = self._kind(message, rows)
        before, self.forms[kind] = self.forms.get(kind, form), form
        return before

    def explain(self, action: Action, error: Exception) -> None:
        """Add to an error of an action that its input is unlike the ones before."""
        if note := self.changed.get((action.stage, number(action))):
            error.add_note(note)

    def send(self, send: Action, content: Content, peer: int, rows: int, stamp: float) -> int:
        """Copy a message into the ring; blocks only while that has no room. Returns its bytes."""
        flat = content if isinstance(content, Flat) else _flat(content)
        before = self._keep_form(send, rows, flat.form)
        if not flat.form.is_alike(before):
            raise ValueError(
                f"{send.token}: {flat.form}, but the last one from {rows} rows was {before}: only "
                f"the sizes of a stage's output may change while the batch keeps its shape"
            )
        tensors = [_outgoing(tensor) for tensor in flat.tensors]
        form = encode(flat.form)
        stamp = stamp if self.stamped else 0.0
        head = _HEAD.pack(*_name(send), len(form), stamp) + form
        buffer = ctypes.create_string_buffer(head, len(head))
        with named(send, peer):
            self._write(ctypes.addressof(buffer), len(head), peer)
            for tensor in tensors:
                self._write(tensor.data_ptr(), tensor.nbytes, peer)
        ring = self.outgoing[peer]
        ring.publish()
        self.bell.ring(peer)
        self.unconfirmed[send] = peer, ring.count_send()
        return sum(tensor.nbytes for tensor in tensors)

    def _write(self, source: int, size: int, peer: int) -> None:
        ring = self.outgoing[peer]
        while size:
            if written := ring.write(source, size):
                source, size = source + written, size - written
            else:
                ring.publish()
                self.bell.ring(peer)
                self._wait_for_reader(ring, lambda: ring.room > 0, peer)

    def block(self, send: Action) -> None:
        """Block until the receiver has opened its buffer for a send, as without overlap."""
        peer, number = self.unconfirmed[send]
        ring = self.outgoing[peer]
        with named(send, peer):
            self._wait_for_reader(ring, lambda: ring.opened >= number, peer)

    def finish(self, before_wait: Callable[[Action, int], None] = lambda send, peer: None) -> None:
        """Nothing to do: what was sent is in the ring."""

    def close(self) -> None:
        """Nothing to do: the memory goes with the process."""

    def _wait_for_reader(self, ring: Ring, condition: Callable[[], bool], peer: int) -> None:
        ring.sleep(True)
        self._wait_until(condition, peer)
        ring.sleep(False)

    def _wait_until(self, condition: Callable[[], bool], peer: int) -> None:
        """Take what comes until a condition holds that the other rank brings about.

        Raises:
            TimedOut: it did not hold in time.
            RuntimeError: the other rank has ended.
        """
        until = time.monotonic() + self.timeout
        while True:
            is_gone = peer in self.bell.gone  # what it sent before is looked at once more
            for source, inbox in self.inboxes.items():
                inbox.take()
                self._wake_writer(source)
            if condition():
                return
            if is_gone:
                raise RuntimeError("its process has ended")
            if (left := until - time.monotonic()) <= 0:
                raise TimedOut(f"not complete after {self.timeout:g} s")
            self.bell.sleep(left)

    def _wake_writer(self, source: int) -> None:
        if self.inboxes[source].ring.is_writer_asleep:
            self.bell.ring(source)

    def _kind(self, message: Action, rows: int) -> tuple[Key, bool]:
        return (boundary(message), rows, self.train), is_backward(message)


def _flat(gradients: list[Tensor]) -> Flat:
    leaves = tuple(Leaf(tuple(g.shape), g.dtype, False) for g in gradients)
    return Flat(gradients, Form(None, leaves))


def _outgoing(tensor: Tensor) -> Tensor:
    """The tensor's numbers, one after the other."""
    return tensor.detach().contiguous().resolve_conj().resolve_neg()


def _name(message: Action) -> tuple[int, int, bool]:
    """Equal at both ends of a message, different for all messages of a step."""
    return number(message), boundary(message), is_backward(message)


def _out_of_place(recv: Action, wanted: Sequence[int], found: Sequence[int], peer: int) -> str:
    what = ["value", "gradients"]
    texts = [f"the {what[g]} of microbatch {m} between stages {s - 1} and {s}"
             for m, s, g in (found, wanted)]  # fmt: skip
    return f"{recv.token}: rank {peer} sent {texts[0]} in place of {texts[1]}"

"""Messages between ranks: posted ahead, sent without blocking, and tagged with what they are.

A tag carries kind, stage and microbatch, so a message that is out of place is never taken for
another one; where there are no tags, the proven order of the channel does that (``transport``).
Forms are learnt once: before the first value of a new shape a small header travels; as long as
batches keep their shape, none does. A gradient has the form of its value, so it never needs one.
Without tags no buffer may be opened before its form is known, so the first batch of a kind goes by
way of the host, whatever way the others take.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipelab.action import Action, Kind
from pipelab.engine.protocol import tree
from pipelab.engine.protocol.commands import Run
from pipelab.engine.protocol.tree import HEADER_BYTES, Form
from pipelab.engine.transport.backends import Tagged, Transport, named

_MANY = 64  # tensors in one message: the last two places are for its header and its stamp
_HEADER, _STAMP = _MANY - 1, _MANY - 2

_Key = tuple[int, int, bool]  # boundary, rows, train or evaluate: what the form of a value hangs on


@dataclass
class _Posted:
    """A receive under way; ``header`` instead of ``buffers`` while the form is unknown."""

    peer: int
    works: list[dist.Work]
    buffers: list[Tensor]
    header: Tensor | None = None


class Messages:
    """One rank's open sends and receives.

    Args:
        transport: takes tensors from rank to rank, but for those of the first batch of a kind.
        host: takes these, and headers, by tags.
        window: sends of which no answer tells that they arrived, that may be open at once.
    """

    def __init__(
        self, transport: Transport, host: Tagged, num_stages: int, timeout: float,
        window: int = 8,
    ):  # fmt: skip
        self.transport = transport
        self.host = host
        self.way: Transport = host  # of this batch's messages
        self.num_stages = num_stages
        self.timeout = timeout
        self.window = window
        self.posted: dict[Action, _Posted] = {}
        self.sent: dict[Action, tuple[int, list[dist.Work], list[Tensor]]] = {}
        self.forms: dict[_Key, Form] = {}
        self.described: set[_Key] = set()  # those whose header has travelled
        self.learnt: set[tuple[object, ...]] = set()  # kinds of batches that have passed before
        self.kinds: set[tuple[object, ...]] = set()  # of this one
        self.signature: tuple[object, ...] = ()
        self.train = self.stamped = False
        self.clock_offset = 0.0  # seconds from this machine's clock to the one of all stamps

    def begin(self, run: Run, stamped: bool) -> None:
        """A batch comes. If its rows look new, the forms of its messages are learnt anew.

        With ``stamped``, each message carries the time at which it left (see ``pace``).
        """
        self.train, self.stamped = run.train, stamped
        if run.signature != self.signature:
            self.signature = run.signature
            self.forms.clear()
            self.described.clear()
            self.learnt.clear()
        # all that makes a rank do what it has not done before
        how = run.train, run.fresh, run.update, run.collect
        self.kinds = {(rows, *how) for rows in run.sizes}
        self.way = self.transport if self.kinds <= self.learnt else self.host

    @property
    def is_by_host(self) -> bool:
        """Whether this batch goes by way of the host."""
        return self.way is self.host

    def use(self) -> None:
        """Another schedule comes, other actions with it: its first batch goes by the host again."""
        self.learnt.clear()

    def post(self, recv: Action, peer: int, rows: int) -> int:
        """Open a receive for a microbatch of ``rows``; it never blocks. Returns its bytes."""
        key, forward = self._key(recv, rows), recv.kind is Kind.RECV_F
        if key in (self.described if forward else self.forms):
            self.posted[recv] = self._open(recv, peer, self.forms[key])
        elif forward:
            header = torch.empty(HEADER_BYTES, dtype=torch.uint8)
            works = [self._receive(self.host, recv, header, peer, _HEADER)]
            self.posted[recv] = _Posted(peer, works, [], header)
        else:  # our own forward will tell the form: until then there is nothing to open
            self.posted[recv] = _Posted(peer, [], [])
        return sum(buffer.nbytes for buffer in self.posted[recv].buffers)

    def wait(self, recv: Action, rows: int) -> tuple[Any, float, int]:
        """Block until a posted message is there: what came, its stamp, the rank that sent it.

        What came is the tensors and the form of a value, or a list of gradients.
        """
        posted, key = self.posted.pop(recv), self._key(recv, rows)
        if not posted.buffers:
            posted = self._learn(recv, posted, key)
        self._finish(posted.works, recv, posted.peer)
        stamp = posted.buffers.pop().item() - self.clock_offset if self.stamped else 0.0
        tensors = [self.way.arrived(buffer) for buffer in posted.buffers]
        if recv.kind is Kind.RECV_B:
            # the gradient of what we sent: that message has arrived, to be sure
            self.through(recv._replace(kind=Kind.SEND_F))
            return tensors, stamp, posted.peer
        return (tensors, self.forms[key]), stamp, posted.peer

    def send(self, send: Action, content: Any, peer: int, rows: int, stamp: float) -> int:
        """Start to send what ``wait`` gives at the other end; never blocks. Returns its bytes.

        The tensors stay unchanged until they are through.
        """
        tensors, key = content, self._key(send, rows)
        works = []
        if send.kind is Kind.SEND_F:
            tensors, form = content
            if self.forms.setdefault(key, form) != form:
                raise ValueError(_changed(send, form, self.forms[key], rows))
            if key not in self.described:
                header = tree.encode(form)
                works.append(self._start(self.host, send, header, peer, _HEADER))
        way = self.way
        tensors = [way.outgoing(tensor) for tensor in tensors]
        size: int = sum(tensor.nbytes for tensor in tensors)
        if self.stamped:
            left = torch.tensor(stamp + self.clock_offset, dtype=torch.float64)
            tensors.append(way.outgoing(left))
        works += [self._start(way, send, t, peer, i) for i, t in self._numbered(tensors)]
        self.sent[send] = (peer, works, tensors)
        self._keep_within_window()
        return size

    def block(self, send: Action, rows: int) -> None:
        """Block until a send is through, as without overlap.

        Not on the first batch of its form: the receiver opens its buffer only when it needs it,
        and two ranks that send first would wait for each other for ever.
        """
        if self._key(send, rows) in self.described:
            self.through(send)

    def finish(self, tell: Callable[[Action, int], None] = lambda send, peer: None) -> None:
        """Block until all sends are through; both ends now know the forms of this batch.

        ``tell`` hears of each send, and of its peer, before the wait for it.
        """
        for send, (peer, *_) in list(self.sent.items()):
            tell(send, peer)
            self.through(send)
        self.described.update(self.forms)
        self.learnt |= self.kinds

    def _learn(self, recv: Action, posted: _Posted, key: _Key) -> _Posted:
        """Open the buffers now that the form is known: from a header, or from our own forward."""
        if posted.header is not None:
            self._finish(posted.works, recv, posted.peer)
            self.forms[key] = tree.decode(posted.header)
        return self._open(recv, posted.peer, self.forms[key])

    def _open(self, recv: Action, peer: int, form: Form) -> _Posted:
        leaves = form.tensors
        if recv.kind is Kind.RECV_B:
            leaves = [leaf for leaf in leaves if leaf.needs]
        way = self.way
        buffers = [way.buffer(leaf.shape, leaf.dtype) for leaf in leaves]
        if self.stamped:
            buffers.append(way.buffer((), torch.float64))
        works = [self._receive(way, recv, b, peer, i) for i, b in self._numbered(buffers)]
        return _Posted(peer, works, buffers)

    def _numbered(self, tensors: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        numbered = list(enumerate(tensors))
        if len(numbered) > _STAMP:
            raise ValueError(f"{len(numbered)} tensors in one message: hand over at most {_STAMP}")
        return [*numbered[:-1], (_STAMP, tensors[-1])] if self.stamped else numbered

    def _keep_within_window(self) -> None:
        """In training, F's answer is its gradient; other sends tell nothing: count those."""
        silent = [a for a in self.sent if a.kind is Kind.SEND_B or not self.train]
        for send in silent[: -self.window]:
            self.through(send)

    def through(self, send: Action) -> None:
        """Block until a send is through; its tensors are free then."""
        peer, works, _ = self.sent.pop(send, (0, [], []))
        self._finish(works, send, peer)

    def _start(self, way: Transport, send: Action, tensor: Tensor, peer: int, i: int) -> dist.Work:
        with named(send, peer):  # where a peer is gone, each call may notice it first
            return way.send(tensor, peer, self._tag(send) + i)

    def _receive(
        self, way: Transport, recv: Action, buffer: Tensor, peer: int, i: int
    ) -> dist.Work:
        with named(recv, peer):
            return way.receive(buffer, peer, self._tag(recv) + i)

    def _finish(self, works: Sequence[dist.Work], action: Action, peer: int) -> None:
        with named(action, peer):
            for work in works:
                self.way.finish(work, self.timeout)

    def _key(self, message: Action, rows: int) -> _Key:
        return _boundary(message), rows, self.train

    def _tag(self, action: Action) -> int:
        """Equal at both ends of a message, different for all messages of a step."""
        backward = action.kind in (Kind.SEND_B, Kind.RECV_B)
        assert action.microbatch is not None
        number = action.microbatch * (self.num_stages + 1) + _boundary(action)
        return (number * 2 + backward) * _MANY


def _boundary(message: Action) -> int:
    """The stage in front of which a message crosses."""
    return message.stage + (message.kind in (Kind.SEND_F, Kind.RECV_B))


def _changed(send: Action, now: Form, before: Form, rows: int) -> str:
    return (
        f"{send.token}: {now}, but the last one from {rows} rows was {before}: a stage's output "
        f"must keep its shape while the batch keeps its own"
    )

"""Messages between ranks: posted ahead, sent without blocking, and tagged with what they are.

A tag carries kind, stage and microbatch, so a message that is out of place is never taken for
another one; without tags, the proven order of the channel does that (transport/backends.py).
Forms are exchanged once: a small header goes ahead of the first value of a new shape, and none when
a shape comes again. A gradient has the form of its value, so it never needs one.
Without tags no buffer may be opened before its form is known, so the first batch of a kind travels
through host memory, whatever carries the others.

A schedule is proven for sends that block until the receiver's RECV. A RECV opens its buffer only if
both ranks know the form; otherwise the action that needs the message does, later. So on the first
batch of a form no rank waits for its sends, or two ranks could wait for each other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pipelab.action import SENDS, Action, Kind
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport import header
from pipelab.engine.transport.backends import Channel, Tagged, Transport, named
from pipelab.engine.transport.rank_messages import Content, boundary, is_backward, number, place
from pipelab.errors import PartitionError
from pipelab.partition.tree import Flat, Form

_TAGS = 65  # of one message: one for each tensor, and the last three
_HEADER, _REST_OF_HEADER, _STAMP = _TAGS - 1, _TAGS - 2, _TAGS - 3
_MAX_TENSORS = _STAMP

_Signature = tuple[object, ...]  # of a batch: the shape of a row and its dtype
_Key = tuple[_Signature, int, int, bool]
"""Batch (and slice), boundary, rows, train or evaluate: a value's form depends on these."""

_MOST_SIGNATURES = 1000  # remembered at once: batches may be of any length


@dataclass
class _Posted:
    """A pending receive; ``header`` instead of ``buffers`` while the form is unknown."""

    peer: int
    works: list[dist.Work]
    buffers: list[Tensor]
    header: Tensor | None = None


@dataclass
class _Sent:
    """A pending send; its tensors must not change before it has completed.

    ``may_block``: the receiver opens its buffer at its RECV.
    """

    peer: int
    works: list[dist.Work]
    tensors: list[Tensor]
    may_block: bool


class GroupMessages:
    """One rank's open sends and receives.

    Args:
        transport: carries tensors from rank to rank, except those of the first batch of a kind.
        host: carries these, and headers, with tags.
        window: how many sends that may block, and that no answer confirms, may be pending at once.
    """

    def __init__(
        self, transport: Transport, host: Tagged, num_stages: int, timeout: float,
        window: int = 8,
    ):  # fmt: skip
        self.transport = transport
        self.host = host
        self.carrier: Transport = host  # of this batch's messages
        self.num_stages = num_stages
        self.timeout = timeout
        self.window = window
        self.posted: dict[Action, _Posted] = {}
        self.sent: dict[Action, _Sent] = {}
        self.forms: dict[_Key, Form] = {}
        self.described: set[_Key] = set()  # those whose header has travelled
        self.known: set[tuple[object, ...]] = set()  # kinds of batches that came before
        self.kinds: set[tuple[object, ...]] = set()  # of this one
        self.signature: _Signature = ()
        self.signatures: set[_Signature] = set()  # that came before
        self.train = self.stamped = False
        self.clock_offset = 0.0  # seconds from this machine's clock to the one of all stamps

    def begin(self, run: Run, stamped: bool) -> None:
        """Start a batch. If its rows have a shape that none had before, forms are exchanged.

        With ``stamped``, each message carries the time at which it left (rank/pace.py).
        """
        self.train, self.stamped = run.train, stamped
        self.signature = *run.signature, *run.tokens
        is_new = self.signature not in self.signatures
        if is_new and len(self.signatures) == _MOST_SIGNATURES:  # on all ranks at once
            for remembered in (self.signatures, self.forms, self.described, self.known):
                remembered.clear()
        self.signatures.add(self.signature)
        # all that makes a rank do what it has not done before
        how = self.signature, run.train, run.fresh, run.update, run.collect
        self.kinds = {(rows, *how) for rows in run.sizes}
        self.carrier = self.transport if self.kinds <= self.known else self.host

    @property
    def is_by_host(self) -> bool:
        """Whether this batch travels through host memory."""
        return self.carrier is self.host

    def use(self, channels: Iterable[Channel]) -> None:
        """Prepare for another schedule: its first batch travels through host memory again."""
        self.transport.open(channels)
        self.known.clear()

    def explain(self, action: Action, error: Exception) -> None:
        """Nothing to say: an output that changes its shape is refused where it is sent."""

    def close(self) -> None:
        """Release NCCL; the process may stay, under torchrun."""
        self.transport.close()

    def post(self, recv: Action, peer: int, rows: int) -> int:
        """Open a receive for a microbatch of ``rows``; it never blocks. Returns its bytes."""
        key, forward = self._key(recv, rows), recv.kind is Kind.RECV_F
        if key in (self.described if forward else self.forms):
            self.posted[recv] = self._open(recv, peer, self.forms[key])
        elif forward:
            first = torch.empty(header.HEADER_BYTES, dtype=torch.uint8)
            works = [self._start(self.host, recv, first, peer, _HEADER)]
            self.posted[recv] = _Posted(peer, works, [], first)
        else:  # our own forward will give the form: until then there is nothing to open
            self.posted[recv] = _Posted(peer, [], [])
        return sum(buffer.nbytes for buffer in self.posted[recv].buffers)

    def wait(self, recv: Action, rows: int) -> tuple[Content, float]:
        """Block until a posted message is there: its content, its stamp."""
        posted, key = self.posted.pop(recv), self._key(recv, rows)
        if not posted.buffers:
            posted = self._open_late(recv, posted, key)
        self._finish(posted.works, recv, posted.peer)
        stamp = posted.buffers.pop().item() - self.clock_offset if self.stamped else 0.0
        tensors = [self.carrier.arrived(buffer) for buffer in posted.buffers]
        if recv.kind is Kind.RECV_B:
            # the gradient of what we sent: so that message has arrived
            self.complete(recv._replace(kind=Kind.SEND_F))
            return tensors, stamp
        form = self.forms[key]
        pairs = zip(form.tensors, tensors, strict=True)
        return Flat([leaf.of_memory(x) for leaf, x in pairs], form.in_memory()), stamp

    def send(self, send: Action, content: Content, peer: int, rows: int, stamp: float) -> int:
        """Start to send what ``wait`` gives at the other end; never blocks. Returns its bytes."""
        works: list[dist.Work] = []
        if isinstance(content, Flat):
            works = self._send_header(send, content, peer, rows)
            leaves = self.forms[self._key(send, rows)].tensors
            content = [
                x.permute(leaf.order) if leaf.order else x
                for leaf, x in zip(leaves, content.tensors, strict=True)
            ]
        carrier = self.carrier
        tensors = [carrier.outgoing(tensor) for tensor in content]
        size: int = sum(tensor.nbytes for tensor in tensors)
        if self.stamped:
            left = torch.tensor(stamp + self.clock_offset, dtype=torch.float64)
            tensors.append(carrier.outgoing(left))
        works += [self._start(carrier, send, t, peer, i) for i, t in self._numbered(tensors)]
        self.sent[send] = _Sent(peer, works, tensors, self._key(send, rows) in self.described)
        self._keep_within_window()
        return size

    def _send_header(self, send: Action, value: Flat, peer: int, rows: int) -> list[dist.Work]:
        """Send the form ahead of the value, if the other end does not know it yet."""
        key = self._key(send, rows)
        form = self.forms.setdefault(key, value.in_memory())
        if (before := form.in_memory()) != value.form:
            raise shape_changed(send, rows, str(before), str(value.form))
        if key in self.described:
            return []
        numbered = zip(header.pieces(form), (_HEADER, _REST_OF_HEADER), strict=False)
        return [self._start(self.host, send, piece, peer, i) for piece, i in numbered]

    def block(self, send: Action) -> None:
        """Block until a send has completed, as without overlap, if it may block."""
        if send in self.sent and self.sent[send].may_block:
            self.complete(send)

    def finish(self, before_wait: Callable[[Action, int], None] = lambda send, peer: None) -> None:
        """Block until all sends have completed; both ends now know the forms of this batch.

        ``before_wait`` is called with each send and its peer, before the wait for it.
        """
        for send, pending in list(self.sent.items()):
            before_wait(send, pending.peer)
            self.complete(send)
        self.described.update(self.forms)
        self.known |= self.kinds

    def _open_late(self, recv: Action, posted: _Posted, key: _Key) -> _Posted:
        """Open the buffers now that the form is known: from a header, or from our own forward."""
        if posted.header is not None:
            self._finish(posted.works, recv, posted.peer)
            rest = self._rest_of_header(recv, posted.header, posted.peer)
            self.forms[key] = header.form_in(posted.header, rest)
        return self._open(recv, posted.peer, self.forms[key])

    def _rest_of_header(self, recv: Action, first: Tensor, peer: int) -> Tensor | None:
        size = header.rest_bytes(first)
        if not size:
            return None
        rest = torch.empty(size, dtype=torch.uint8)
        self._finish([self._start(self.host, recv, rest, peer, _REST_OF_HEADER)], recv, peer)
        return rest

    def _open(self, recv: Action, peer: int, form: Form) -> _Posted:
        leaves = form.tensors
        carrier = self.carrier
        if recv.kind is Kind.RECV_B:
            buffers = [carrier.buffer(leaf.shape, leaf.dtype) for leaf in leaves if leaf.needs]
        else:
            buffers = [carrier.buffer(leaf.memory_shape, leaf.dtype) for leaf in leaves]
        if self.stamped:
            buffers.append(carrier.buffer((), torch.float64))
        works = [self._start(carrier, recv, b, peer, i) for i, b in self._numbered(buffers)]
        return _Posted(peer, works, buffers)

    def _numbered(self, tensors: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        numbered = list(enumerate(tensors))
        if (found := len(numbered) - self.stamped) > _MAX_TENSORS:
            raise ValueError(f"{found} tensors in one message: hand over at most {_MAX_TENSORS}")
        return [*numbered[:-1], (_STAMP, tensors[-1])] if self.stamped else numbered

    def _keep_within_window(self) -> None:
        """Limit the sends that nothing confirms; in training, its gradient confirms a SEND_F."""
        unconfirmed = [
            send
            for send, pending in self.sent.items()
            if pending.may_block and (send.kind is Kind.SEND_B or not self.train)
        ]
        for send in unconfirmed[: -self.window]:
            self.complete(send)

    def complete(self, send: Action) -> None:
        """Block until a send has completed; its tensors are free then."""
        pending = self.sent.pop(send, None)
        if pending is not None:
            self._finish(pending.works, send, pending.peer)

    def _start(
        self, carrier: Transport, message: Action, tensor: Tensor, peer: int, i: int
    ) -> dist.Work:
        call = carrier.send if message.kind in SENDS else carrier.receive
        with named(message, peer):  # where a peer is gone, each call may notice it first
            work: dist.Work = call(tensor, peer, self._tag(message) + i)
        return work

    def _finish(self, works: Sequence[dist.Work], action: Action, peer: int) -> None:
        with named(action, peer):
            for work in works:
                self.carrier.finish(work, self.timeout)

    def _key(self, message: Action, rows: int) -> _Key:
        signature = self.signature
        if after := place(message):  # later slices may have other sizes
            signature = (*signature, after)
        return signature, boundary(message), rows, self.train

    def _tag(self, action: Action) -> int:
        """Equal at both ends of a message, different for all messages of a step."""
        place = number(action) * (self.num_stages + 1) + boundary(action)
        return (place * 2 + is_backward(action)) * _TAGS


def shape_changed(action: Action, rows: int, before: str, now: str) -> PartitionError:
    """The error of a stage whose output has another shape than for other rows of the same shape."""
    return PartitionError(
        f"{action.token}: {now}, but the last one from {rows} rows was {before}.\n"
        f"What a stage hands over may change its shape with that of the batch, not with its\n"
        f"values: pad it to one length, or put all layers that see it into stage {action.stage}"
    )

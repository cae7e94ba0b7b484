"""Messages between ranks: posted ahead, sent without blocking, and tagged with what they are.

A tag carries kind, stage and microbatch, so a message that is out of place is never taken for
another one. Shapes are learnt once: for a batch of a new shape, each message is preceded by a
small header; as long as batches keep their shape, none is.
"""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from pipelab.action import Action, Kind

_MAX_DIMENSIONS = 14
_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
)  # fmt: skip


class MessageError(RuntimeError):
    """A message did not come, or could not leave; ``peer`` is the rank at the other end."""

    def __init__(self, text: str, peer: int):
        super().__init__(text)
        self.peer = peer


@dataclass
class _Posted:
    """A receive under way. Without a known shape, ``buffer`` is for the header."""

    work: dist.Work
    buffer: Tensor
    is_header: bool
    peer: int
    tag: int


class Messages:
    """One rank's open sends and receives."""

    def __init__(self, group: dist.ProcessGroup, num_stages: int, timeout: float):
        self.group = group
        self.num_stages = num_stages
        self.timeout = timedelta(seconds=timeout)
        self.posted: dict[Action, _Posted] = {}
        self.sent: list[tuple[dist.Work, Tensor, int, Action]] = []
        self.signature: tuple[object, ...] = ()
        self.specs: dict[tuple[Kind, int, int], tuple[torch.Size, torch.dtype]] = {}
        self.learnt: set[tuple[Kind, int]] = set()  # (SEND kind, rows) that need no header

    def begin(self, signature: tuple[object, ...]) -> None:
        """A batch comes. If its rows look new, the shapes of its messages are learnt anew."""
        if signature != self.signature:
            self.signature = signature
            self.specs.clear()
            self.learnt.clear()

    def post(self, recv: Action, peer: int, rows: int) -> None:
        """Open a receive for a microbatch of ``rows``; it never blocks."""
        is_header, tag = self._has_header(recv, rows), self._tag(recv)
        if is_header:
            buffer = torch.empty(_MAX_DIMENSIONS + 2, dtype=torch.int64)
        else:
            shape, dtype = self.specs[recv.kind, recv.stage, rows]
            buffer = torch.empty(shape, dtype=dtype)
        work = self.group.recv([buffer], peer, tag + is_header)
        self.posted[recv] = _Posted(work, buffer, is_header, peer, tag)

    def wait(self, recv: Action, rows: int) -> tuple[Tensor, int]:
        """Block until a posted message is there; returns it and the rank that sent it."""
        posted = self.posted.pop(recv)
        self._finish(posted.work, recv, posted.peer)
        if not posted.is_header:
            return posted.buffer, posted.peer
        size, dtype, *shape = posted.buffer.tolist()
        spec = torch.Size(shape[:size]), _DTYPES[dtype]
        self.specs[recv.kind, recv.stage, rows] = spec
        buffer = torch.empty(spec[0], dtype=spec[1])
        work = self.group.recv([buffer], posted.peer, posted.tag)
        self._finish(work, recv, posted.peer)
        return buffer, posted.peer

    def send(self, send: Action, tensor: Tensor, peer: int, rows: int) -> None:
        """Start a send; it never blocks. The tensor stays unchanged until ``finish``."""
        tensor, tag = tensor.detach().contiguous(), self._tag(send)
        known = self.specs.setdefault((send.kind, send.stage, rows), (tensor.shape, tensor.dtype))
        if known != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"{send.token}: a {tuple(tensor.shape)} {tensor.dtype} tensor, but the last one "
                f"from {rows} rows was {tuple(known[0])} {known[1]}: a stage's output must keep "
                f"its shape while the batch keeps its own"
            )
        if self._has_header(send, rows):
            self._start(send, _header(tensor), peer, tag + 1)
        self._start(send, tensor, peer, tag)

    def finish(self, sizes: tuple[int, ...], train: bool) -> None:
        """Block until all sends are through; both ends now know this batch's shapes."""
        for work, _, peer, action in self.sent:
            self._finish(work, action, peer)
        self.sent.clear()
        kinds = (Kind.SEND_F, Kind.SEND_B) if train else (Kind.SEND_F,)
        self.learnt.update((kind, rows) for kind in kinds for rows in sizes)

    def _start(self, action: Action, tensor: Tensor, peer: int, tag: int) -> None:
        self.sent.append((self.group.send([tensor], peer, tag), tensor, peer, action))

    def _finish(self, work: dist.Work, action: Action, peer: int) -> None:
        try:
            work.wait(self.timeout)
        except RuntimeError as error:
            text = f"{action.token}: the message with rank {peer} failed: {error}"
            raise MessageError(text, peer) from None

    def _has_header(self, action: Action, rows: int) -> bool:
        kind = Kind.SEND_F if action.kind in (Kind.SEND_F, Kind.RECV_F) else Kind.SEND_B
        return (kind, rows) not in self.learnt

    def _tag(self, action: Action) -> int:
        """Equal at both ends of a message, different for all messages of a step; even."""
        stage, kind, microbatch = action
        boundary = stage + (kind in (Kind.SEND_F, Kind.RECV_B))  # in front of which stage it is
        backward = kind in (Kind.SEND_B, Kind.RECV_B)
        assert microbatch is not None
        return ((microbatch * (self.num_stages + 1) + boundary) * 2 + backward) * 2


def _header(tensor: Tensor) -> Tensor:
    """Number of dimensions, dtype, dimensions, padding: (16,) int64."""
    shape = list(tensor.shape)
    if len(shape) > _MAX_DIMENSIONS or tensor.dtype not in _DTYPES:
        raise ValueError(
            f"a stage's output of shape {tuple(shape)} and {tensor.dtype} cannot be sent: "
            f"use at most {_MAX_DIMENSIONS} dimensions and a common dtype"
        )
    padding = [0] * (_MAX_DIMENSIONS - len(shape))
    return torch.tensor([len(shape), _DTYPES.index(tensor.dtype), *shape, *padding])

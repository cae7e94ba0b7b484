"""How tensors travel between ranks.

Tagged     gloo. Messages may overtake each other: a tag identifies each. Tensors of a GPU
           travel through pinned host memory, so that ranks may share one.
Channels   NCCL, one GPU per rank. No tags: on each channel, from one rank to another, messages
           arrive in the order in which they left. A communicator for each channel, or two
           ranks that both send would wait for each other.

A message of NCCL is a kernel that waits on its GPU for the other end. Whatever makes the whole GPU
wait, to allocate memory or to load a kernel for the first time, waits for it too, and two such GPUs
deadlock. So the first batch of a kind travels through host memory (transport/p2p.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store

from pipelab.action import Action
from pipelab.engine.transport import groups
from pipelab.partition.tree import raw_bytes

Channel = tuple[int, int]  # from rank, to rank


class MessageError(RuntimeError):
    """A message did not come, or could not leave; ``peer`` is the rank at the other end.

    Or an all-reduce did not complete: that has no peer.
    """

    def __init__(self, text: str, peer: int | None = None, timed_out: bool = False):
        super().__init__(text)
        self.peer = peer
        self.timed_out = timed_out


class named:
    """Raise what goes wrong with a message, or with an all-reduce, as a MessageError that names it.

    ``action``: the message; without it, an all-reduce.
    """

    def __init__(self, action: Action | None = None, peer: int | None = None):
        self.action, self.peer = action, peer

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, MessageError):
            raise of_message(error, self.action, self.peer) from None


def of_message(error: RuntimeError, action: Action | None, peer: int | None) -> MessageError:
    """What went wrong with a message, or with an all-reduce, as ``named`` raises it."""
    if isinstance(error, MessageError):
        return error
    message = action and f"{action.token}: the message with rank {peer}"
    timed_out = isinstance(error, groups.TimedOut)
    text = f"{message or 'the all-reduce'} failed: {error}"
    return MessageError(text, peer, timed_out)


class Transport(Protocol):
    """What ``Messages`` needs."""

    def open(self, channels: Iterable[Channel]) -> None:
        """Be ready for messages of these channels; all ranks call it at once."""

    def send(self, tensor: Tensor, peer: int, tag: int) -> Any:
        """Start to send what ``outgoing`` gave; never blocks."""

    def receive(self, buffer: Tensor, peer: int, tag: int) -> Any:
        """Open a buffer for a message; never blocks."""

    def finish(self, work: Any, timeout: float) -> None:
        """Block until a message has completed; raise RuntimeError if it takes longer (seconds)."""

    def close(self) -> None:
        """Release the connections; the process may stay."""

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An empty tensor to receive into."""

    def outgoing(self, tensor: Tensor) -> Tensor:
        """A tensor as it leaves."""

    def arrived(self, buffer: Tensor) -> Tensor:
        """A received tensor where the stage computes."""


class Tagged:
    """Messages over gloo, identified by their tags."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device):
        self.group = group
        self.device = device
        self.is_staged = device.type == "cuda"

    def open(self, channels: Iterable[Channel]) -> None:
        """Nothing to do: gloo has connected all ranks."""

    def send(self, tensor: Tensor, peer: int, tag: int) -> dist.Work:
        """Start to send."""
        return self.group.send([tensor], peer, tag)

    def receive(self, buffer: Tensor, peer: int, tag: int) -> dist.Work:
        """Open a buffer."""
        return self.group.recv([buffer], peer, tag)

    def finish(self, work: dist.Work, timeout: float) -> None:
        """Block until it has completed."""
        groups.wait(work, timeout)

    def close(self) -> None:
        """Nothing to do: the group is not ours."""

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """In host memory, pinned where a GPU copies from it."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.is_staged)

    def outgoing(self, tensor: Tensor) -> Tensor:
        """In host memory."""
        return tensor.detach().to("cpu").contiguous()

    def arrived(self, buffer: Tensor) -> Tensor:
        """On the rank's device."""
        return buffer.to(self.device, non_blocking=True) if self.is_staged else buffer


@dataclass(eq=False)
class Channels:
    """Messages over NCCL, in order. ``timeout``: seconds."""

    rank: int
    device: torch.device
    store: Store
    timeout: float
    groups: dict[Channel, dist.ProcessGroup] = field(default_factory=dict)

    def open(self, channels: Iterable[Channel]) -> None:
        """A communicator for each channel.

        In the same order on all ranks, and with a first message that is waited for: NCCL connects
        two ranks when both use a communicator for the first time, and blocks until they do.
        """
        for channel in sorted(set(channels) - self.groups.keys()):
            source, goal = channel
            place = channel.index(self.rank)  # the source is 0 in its group, the goal is 1
            self.groups[channel] = groups.nccl(
                self.store, f"from {source} to {goal}", place, 2, self.device, self.timeout
            )
            first = torch.zeros(1, device=self.device)
            is_source = place == 0
            work = self.send(first, goal, 0) if is_source else self.receive(first, source, 0)
            self.finish(work, self.timeout)

    def close(self) -> None:
        """Release NCCL."""
        for group in self.groups.values():
            group.abort()
        self.groups.clear()

    def send(self, tensor: Tensor, peer: int, tag: int) -> dist.Work:
        """Start to send; the tag is not used."""
        return self.groups[self.rank, peer].send([raw_bytes(tensor)], 1, 0)

    def receive(self, buffer: Tensor, peer: int, tag: int) -> dist.Work:
        """Open a buffer for the next message of this channel."""
        return self.groups[peer, self.rank].recv([raw_bytes(buffer)], 0, 0)

    def finish(self, work: dist.Work, timeout: float) -> None:
        """Block until it has completed: the rank must know when, and who is late."""
        groups.finish(work, timeout)

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """On the GPU."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def outgoing(self, tensor: Tensor) -> Tensor:
        """As it is."""
        return tensor.detach().to(self.device).contiguous()

    def arrived(self, buffer: Tensor) -> Tensor:
        """As it is."""
        return buffer

"""What a rank needs of messages, whatever carries them: gloo, NCCL (p2p.py) or shared memory."""

from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor

from pipelab.action import Action, Kind, Slice
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport.backends import Channel, Transport
from pipelab.partition.tree import Flat

Content = Flat | list[Tensor]  # of a message: a value, or gradients


class Messages(Protocol):
    """One rank's open sends and receives.

    Attributes:
        clock_offset: seconds from this machine's clock to the one of all stamps.
        timeout: seconds that any wait may take.
    """

    clock_offset: float
    timeout: float

    @property
    def carrier(self) -> Transport:
        """What carries the messages of this batch."""

    @property
    def is_by_host(self) -> bool:
        """Whether this batch travels through host memory."""

    def use(self, channels: Iterable[Channel]) -> None:
        """Prepare for a schedule whose messages use these channels; all ranks call it at once."""

    def begin(self, run: Run, stamped: bool) -> None:
        """Start a batch. With ``stamped``, each message says when it left (rank/pace.py)."""

    def post(self, recv: Action, peer: int, rows: int) -> int:
        """Open a receive for a microbatch of ``rows``; it never blocks. Returns its bytes."""

    def wait(self, recv: Action, rows: int) -> tuple[Content, float]:
        """Block until a posted message is there: its content, its stamp."""

    def send(self, send: Action, content: Content, peer: int, rows: int, stamp: float) -> int:
        """Start to send what ``wait`` gives at the other end. Returns its bytes."""

    def block(self, send: Action) -> None:
        """Block until the receiver has opened its buffer for a send, as without overlap."""

    def finish(self, before_wait: Callable[[Action, int], None]) -> None:
        """Block until all sends have completed.

        ``before_wait`` is called with each send and its peer, before the wait for it.
        """

    def explain(self, action: Action, error: Exception) -> None:
        """Add a note to an error of an action, if its input may be the cause."""

    def close(self) -> None:
        """Release the connections; the process may stay, under torchrun."""


def number(message: Action) -> int:
    """The microbatch; only REDUCE_GRAD and STEP have none."""
    assert message.microbatch is not None
    return message.microbatch


def place(message: Action) -> int:
    """Which slice of its microbatch it belongs to; slices may have different sizes."""
    return message.microbatch.place if isinstance(message.microbatch, Slice) else 0


def boundary(message: Action) -> int:
    """The stage in front of which a message crosses."""
    return message.stage + (message.kind in (Kind.SEND_F, Kind.RECV_B))


def is_backward(message: Action) -> bool:
    """Whether it brings gradients."""
    return message.kind in (Kind.SEND_B, Kind.RECV_B)

"""What the parent asks of a rank, what the rank answers, and how both travel through a pipe.

The pipe is a private socket pair between the parent and one rank. Classes and functions of a
notebook cell travel by value (cloudpickle); tensors as raw bytes, which is several times faster
than their own pickling.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from pipelab.action import Action
from pipelab.simulator import Cost
from pipelab.trace import Event, Memory

Loss = Callable[[Tensor, Tensor], Tensor]
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Build:
    """First command: what this rank runs."""

    stages: dict[int, nn.Module]
    num_stages: int
    loss: Loss
    optimizer: Optimizer | None


@dataclass(frozen=True)
class Use:
    """Follow another schedule from now on.

    ``step`` and ``forward`` are this rank's rows of the lowered schedule, for training and for
    evaluation; ``home`` names the rank of each stage.
    """

    step: tuple[Action, ...]
    forward: tuple[Action, ...]
    home: dict[int, int]
    pace: Cost | None


@dataclass(frozen=True)
class Run:
    """One pass over one batch. ``inputs`` go to the first stage's rank, ``targets`` to the last's.

    ``sizes``: rows of each microbatch. ``weights``: the share of each microbatch in the mean.
    ``signature``: shape of a row and dtype of the inputs; while it stays, message shapes do too.
    """

    train: bool
    inputs: Tensor | None
    targets: Tensor | None
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    signature: tuple[object, ...]
    collect: bool = False  # bring the last stage's outputs home


@dataclass(frozen=True)
class Fetch:
    """Bring home ``"gradients"`` or ``"state"`` under the model's own names."""

    what: str


@dataclass(frozen=True)
class Done:
    """A rank's answer to a command that went well."""

    loss: float | None = None
    outputs: Tensor | None = None
    events: list[Event] = field(default_factory=list)
    memory: Memory = Memory()
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A rank's last words. ``echo``: it only saw a neighbour go away; the cause is elsewhere."""

    action: str | None
    summary: str
    details: str
    echo: bool


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with tensors as raw bytes."""

    def reducer_override(self, obj: object) -> Any:
        if type(obj) is Tensor and obj.device.type == "cpu" and not obj.requires_grad:
            raw = obj.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            return _tensor, (raw, obj.dtype, tuple(obj.shape))
        return super().reducer_override(obj)


def _tensor(raw: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(raw).view(dtype).reshape(shape)


def dumps(message: object) -> bytes:
    """One message as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()


def send(pipe: Connection, message: object) -> None:
    """Write one message. Raises OSError when the other end is gone."""
    pipe.send_bytes(dumps(message))


def receive(pipe: Connection) -> Any:
    """Read one message. Raises EOFError when the other end is gone."""
    return cloudpickle.loads(pipe.recv_bytes())

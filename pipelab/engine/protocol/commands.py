"""What the parent asks of a rank, what the rank answers, and how both travel through a pipe.

The pipe is a private socket pair between the parent and one rank. Classes and functions of a
notebook cell travel by value (see ``pickling``). What travels in every step holds no classes of a
learner's, except inside a ``Form``, which encodes them itself; so pickle's fast implementation
carries it.
"""

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

import cloudpickle
import torch
from torch import Tensor, nn

from pipelab.action import Action, Overlap
from pipelab.engine.protocol.device import CPU, Place
from pipelab.engine.protocol.pickling import FastPickler, Pickler
from pipelab.partition.sharing import NOTHING_SHARED, Sharing
from pipelab.partition.tree import Flat
from pipelab.simulator import Cost
from pipelab.trace import UNDISTURBED, Disturbance, Memory

Head = tuple[int, int, int, int | None]
Row = tuple[Head, float, float, int, int | None]
"""An ``Event`` as a rank sends it, in front what is known of it before it happens.

Its kind is its place in ``Kind``, which pickles faster.
"""

Seen = tuple[str, str, int, float, float]
"""An ``Operator`` as ranks send it: name, device, thread, start and end on the machine's clock."""

EXTRA_STATE = "_extra_state"
"""How torch names what ``get_extra_state`` of a module gives."""

Loss = Callable[[Any, Any], Tensor]
Reduction = Literal["mean", "sum"]
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes a stage's optimizer; one with an argument ``names`` gets the parameters' names too."""

LrSchedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


@dataclass(frozen=True)
class Options:
    """How the ranks train: the arguments of ``Pipeline`` that each of them needs."""

    loss: Loss
    optimizer: Optimizer | None = None
    lr_schedule: LrSchedule | None = None
    clip_norm: float | None = None
    memory_budget: int | None = None
    checkpoint: bool | Collection[int] = False
    autocast: torch.dtype | None = None
    seed: int = 0
    record: bool = True
    stop_at_nan: bool = False
    place: Place = CPU
    worker: str = "pipelab"
    lr_takes_loss: bool = False  # as ReduceLROnPlateau does
    settings: dict[str, dict[str, Any]] | None = None  # of each parameter, as made by the parent

    @property
    def updates_together(self) -> bool:
        """Whether ranks exchange something before they update, so that all wait for the last."""
        is_fp16 = self.autocast is torch.float16
        return is_fp16 or self.clip_norm is not None or self.lr_takes_loss


@dataclass(frozen=True)
class Build:
    """First command: what this rank runs."""

    stages: dict[int, nn.Module]
    num_stages: int
    options: Options
    sharing: Sharing = NOTHING_SHARED


@dataclass(frozen=True)
class Use:
    """Follow another schedule from now on.

    ``rows`` are this rank's rows of the lowered schedule: for training (True) and for evaluation.
    ``home`` names the rank of each stage. Without ``overlap``, sends block. ``csv``: the whole
    schedule, where torch follows it. ``overlaps``: pairs of the whole schedule that run as one.
    """

    rows: dict[bool, tuple[Action, ...]]
    home: dict[int, int]
    pace: Cost | None
    overlap: bool = True
    csv: str = ""
    overlaps: frozenset[Overlap] = frozenset()


@dataclass(frozen=True)
class Trial:
    """A trial of the loss on the first rows of a batch.

    ``counts``: what each of these rows counts. ``takes``: how many of them each of the first
    microbatches has.
    """

    counts: tuple[float, ...]
    takes: tuple[int, ...]
    reduction: Reduction


@dataclass(frozen=True)
class Run:
    """One pass over one batch. ``inputs`` go to the first stage's rank, ``targets`` to the last's.

    ``sizes``: rows of each microbatch. ``weights``: the share of each microbatch in the mean, or of
    each of its slices, of so many ``tokens``; without, microbatches are whole.
    ``signature``: shape of a row and dtype of the inputs; while it stays, message shapes do too.
    ``first``: the number of this replica's first microbatch within the whole batch. ``profiled``:
    under PyTorch's profiler, which slows it down; ``profile_folder``: where each rank leaves the
    profiler's own file, if not empty. ``trial``: of the loss, once, when the first targets come.
    ``asked``: when, on ``time.monotonic`` of the machine that asks.
    """

    train: bool
    inputs: Flat | None
    targets: Flat | None
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    signature: tuple[object, ...]
    collect: bool = False  # return the last stage's outputs
    output_dim: int = 0  # where these have their rows
    fresh: bool = True  # forget the gradients of the step before
    update: bool = True  # end with the optimizer's step
    number: int = 0  # of this batch in the training
    first: int = 0
    profiled: bool = False
    profile_folder: str = ""
    trial: Trial | None = None
    tokens: tuple[int, ...] = ()
    asked: float = 0.0


@dataclass(frozen=True)
class GetProfiler:
    """Start PyTorch's profiler once and stop it: the first start takes a second."""


@dataclass(frozen=True)
class Fetch:
    """Return ``"gradients"``, ``"optimizer"`` state, or all that is in a state_dict.

    That is ``"parameters"`` (buffers and extra state too) or the ``"shapes"`` of these.
    """

    what: str


@dataclass(frozen=True)
class Load:
    """Load parameters, by the model's own names, and the optimizers' state.

    ``parameters`` is a state_dict: the extra state of a layer may be no tensor. ``optimizer`` is
    what each of our stages gets (protocol/training_state.py); None leaves the optimizers as they
    are.
    """

    parameters: dict[str, Any]
    optimizer: dict[str, Any] | None


@dataclass(frozen=True)
class Done:
    """A rank's answer to a command that went well."""

    loss: float | None = None
    outputs: Flat | None = None
    events: list[Row] = field(default_factory=list)
    memory: Memory = Memory()
    found: dict[str, Any] = field(default_factory=dict)
    gradient_norm: float | None = None
    disturbance: Disturbance = UNDISTURBED
    skipped: bool = False
    allocated: int = 0
    seen: list[Seen] = field(default_factory=list)
    clock_error: float = 0.0  # seconds: of the times of what was seen


def dumps(message: object) -> bytes:
    """One message as bytes."""
    buffer = io.BytesIO()
    pickler = FastPickler if _is_plain(message) else Pickler
    pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()


def _is_plain(message: object) -> bool:
    """Whether no class of a learner's can be in it."""
    match message:
        case Run():
            return True
        case Use():
            return type(message.pace) in (Cost, type(None))
        case Done():
            return not message.found
    return False


class PipeEnded(Exception):
    """The other end of a pipe is gone.

    No EOFError: what a learner's class raises while it is pickled may be one, too.
    """


def send(pipe: Connection, message: object) -> None:
    """Write one message. Raises PipeEnded, or what ``message`` raises while it is pickled."""
    data = dumps(message)
    try:
        pipe.send_bytes(data)
    except OSError as error:
        raise PipeEnded from error


def receive(pipe: Connection) -> Any:
    """Read one message. Raises PipeEnded, or what the message raises while it is unpickled."""
    try:
        data = pipe.recv_bytes()
    except (EOFError, OSError) as error:
        raise PipeEnded from error
    return cloudpickle.loads(data)

"""Where a rank computes, and how time is measured there.

A GPU works asynchronously: its rank puts work into a stream and continues. So the time of a
GPU's action is taken by marks in that stream, and turned into the rank's clock when the step is
over.
"""

import os
import time
from typing import NamedTuple

import torch

from pipelab.engine.protocol.host import under_torchrun
from pipelab.errors import PipelabError

SHARED_MEMORY = "shared memory"
MAX_SHARING = 64  # ranks: each gets three open files for each, and 253 can be handed over at once

Moment = float | torch.cuda.Event


class Place(NamedTuple):
    """What a pipeline's ranks compute on, and what carries their messages."""

    device: str
    backend: str

    @property
    def is_shared(self) -> bool:
        """Whether messages go through memory that the ranks share."""
        return self.backend == SHARED_MEMORY

    @property
    def is_ordered(self) -> bool:
        """Whether messages have no tags (NCCL)."""
        return self.backend == "nccl"


CPU = Place("cpu", "gloo")


def choose(device: str, num_ranks: int, worker: str = "pipelab") -> Place:
    """NCCL where each rank has a GPU, gloo over pinned host memory where ranks share them.

    On CPUs, shared memory for ranks launched here, gloo for torchrun's and for torch's own worker,
    which runs on CPUs alone. Each machine of torchrun's has GPUs for its own ranks alone.

    Raises:
        PipelabError: a device that is unknown, or not in this machine.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise PipelabError(f"device={device!r} is unknown: choose 'auto', 'cpu' or 'cuda'")
    is_wanted = device == "cuda" or (device == "auto" and worker == "pipelab")
    gpus = torch.cuda.device_count() if is_wanted else 0
    if gpus and not torch.cuda.is_available():  # a driver that is too old for this torch
        gpus = 0
    if device == "cuda" and not gpus:
        raise PipelabError("device='cuda', but this machine shows no GPU: use device='cpu'")
    if not gpus:
        shares = worker == "pipelab" and num_ranks <= MAX_SHARING and not under_torchrun()
        return Place("cpu", SHARED_MEMORY) if shares else CPU
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun() else num_ranks
    return Place("cuda", "nccl" if gpus >= here and num_ranks > 1 else "gloo")


def device_of(place: Place, rank: int) -> torch.device:
    """The device of one rank: its machine's GPUs are given out in turn."""
    if place.device == "cpu":
        # Each step of Adam's looks for GPUs, and takes some memory of the first: let it see none.
        # A process of torchrun's is the script's, which may have other uses for them.
        if not under_torchrun():
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return torch.device("cpu")
    # Streams beyond this number share queues, where computation would stand behind a message that
    # waits for it. CUDA's own 8 are too few for a rank that talks to many; it reads this once.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    place_here = int(os.environ["LOCAL_RANK"]) if under_torchrun() else rank
    device = torch.device("cuda", place_here % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


class DeviceClock:
    """Measures time on a device: this one on CPUs, which work synchronously.

    Attributes:
        marks_are_seconds: on the clock of ``time.monotonic``, all of them.
    """

    marks_are_seconds = True

    def begin(self) -> None:
        """A step begins; the device is idle."""

    def now(self) -> Moment:
        """A mark at what the device does next."""
        return time.monotonic()

    def seconds(self, moment: Moment) -> float:
        """A mark as seconds on the clock of ``time.monotonic``; the device must have reached it."""
        assert isinstance(moment, float)
        return moment

    def finish(self) -> None:
        """Block until the rank's own work is done, and the messages that this needed are there."""


class GpuClock(DeviceClock):
    """For GPUs: marks in the stream, counted from one at which the host read its own clock.

    Each step has its own first mark: CUDA gives the milliseconds between two marks as a
    float32, which knows none below 0.25 after an hour, and the GPU's clock drifts from the host's.
    """

    marks_are_seconds = False

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self.zero = self._mark()
        self.zero.synchronize()
        self.at_zero = time.monotonic()

    def now(self) -> Moment:
        """A mark in the current stream."""
        return self._mark()

    def seconds(self, moment: Moment) -> float:
        """From the step's first mark on."""
        if isinstance(moment, float):
            return moment
        return self.at_zero + float(self.zero.elapsed_time(moment)) / 1000.0

    def finish(self) -> None:
        """Wait for the stream of computation alone, which waits for messages as it needs them.

        To wait for all streams would be to wait for messages that were posted ahead, too, whose
        senders may still wait for this rank.
        """
        torch.cuda.current_stream().synchronize()

    @staticmethod
    def _mark() -> torch.cuda.Event:
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record()
        return mark


def clock_of(device: torch.device) -> DeviceClock:
    """The clock of a device."""
    return GpuClock() if device.type == "cuda" else DeviceClock()

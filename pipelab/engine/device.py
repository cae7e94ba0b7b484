"""Where a rank computes, and how time is told there.

A GPU works behind its rank's back: the rank lays work into a stream and goes on. So the time of a
GPU's action is taken by marks in that stream, and turned into the rank's clock when the step is
over.
"""

import time
from typing import NamedTuple, Protocol

import torch

from pipelab.errors import PipelabError

Moment = float | torch.cuda.Event


class Place(NamedTuple):
    """What a pipeline's ranks compute on. ``shared``: several of them on one GPU."""

    device: str
    backend: str

    @property
    def is_ordered(self) -> bool:
        """Whether messages have no tags (NCCL)."""
        return self.backend == "nccl"


CPU = Place("cpu", "gloo")


def choose(device: str, num_ranks: int) -> Place:
    """NCCL where each rank has a GPU, gloo over pinned host memory where ranks share them.

    Raises:
        PipelabError: a device that is unknown, or not in this machine.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise PipelabError(f"device={device!r} is unknown: choose 'auto', 'cpu' or 'cuda'")
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise PipelabError("device='cuda', but this machine shows no GPU: use device='cpu'")
    if not gpus:
        return CPU
    return Place("cuda", "nccl" if gpus >= num_ranks > 1 else "gloo")


def device_of(place: Place, rank: int) -> torch.device:
    """The device of one rank: GPUs are dealt out in turn."""
    if place.device == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


class Watch(Protocol):
    """Tells the time on a device."""

    def now(self) -> Moment:
        """A mark at what the device does next."""

    def seconds(self, moment: Moment) -> float:
        """A mark as seconds on the clock of ``time.monotonic``; the device must be through."""

    def finish(self) -> None:
        """Block until the device has done all its work."""


class HostWatch:
    """For CPUs, which do what they are told at once."""

    def now(self) -> Moment:
        """The time."""
        return time.monotonic()

    def seconds(self, moment: Moment) -> float:
        """As it is."""
        assert isinstance(moment, float)
        return moment

    def finish(self) -> None:
        """Nothing is left."""


class DeviceWatch:
    """For GPUs: marks in the stream, counted from one that was made while the host looked on."""

    def __init__(self) -> None:
        self.zero, self.at_zero = self._mark(), 0.0
        self.zero.synchronize()
        self.at_zero = time.monotonic()

    def now(self) -> Moment:
        """A mark in the current stream."""
        return self._mark()

    def seconds(self, moment: Moment) -> float:
        """From the first mark on."""
        if isinstance(moment, float):
            return moment
        return self.at_zero + float(self.zero.elapsed_time(moment)) / 1000.0

    def finish(self) -> None:
        """All streams of this GPU."""
        torch.cuda.synchronize()

    @staticmethod
    def _mark() -> torch.cuda.Event:
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record()
        return mark


def watch_for(device: torch.device) -> Watch:
    """The one that tells the time there."""
    return DeviceWatch() if device.type == "cuda" else HostWatch()

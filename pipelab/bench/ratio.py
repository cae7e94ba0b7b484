"""The one number that a bench may claim: how many times as long, measured in turns."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import pipelab
from pipelab.engine.rank.affinity import cores


class Ratio(NamedTuple):
    """The median of the ratios of neighbouring measurements, with its quartiles.

    >>> Ratio.of([1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    Ratio(median=1.0, low=0.75, high=1.25)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Ratio":
        """The one over the other, pair by pair."""
        ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
        if len(ratios) == 1:
            return cls(*ratios * 3)
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 0
        spread = f"{self.low:.{digits}f} to {self.high:.{digits}f}"
        return f"{self.median:.{digits}f} ({spread})"


def machine() -> dict[str, object]:
    """What the numbers were measured on, and how busy it was when they began."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pipelab": pipelab.__version__,
    }


def described(machine: dict[str, object]) -> str:
    """A machine as one line of text."""
    return ", ".join(f"{what} {value}" for what, value in machine.items())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()

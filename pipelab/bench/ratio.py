"""What a bench may claim: a median with its quartiles, and how many times as long, in turns."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch

import pipelab
from pipelab.engine.rank.affinity import cores


class Quartiles(NamedTuple):
    """A median with its quartiles.

    >>> str(Quartiles.among([30.0, 10.0, 20.0]))
    '20 (15 to 25)'
    """

    median: float
    low: float
    high: float

    @classmethod
    def among(cls, values: Sequence[float]) -> Self:
        """Those of some values."""
        if len(values) == 1:
            return cls(*[*values] * 3)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 0
        spread = f"{self.low:.{digits}f} to {self.high:.{digits}f}"
        return f"{self.median:.{digits}f} ({spread})"


class Ratio(Quartiles):
    """The median of the ratios of neighbouring measurements, with its quartiles.

    >>> Ratio.of([1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    Ratio(median=1.0, low=0.75, high=1.25)
    """

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Ratio":
        """The one over the other, pair by pair."""
        return cls.among([a / b for a, b in zip(numerators, denominators, strict=True)])


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

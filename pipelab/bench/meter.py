"""What a side of a bench costs the processor, however busy the machine is with other things.

Seconds on the clock show who waits how long, and on a shared machine that is partly chance. The
processor's seconds of a side's own processes hardly depend on others.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipelab.engine.rank.affinity import cores

_PROC = Path("/proc")


class Meter:
    """Within ``with``, again and again: the processor's seconds of some processes, and of others.

    All zeros where there is no /proc of Linux's.

    Attributes:
        own: seconds of ``pids``, all their threads.
        others: the share of the machine's seconds that went to other processes.
    """

    def __init__(self, pids: Sequence[int]):
        self.pids = pids
        self.own = self._busy = self._seconds = 0.0

    @property
    def others(self) -> float:
        """Between 0 and 1, give or take."""
        whole = self._seconds * cores()
        return max(0.0, self._busy - self.own) / whole if whole else 0.0

    def __enter__(self) -> None:
        self._at = self._read()

    def __exit__(self, *error: object) -> None:
        own, busy, seconds = (b - a for a, b in zip(self._at, self._read(), strict=True))
        self.own, self._busy, self._seconds = (
            self.own + own, self._busy + busy, self._seconds + seconds,
        )  # fmt: skip

    def _read(self) -> tuple[float, float, float]:
        if sys.platform != "linux":
            return 0.0, 0.0, time.monotonic()
        return sum(map(cpu_seconds, self.pids)), _busy_seconds(), time.monotonic()


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process's threads, those that have not ended; 0 without a /proc."""
    if sys.platform != "linux":
        return 0.0
    nanoseconds = 0
    for task in (_PROC / str(pid) / "task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            nanoseconds += int((task / "schedstat").read_text("ascii").split()[0])
    return nanoseconds / 1e9


def _busy_seconds() -> float:
    """What the cores have done since the machine's start: see proc(5), stat."""
    user, nice, system, _, _, irq, soft, stolen = map(
        int, (_PROC / "stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")

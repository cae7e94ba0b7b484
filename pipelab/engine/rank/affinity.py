"""Which cores ranks run on (Linux; elsewhere the system alone decides)."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_LONG = 0.004  # seconds of an action: about as often as Linux looks for a better core
_CROWD = 0.2  # seconds in line for each second on the core
_RECENT = 0.2  # what the last step counts in the crowd; one in twenty has a chance guest


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Spent(NamedTuple):
    """Seconds of this thread: on a core, and in line for one."""

    computing: float
    in_line: float


class Seat:
    """The core of one rank, where ranks fill or outnumber the cores.

    The system would move ranks about, and two that share a core by chance while another core
    rests are what a small step spends most of its time on. So a rank keeps to a core, but not

        where actions are long      the system has time to move it to a core that rests
        where it should be alone,   a rank for each core, and is not: another program sits there
        when it is paced            it sleeps most of the time, and wakes up where there is room

    Where a rank has its core alone, it gives way to gloo's threads, which do not cut in (see
    ``mesh``): a message would wait for as long as the rank computes. In a crowd it does not, since
    its next turn would come too late.
    """

    def __init__(self, rank: int, num_ranks: int, threads: int):
        self.all: set[int] = set()
        if hasattr(os, "sched_setaffinity") and threads == 1:
            self.all = os.sched_getaffinity(0)
            if num_ranks < len(self.all):
                self.all = set()
        self.own = sorted(self.all)[rank % len(self.all)] if self.all else 0
        self.is_alone = num_ranks <= len(self.all)
        self.is_taken = self.gives_way = False
        self.crowd = 0.0  # seconds in line for each second on a core, of late
        self._begun = _Spent(0.0, 0.0)

    def begin(self) -> None:
        """A step begins."""
        if self.all:
            self._begun = _spent()

    def end(self, num_actions: int) -> None:
        """A step of so many actions is over: stay, or move freely in the next one."""
        if self.all:
            now, then = _spent(), self._begun
            computing, in_line = now.computing - then.computing, now.in_line - then.in_line
            self.choose(computing / num_actions, in_line / max(computing, 1e-9))

    def choose(self, action: float, crowd: float) -> None:
        """After a step with actions of so many seconds; ``crowd``: seconds in line for each."""
        self.crowd += _RECENT * (crowd - self.crowd)
        is_crowded = self.is_alone and self.crowd > _CROWD
        (self.leave if action > _LONG or is_crowded else self.take)()
        self.gives_way = self.is_alone and not is_crowded

    def give_way(self) -> None:
        """Let a thread of gloo's that waits for this core have its turn."""
        if self.gives_way:
            os.sched_yield()

    def take(self) -> None:
        """Stay on one core."""
        if self.all and not self.is_taken:
            self.is_taken = True
            _move({self.own})

    def leave(self) -> None:
        """Run on any core again."""
        self.gives_way = False
        if self.is_taken:
            self.is_taken = False
            _move(self.all)


def _spent() -> _Spent:
    try:
        text = Path("/proc/thread-self/schedstat").read_text("ascii")
    except OSError:  # not all kernels count
        return _Spent(time.thread_time(), 0.0)
    computing, in_line, _ = map(int, text.split())
    return _Spent(computing / 1e9, in_line / 1e9)


def _move(cores: set[int]) -> None:
    """All threads of this process, those that gloo has started too."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), cores)

"""Which cores ranks run on (Linux; elsewhere the system alone decides)."""

import os
from contextlib import suppress

_LONG = 0.004  # seconds: about as often as Linux looks for a better core


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Seat:
    """The core of one rank, where ranks fill or outnumber the cores.

    The system would move ranks about, and two that share a core by chance while another core
    rests are what a small step spends most of its time on. Where actions are long, the system has
    time to move a rank to a core that rests, and a rank that stays would wait for a busy one. A
    paced rank sleeps most of the time: it had better wake up wherever there is room.
    """

    def __init__(self, rank: int, num_ranks: int, threads: int):
        self.all: set[int] = set()
        if hasattr(os, "sched_setaffinity") and threads == 1:
            self.all = os.sched_getaffinity(0)
            if num_ranks < len(self.all):
                self.all = set()
        self.own = sorted(self.all)[rank % len(self.all)] if self.all else 0
        self.is_taken = False

    def choose(self, seconds: float) -> None:
        """For the next step, after one whose actions took so long of the CPU, on average."""
        (self.take if seconds < _LONG else self.leave)()

    def take(self) -> None:
        """Stay on one core."""
        if self.all and not self.is_taken:
            self.is_taken = True
            _move({self.own})

    def leave(self) -> None:
        """Run on any core again."""
        if self.is_taken:
            self.is_taken = False
            _move(self.all)


def _move(cores: set[int]) -> None:
    """All threads of this process, those that gloo has started too."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), cores)

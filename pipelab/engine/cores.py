"""Which cores ranks run on (Linux; elsewhere the system alone decides)."""

import os


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Seat:
    """The core of one rank, where ranks fill or outnumber the cores.

    The system would move ranks about, and two that share a core by chance while another core
    rests are what a small step spends most of its time on. A paced rank sleeps most of the time:
    it had better wake up wherever there is room.
    """

    def __init__(self, rank: int, num_ranks: int, threads: int):
        self.all: set[int] = set()
        if hasattr(os, "sched_setaffinity") and threads == 1:
            self.all = os.sched_getaffinity(0)
            if num_ranks < len(self.all):
                self.all = set()
        self.own = sorted(self.all)[rank % len(self.all)] if self.all else 0

    def take(self) -> None:
        """Stay on one core."""
        if self.all:
            os.sched_setaffinity(0, {self.own})

    def leave(self) -> None:
        """Run on any core again."""
        if self.all:
            os.sched_setaffinity(0, self.all)

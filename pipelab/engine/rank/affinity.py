"""Affinity: which cores a rank runs on (Linux; elsewhere the system alone decides)."""

import os
import time
from contextlib import suppress
from typing import NamedTuple

from pipelab.action import Action
from pipelab.engine.rank.recorder import Found

LONG_ACTION = 0.004  # seconds: about as often as Linux looks for a better core
MAX_CONTENTION = 0.2  # seconds of waiting for each second on the core
SMOOTHING = 0.2  # weight of the last step; one step in twenty shares its core by chance


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _CoreTime(NamedTuple):
    """Seconds of this thread: on a core, and ready to run but waiting for one."""

    computing: float
    waiting: float


class Affinity:
    """Binds a rank to a core where ranks fill or outnumber the cores.

    The system would move ranks about, and two that share a core by chance while another core is
    idle cost a small step most of its time. So a rank stays on one core, except

        where actions are long      the system has time to move it to an idle core
        where the core is shared,   although there is one for each rank: another program uses it
        when it is paced            it sleeps most of the time, and wakes up where there is room

    Where a rank has its core to itself, it yields it to gloo's threads, which do not preempt it
    (transport/groups.py): a message would wait for as long as the rank computes. Where ranks share
    a core it does not yield, since its next turn would come too late.
    """

    def __init__(self, rank: int, num_ranks: int, threads: int):
        self.all: set[int] = set()
        if hasattr(os, "sched_setaffinity") and threads == 1:
            self.all = os.sched_getaffinity(0)
            if num_ranks < len(self.all):
                self.all = set()
        self.own = sorted(self.all)[rank % len(self.all)] if self.all else 0
        self.has_own_core = num_ranks <= len(self.all)
        self.is_bound = self.yields = False
        self.contention = 0.0  # recent seconds of waiting for each second on a core
        self._begun = _CoreTime(0.0, 0.0)

    def before(self, action: Action) -> None:
        """Yield before what keeps the core busy."""
        if self.yields:
            os.sched_yield()

    def after(self, action: Action, found: Found) -> None:
        """Yield after a SEND, which gloo's thread carries out."""
        if self.yields:
            os.sched_yield()

    def begin_step(self) -> None:
        """Start to measure a step."""
        if self.all:
            self._begun = _core_time()

    def end_step(self, num_actions: int) -> None:
        """Decide after a step of so many actions: bound to the core or not in the next one."""
        if self.all:
            now, then = _core_time(), self._begun
            computing, waiting = now.computing - then.computing, now.waiting - then.waiting
            self.decide(computing / num_actions, waiting / max(computing, 1e-9))

    def decide(self, action_seconds: float, contention: float) -> None:
        """Bind or release, after a step with actions that took so long on average.

        ``contention``: seconds of waiting for the core for each second on it.
        """
        self.contention += SMOOTHING * (contention - self.contention)
        is_shared = self.has_own_core and self.contention > MAX_CONTENTION
        if action_seconds > LONG_ACTION or is_shared:
            self.release()
        else:
            self.bind()
        self.yields = self.has_own_core and not is_shared

    def bind(self) -> None:
        """Stay on one core."""
        if self.all and not self.is_bound:
            self.is_bound = True
            set_affinity({self.own})

    def release(self) -> None:
        """Run on any core again."""
        self.yields = False
        if self.is_bound:
            self.is_bound = False
            set_affinity(self.all)


def _core_time() -> _CoreTime:
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)  # Path costs four times as much
    except OSError:  # not all kernels count
        return _CoreTime(time.thread_time(), 0.0)
    try:
        computing, waiting, _ = map(int, os.read(file, 1 << 8).split())
    finally:
        os.close(file)
    return _CoreTime(computing / 1e9, waiting / 1e9)


def set_affinity(cores: set[int]) -> None:
    """Keep all threads of this process, gloo's included, on these cores."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), cores)

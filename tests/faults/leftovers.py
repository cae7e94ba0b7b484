"""What a pipeline could leave behind: counted before and after."""

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.benchmarks.soak import descendants


class Held(NamedTuple):
    """What this process, and all below it, hold."""

    processes: int
    files: int
    shared: int
    folders: int

    @classmethod
    def now(cls):
        """Count (Linux). The folders are those of ``tempfile.tempdir``: the test's own."""
        shared = [p for p in Path("/dev/shm").glob("*") if p.owner() == me()]
        folders = list(Path(tempfile.gettempdir()).glob("pipelab-*"))
        return cls(
            len(descendants(os.getpid())),
            len(os.listdir("/proc/self/fd")),
            len(shared),
            len(folders),
        )


def me():
    return psutil.Process().username()


def nothing_more(before, seconds=2.0):
    """What there is more than before, once it has had the time to go; None if nothing."""
    until = time.monotonic() + seconds
    while True:
        now = Held.now()
        if all(a <= b for a, b in zip(now, before, strict=True)):
            return None
        if time.monotonic() > until:
            gc.collect()
            return f"before {before}, after {Held.now()}"
        time.sleep(0.02)


def gone(pids, seconds=2.0):
    """Whether all of these processes end in time."""
    until = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

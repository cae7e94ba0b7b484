"""What judges time runs alone: nothing is beside a test that is marked ``timing``.

Workers are processes, so they meet at a file: each test shares a lock, and a test of time has it
for itself. Tests of time in a row keep it, so that the other worker waits once for all of them.
"""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest


class QuietLock:
    """A lock that many share, or that one has alone, across processes.

    Two files, for one alone is unfair: others could take turns at sharing it, and who wants it
    alone would never have it. Everybody takes the entry first, and who waits keeps it locked.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = (folder / "quiet.lock").open("w")
        self._entry = (folder / "entry.lock").open("w")
        self.is_alone = False

    def take(self, *, alone: bool) -> None:
        """Wait until nobody has it, or (shared) until nobody has it alone."""
        fcntl.flock(self._entry, fcntl.LOCK_EX)
        fcntl.flock(self._lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._entry, fcntl.LOCK_UN)
        self.is_alone = alone

    def release(self) -> None:
        """Others may have it."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.is_alone = False

    def close(self) -> None:
        """Release it for good."""
        self._lock.close()
        self._entry.close()


LOCK = pytest.StashKey[QuietLock]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The workers of one run have one lock; a run in one process needs none."""
    if hasattr(config, "workerinput"):
        config.stash[LOCK] = QuietLock(Path(config.option.basetemp).parent)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no file open."""
    if lock := config.stash.get(LOCK, None):
        lock.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """From the set-up of a test's fixtures to the end of the last of them."""
    lock = item.config.stash.get(LOCK, None)
    if lock is None:
        return (yield)
    alone = _judges_time(item)
    if not (alone and lock.is_alone):
        lock.take(alone=alone)
    try:
        return (yield)
    finally:
        if not (alone and nextitem and _judges_time(nextitem)):
            lock.release()


def _judges_time(item: pytest.Item) -> bool:
    return item.get_closest_marker("timing") is not None

"""End the processes of a pipeline that nobody has asked for long: thirty notebooks share a server.

Its parameters go with them, and the next call says so: to bring up ranks again in secret, with a
state from some moment ago, would hide what happened.
"""

import threading
import time
import weakref
from typing import Protocol


class Sleeper(Protocol):
    """What can be closed when it has been idle."""

    lock: "threading.RLock"
    last_asked: float

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""

    def close(self, why: str) -> None:
        """End it."""


def watch_idle(ranks: Sleeper, seconds: float | None) -> None:
    """Close these ranks when nobody has asked them for so long; None: never."""
    if seconds is None:
        return
    over = threading.Event()
    weakref.finalize(ranks, over.set)
    thread = threading.Thread(
        target=_watch, args=(weakref.ref(ranks), seconds, over), name="pipelab idle", daemon=True
    )
    thread.start()


def _watch(reference: "weakref.ref[Sleeper]", seconds: float, over: threading.Event) -> None:
    left = seconds
    while not over.wait(min(left, 1.0)):
        ranks = reference()
        if ranks is None or ranks.is_closed:
            return
        left = ranks.last_asked + seconds - time.monotonic()
        if left <= 0.0 and ranks.lock.acquire(blocking=False):  # else they work right now
            try:
                if ranks.last_asked + seconds <= time.monotonic():
                    ranks.close(f"nobody had asked it for {seconds:g} s (idle_timeout={seconds:g})")
                    return
            finally:
                ranks.lock.release()
        left = max(0.05, left)
        del ranks  # so that the pipeline may end when nothing but this thread knows it

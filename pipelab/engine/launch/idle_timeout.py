"""End the processes of a pipeline that is not used for long: thirty notebooks may share a server.

Its parameters are lost with them, and the next call says so: new ranks, started silently with an
earlier state, would hide what happened.
"""

import threading
import time
import weakref
from typing import Protocol


class Closeable(Protocol):
    """What can be closed when it is idle."""

    lock: "threading.RLock"
    last_asked: float

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""

    def close(self, why: str) -> None:
        """End it."""


def close_when_idle(ranks: Closeable, seconds: float | None) -> None:
    """Close these ranks after so many seconds without a question; None: never."""
    if seconds is None:
        return
    gone = threading.Event()
    weakref.finalize(ranks, gone.set)
    thread = threading.Thread(
        target=_wait, args=(weakref.ref(ranks), seconds, gone), name="pipelab idle", daemon=True
    )
    thread.start()


def _wait(reference: "weakref.ref[Closeable]", seconds: float, gone: threading.Event) -> None:
    left = seconds
    while not gone.wait(min(left, 1.0)):
        ranks = reference()
        if ranks is None or ranks.is_closed:
            return
        left = ranks.last_asked + seconds - time.monotonic()
        if left <= 0.0 and ranks.lock.acquire(blocking=False):  # else they work right now
            try:
                if ranks.last_asked + seconds <= time.monotonic():
                    ranks.close(f"it was not used for {seconds:g} s (idle_timeout={seconds:g})")
                    return
            finally:
                ranks.lock.release()
        left = max(0.05, left)
        del ranks  # so that the pipeline can be collected when nothing else refers to it

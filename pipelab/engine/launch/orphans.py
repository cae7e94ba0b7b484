"""What a process has started and left behind comes to the fork server, which ends it (Linux).

A process that began a new session, as a daemon does, is in no group that could be ended with the
process that started it. Nothing that was forked from the server may have children that outlive
it: so whatever is the server's child without having been forked by it is an orphan.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST = 5.0  # seconds until those that were killed have ended


def adopt() -> None:
    """From now on, this process is the parent of what its descendants leave behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(known: Container[int]) -> None:
    """Kill the children of this process that are not among the known ones.

    What they have started comes to this process with their end, which calls this again.
    """
    for pid in _children():
        if pid not in known:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end_all() -> None:
    """Kill all children of this process, and all that they leave behind."""
    until = time.monotonic() + _LONGEST
    while _children() and time.monotonic() < until:
        end(known=())
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(0.005)


def _children() -> list[int]:
    """Their numbers; none where the system does not list them."""
    found: list[int] = []
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended, or the system has no such list
            found += map(int, (thread / "children").read_text().split())
    return found

"""The process that ranks are forked from: Python's own fork server, with torch loaded already.

Its first start takes seconds, so it is started before this process loads torch itself. It and its
ranks must ignore the terminal's Ctrl-C and the notebook's Stop, which reach the whole process
group: only their pipeline stops ranks.
"""

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.protocol.host import under_torchrun
from pipelab.errors import LaunchError

CONTEXT = multiprocessing.get_context("forkserver")
_PR_SET_PDEATHSIG = 1
_SOCKETS = "PIPELAB_SOCKETS"  # environment of the server: the folder with its parent's sockets
_up: set[int] = set()  # servers that have answered


def is_inside() -> bool:
    """Whether this process is the fork server, or a rank that was forked from it."""
    return any("multiprocessing.forkserver" in argument for argument in sys.orig_argv)


def start() -> None:
    """Start the server, if it does not run; returns at once. Under torchrun none is needed.

    Raises:
        LaunchError: it cannot be started.
    """
    # The server and its ranks import this module too: they must not start another server.
    if is_inside() or under_torchrun():
        return
    CONTEXT.set_forkserver_preload(["pipelab.engine.launch.preload"])
    with Uninterrupted():
        resource_tracker.ensure_running()  # its start unblocks signals, so it comes first
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ[_SOCKETS] = util.get_temp_dir()
        try:
            forkserver.ensure_running()  # inherits the blocked signal; ``preload`` ignores it
        except OSError as error:
            raise LaunchError(_no_server(error)) from None
        finally:
            os.environ.pop(_SOCKETS, None)  # another thread may have started one, too
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _no_server(error: OSError) -> str:
    what = f"the process that ranks are forked from did not start ({error})"
    folder = tempfile.gettempdir()
    if error.errno is None:  # not from the system: Python found the socket's path too long
        return f"{what}: set TMPDIR to a shorter path than {folder}, and start again"
    return f"{what}: is there room, and permission to write, in {folder}?"


def refuse_within_ranks() -> None:
    """Raise LaunchError in a rank, which cannot start ranks itself."""
    if is_inside():
        raise LaunchError(
            "a rank was about to open another pipeline. It imported this module, since a "
            "layer or a loss that it received is defined here; and what is at the top of a module "
            'runs with each import. Put it behind `if __name__ == "__main__":`'
        )


def wait_until_up() -> None:
    """Block until the server has loaded what it preloads; only the first call takes time.

    A Ctrl-C can interrupt these seconds; it cannot interrupt the milliseconds of a rank's start.
    """
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid in _up:
        return
    first = CONTEXT.Process(target=int, name="pipelab rank: is the server up?", daemon=True)
    failures: list[Exception] = []
    starter = threading.Thread(  # Ctrl-C interrupts the main thread only
        target=_quietly, args=(first.start, failures), daemon=True
    )
    starter.start()
    while starter.is_alive():
        starter.join(0.1)
    if failures:
        raise ended(failures[0])
    first.join()
    first.close()
    _up.add(pid)


def ended(error: Exception) -> LaunchError:
    """What to raise when the server ended while a rank was to be started."""
    return LaunchError(
        f"the process that ranks are forked from has ended ({error!r}). Was it killed, or is "
        f"memory short? Try once more: the next launch starts another"
    )


def _quietly(start: Callable[[], object], failures: list[Exception]) -> None:
    """A server killed by our own Ctrl-C must not make its starter print a traceback."""
    try:
        start()
    except Exception as error:
        failures.append(error)


def prefix(pid: int) -> str:
    """How the names of a process's private folders begin."""
    return f"pipelab-{pid}-"


def remove_leftovers(pid: int) -> None:
    """Remove the folders of a process that was killed."""
    left = [*Path(tempfile.gettempdir()).glob(prefix(pid) + "*")]
    if _SOCKETS in os.environ and _is_orphan(pid):
        left.append(Path(os.environ[_SOCKETS]))  # Python removes it if the process can still act
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(pid: int) -> bool:
    """Whether the parent has died: its files close a moment before its children get another."""
    until = time.monotonic() + 0.1
    while os.getppid() == pid and time.monotonic() < until:
        time.sleep(0.005)
    return os.getppid() != pid


def end_with_server() -> None:
    """Make the system kill this rank when the fork server ends, which ends with the parent.

    A rank that is stopped, or in a loop in C, cannot notice the parent's death by itself. Only
    Linux offers this. The server ends only once no rank holds the pipe that keeps it alive, which
    Python lets ranks inherit: a rank that is stopped before this line keeps both.
    """
    server = forkserver._forkserver
    alive: int | None = getattr(server, "_forkserver_alive_fd", None)  # private: may disappear
    if alive is not None:
        os.close(alive)
        setattr(server, "_forkserver_alive_fd", None)  # noqa: B010 - mypy does not know it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

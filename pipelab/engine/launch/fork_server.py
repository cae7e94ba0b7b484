"""The process that ranks are forked from: Python's own fork server, with torch loaded already.

Its first start takes seconds, so it is started before this process loads torch itself. It and its
ranks must not hear the terminal's Ctrl-C or the notebook's Stop, which reach the whole process
group: ranks are stopped by their pipeline alone.
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
    """Start the server, if it does not run; returns at once. Ranks of torchrun's need none.

    Raises:
        LaunchError: it cannot be started.
    """
    # The server and its ranks import this module too: they must not start servers of their own.
    if is_inside() or under_torchrun():
        return
    CONTEXT.set_forkserver_preload(["pipelab.engine.launch.preload"])
    with Uninterrupted():
        resource_tracker.ensure_running()  # its start lets held signals through: so it goes first
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ[_SOCKETS] = util.get_temp_dir()
        try:
            forkserver.ensure_running()  # inherits the held signal; ``preload`` ignores it for good
        except OSError as error:
            raise LaunchError(_no_server(error)) from None
        finally:
            os.environ.pop(_SOCKETS, None)  # another thread may have started one, too
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _no_server(error: OSError) -> str:
    said = f"the process that ranks are forked from did not start ({error})"
    if "too long" in str(error):  # a socket's path has about 100 characters
        return f"{said}: set TMPDIR to a shorter path than {tempfile.gettempdir()}, and start again"
    return f"{said}: is there room, and leave to write, in {tempfile.gettempdir()}?"


def refuse_within_ranks() -> None:
    """Raise LaunchError in a rank: it cannot have ranks of its own, and nobody means it to."""
    if is_inside():
        raise LaunchError(
            "a rank was about to open a pipeline of its own. It imported this module, since a "
            "layer or a loss that it was sent is defined here; and what a module does at its top, "
            'each import does again. Put it behind `if __name__ == "__main__":`'
        )


def wait_until_up() -> None:
    """Block until the server has loaded what it preloads; at once but for the first time.

    These seconds are open to a Ctrl-C; to start a rank then takes milliseconds, which are not.
    """
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid in _up:
        return
    first = CONTEXT.Process(target=int, name="pipelab rank: is the server up?", daemon=True)
    failures: list[Exception] = []
    starter = threading.Thread(  # hears of no Ctrl-C
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
    """What to raise when the server did not answer a launch with a process."""
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
    """How the private folders of a process's pipelines begin."""
    return f"pipelab-{pid}-"


def sweep(pid: int) -> None:
    """Remove the folders that a process which was killed has left."""
    left = [*Path(tempfile.gettempdir()).glob(prefix(pid) + "*")]
    if _SOCKETS in os.environ and _is_orphan(pid):
        left.append(Path(os.environ[_SOCKETS]))  # Python removes it if the process can still act
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(pid: int) -> bool:
    """Whether the parent has died: its files are closed a moment before its children are told."""
    until = time.monotonic() + 0.1
    while os.getppid() == pid and time.monotonic() < until:
        time.sleep(0.005)
    return os.getppid() != pid


def end_with_server() -> None:
    """Let the system kill this rank when the fork server ends, as it does with the parent.

    A rank that is stopped, or in a loop in C, cannot see the parent's death by itself. Linux alone
    offers this. The server ends only once no rank holds its own lifeline, as Python lets them do:
    a rank that is stopped before it comes to this line, a few milliseconds old, keeps both.
    """
    server = forkserver._forkserver
    line: int | None = getattr(server, "_forkserver_alive_fd", None)  # private: may go
    if line is not None:
        os.close(line)
        setattr(server, "_forkserver_alive_fd", None)  # noqa: B010 - mypy does not know it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

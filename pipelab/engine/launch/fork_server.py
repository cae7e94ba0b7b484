"""The process that ranks are forked from, since it has torch loaded already.

Its first start takes seconds, so it is started before this process loads torch itself. One socket
connects the two, and no path leads to it. When this process ends, whatever ends it, the server
reads the socket's end, and all that was forked from it ends too.

    this process                           the server (server_process.py)
    ------------                           ------------------------------
    begin            ── a new process ──▶  load torch
    fork             ◀── one byte ───────  loaded
                     ── pipes ──────────▶  fork; the child reads what it has to run
    Child.pid        ◀── its number ─────
    Child.has_ended  ◀── its exit code ──  the child has ended
                                           end, after a minute without children

Python's own fork server serves the script's own processes, too: they would ignore Ctrl-C as ranks
do. And no daemonic process, such as a pool's worker, could start a rank by it.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait

from pipelab.engine.launch import server_process
from pipelab.engine.launch.child import Call, Child, packed
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.leftovers import remove_stale
from pipelab.engine.launch.refused import refused
from pipelab.engine.launch.server_process import is_inside
from pipelab.engine.protocol.forks import forget_in_children
from pipelab.engine.protocol.host import under_torchrun
from pipelab.errors import LaunchError

_WHAT = "the process that ranks are forked from"


class _Server:
    """One such process, as its parent knows it."""

    def __init__(self) -> None:
        self._is_up = False
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self.pid = _spawn(theirs.fileno())
            except BaseException:
                self._socket.close()
                raise

    def has_ended(self) -> bool:
        """Whether its process is gone."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # the script has waited for it
            return True

    def wait_until_up(self) -> None:
        """Block until it has loaded torch. Raises EOFError if it ends before."""
        with self._lock:
            while not self._is_up:
                if wait([self._socket], 1.0):
                    # only a look: a Ctrl-C after the read would lose the byte
                    self._is_up = self._socket.recv(1, socket.MSG_PEEK) != b""
                    if not self._is_up:
                        raise EOFError("while it loaded torch")

    def fork(self, name: str, call: Call) -> Child:
        """A new process."""
        message, files = packed(name, call)
        with ExitStack() as opened:
            request, ours = map(opened.enter_context, Pipe(duplex=False))
            status, theirs = map(opened.enter_context, Pipe(duplex=False))
            files = [request.fileno(), theirs.fileno(), *files]
            with self._lock:
                socket.send_fds(self._socket, [b"f"], files)
            request.close()
            theirs.close()
            with suppress(BrokenPipeError):  # there is no child: the status says why
                ours.send_bytes(message)
            ours.close()
            child = Child(status)
            opened.pop_all()
            return child

    def end(self) -> None:
        """Kill it, and with it what was forked from it."""
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._socket.close()

    def close(self) -> None:
        """Close the socket; the process ends unless another one holds it, too."""
        self._socket.close()


class _Home:
    """The server of this process: none, or one."""

    def __init__(self) -> None:
        self.server: _Server | None = None
        self.lock = threading.Lock()

    def forget(self) -> None:
        """In a forked child: the server is its parent's."""
        self.lock = threading.Lock()  # another thread of the parent may hold the one of before
        if self.server is not None:
            self.server.close()
            self.server = None


_home = _Home()
forget_in_children(_home)


def _spawn(control: int) -> int:
    """Start the process; its number.

    It is the first of a group: a Ctrl-C, or a kill of this process's whole group, is not meant for
    it. SIGINT is blocked until it can be ignored, since a notebook's Stop goes to all children.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = f"import sys; sys.path[:] = {[str(folder) for folder in sys.path]!a}"
    main = f"from {server_process.__name__} import main; main()"
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *flags, "-c", f"{path}; {main}", server_process.MARK, str(os.getpid())],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, control, server_process.SOCKET),
        ],
        setpgroup=0,
        setsigmask=[signal.SIGINT],
    )


def begin() -> None:
    """What the import of the engine does first, before torch is loaded: start the server.

    A worker of Python's own gets one when it opens a pipeline: most of them open none.

    Raises:
        LaunchError: it cannot be started.
    """
    if is_inside():
        server_process.begin()
    elif not under_torchrun() and not _is_worker():
        _started()


def _is_worker() -> bool:
    """Whether this process was started by multiprocessing, however it starts processes."""
    is_new = any(word.startswith("from multiprocessing.") for word in sys.orig_argv)
    return is_new or parent_process() is not None


def _started() -> _Server:
    """The server, started if it does not run. Raises LaunchError."""
    with Uninterrupted(), _home.lock:
        if _home.server is not None and _home.server.has_ended():
            _home.server.close()
            _home.server = None
        if _home.server is None:
            with suppress(OSError):
                remove_stale()
            try:
                _home.server = _Server()
            except OSError as error:
                raise refused(f"{_WHAT} did not start", error) from None
        return _home.server


def wait_until_up() -> None:
    """Start the server if it does not run, and block until it is up: for seconds, once.

    A Ctrl-C can interrupt these seconds; it cannot interrupt the milliseconds of ``fork``.

    Raises:
        LaunchError: it cannot be started, or has ended.
    """
    try:
        _started().wait_until_up()
    except (EOFError, ConnectionError) as error:
        raise _ended(error) from None


def fork(name: str, target: Callable[..., object], *arguments: object) -> Child:
    """A new process that calls ``target``, a function of a module.

    ``arguments`` are pickled; a Connection among them is open in both processes then.

    Raises:
        LaunchError: the server has ended, or the system starts no more processes.
    """
    try:
        return _fork(name, (target, arguments))
    except ConnectionError:  # nothing was asked: the server has ended just now, since it was idle
        try:
            return _fork(name, (target, arguments))
        except ConnectionError as error:
            raise _ended(error) from error


def _fork(name: str, call: Call) -> Child:
    """The same once. Raises ConnectionError if the server takes no more requests."""
    wait_until_up()
    with Uninterrupted():
        server = _started()
        try:
            return server.fork(name, call)
        except EOFError as error:
            raise _ended(error) from error
        except ConnectionError:
            server.end()
            raise
        except OSError as error:
            raise refused(f"the process {name!r} did not start", error) from None


def pipe() -> tuple[Connection, Connection]:
    """Two ends, ours and that of a process to come. Raises LaunchError."""
    try:
        return Pipe()
    except OSError as error:
        raise refused("no process was started", error) from None


def _ended(error: Exception) -> LaunchError:
    return LaunchError(
        f"{_WHAT} has ended ({error!r}). Was it killed, or is memory short? Try once more: the "
        f"next launch starts another"
    )


def refuse_within_ranks() -> None:
    """Raise LaunchError in a rank, which cannot start ranks itself."""
    if is_inside():
        raise LaunchError(
            "a rank was about to open another pipeline. It imported this module, since a "
            "layer or a loss that it received is defined here; and what is at the top of a module "
            'runs with each import. Put it behind `if __name__ == "__main__":`'
        )


def is_up() -> bool:
    """Whether the server runs."""
    return _home.server is not None and not _home.server.has_ended()


def resume() -> None:
    """Let the server continue if it was stopped: what is forked from it can send it a SIGSTOP."""
    if (number := pid()) is not None and is_up():
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGCONT)


def pid() -> int | None:
    """The server's number, if one was started."""
    return None if _home.server is None else _home.server.pid


@atexit.register
def end() -> None:
    """Kill the server, if it runs: left alone it would end once it has loaded torch."""
    if _home.server is not None:
        _home.server.end()
        _home.server = None

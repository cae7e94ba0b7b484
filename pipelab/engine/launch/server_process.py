"""What runs in the fork server: load torch, then fork a process for each request.

It ends with its parent, also in the seconds in which it loads torch: Python cannot notice the
parent's end while a library is loaded, so a small process, the guard, waits for it meanwhile.
"""

import ctypes
import errno
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NoReturn

from pipelab.engine.launch import orphans
from pipelab.engine.launch.child import unpacked
from pipelab.engine.launch.leftovers import remove_of_dead

MARK = "pipelab-forkserver"  # in its command line, before its parent's number
SOCKET = 3  # the number of its socket
_PR_SET_PDEATHSIG = 1
_IDLE = 60.0  # seconds without a child, after which the server ends; PIPELAB_IDLE says otherwise
_MOST_FILES = 250  # that one message may carry (Linux)


def is_inside() -> bool:
    """Whether this process is the fork server, or was forked from it."""
    return MARK in sys.orig_argv


class _Guard:
    """A process that ends the server if its parent ends while the server loads torch."""

    def __init__(self) -> None:
        server = os.getpid()
        ends_with_server, self._loading = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._loading)
            poll = select.poll()
            poll.register(ends_with_server, 0)  # 0: only that the other end was closed,
            poll.register(SOCKET, 0)  # not that a request is there
            if SOCKET in dict(poll.poll()):
                os.kill(server, signal.SIGKILL)
                remove_of_dead(_parent())
            os._exit(0)
        os.close(ends_with_server)

    def end(self) -> None:
        """The server has loaded torch."""
        os.close(self._loading)
        os.waitpid(self._pid, 0)


_guards: list[_Guard] = []


def _parent() -> int:
    return int(sys.orig_argv[-1])


def begin() -> None:
    """Before torch is loaded: no interrupt, no files of the parent's, no word if torch is broken.

    The parent, which loads it too, says what is wrong with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only their pipeline stops ranks
    # The parent's end leaves a group without a parent: if a rank of it is stopped just then, the
    # system sends all of them a SIGHUP, and the server has yet to remove the parent's folders.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.closerange(SOCKET + 1, max(map(int, os.listdir("/dev/fd"))) + 1)
    sys.excepthook = _be_silent
    _guards.append(_Guard())
    gc.disable()  # it would look at 300,000 objects again and again, and find a hundred to free


def _be_silent(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    pass


def main() -> NoReturn:
    """Be the server."""
    import pipelab.engine.launch.preload  # noqa: F401 - all that a rank needs
    from pipelab.engine.protocol import process_settings

    process_settings.remember()
    gc.freeze()  # a look at these objects in each rank would copy the memory that ranks share
    gc.enable()
    sys.excepthook = sys.__excepthook__
    _guards.pop().end()
    control = socket.socket(fileno=SOCKET)
    with suppress(OSError):  # the parent has ended: the next read shows it
        control.send(b"u")
    orphans.adopt()
    if not _serve(control):
        orphans.end_all()
        remove_of_dead(_parent())
    os._exit(0)  # to unload torch piece by piece would take a second


def _serve(control: socket.socket) -> bool:
    """Fork a process for each request, and report how it ends, until the parent has gone.

    Or until it had nothing to do for some time, and this is True: a learner who reads needs
    no server, and thirty of them share a machine. The next launch starts another one.
    """
    children: dict[int, Connection] = {}  # by their numbers: where to report their end
    idle = _idle_seconds()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([SOCKET, woken], [], [], None if children else idle)
        if not ready:
            _refuse_more(control)
            return True
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(children)
        if SOCKET in ready:
            files = _receive_files(control)
            if not files:
                return False
            _fork(files, children, [SOCKET, woken, wake])


def _idle_seconds() -> float:
    with suppress(KeyError, ValueError):
        return float(os.environ["PIPELAB_IDLE"])
    return _IDLE


def _refuse_more(control: socket.socket) -> None:
    """The parent cannot send from now on; what it has sent just now was for another server."""
    control.shutdown(socket.SHUT_RD)
    while files := _receive_files(control):
        with suppress(OSError):
            Connection(files[1], readable=False).send(-errno.ECONNRESET)


def _receive_files(control: socket.socket) -> list[int]:
    """The files of one request; none if the parent has gone."""
    try:
        _, files, _, _ = socket.recv_fds(control, 1, _MOST_FILES)
    except ConnectionError:
        return []
    return files


def _fork(files: list[int], children: dict[int, Connection], private: list[int]) -> None:
    """Fork one process, and report its number; a negative one is an error of the system's."""
    request, status, *rest = files
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or 1)
    if pid == 0:
        for file in [status, *private, *(other.fileno() for other in children.values())]:
            os.close(file)
        _run(server, Connection(request, writable=False), rest)
    report = Connection(status, readable=False)
    with suppress(OSError):  # the parent no longer wants to know
        report.send(pid)
    for file in [request, *rest]:
        os.close(file)
    if pid > 0:
        children[pid] = report


def _report_ended(children: dict[int, Connection]) -> None:
    """Report the children that have ended, and end what they have left behind."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            pid, status = ended
            if report := children.pop(pid, None):  # no orphan
                with report, suppress(OSError):
                    report.send(os.waitstatus_to_exitcode(status))
    orphans.end(children)


def _run(server: int, request: Connection, files: list[int]) -> NoReturn:
    """In the new process: read what to run, and run it."""
    code = 1
    try:
        _end_with(server)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with request:
            target, arguments = unpacked(request.recv_bytes(), files)
        target(*arguments)
        code = 0
    except EOFError:  # the parent ended before it had said what to run
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _end_with(server: int) -> None:
    """End this process when the server ends, which ends with the parent.

    One that is stopped, or in a loop in C, cannot notice the parent's end by itself: on Linux the
    system kills it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
    else:
        threading.Thread(target=_end_after, args=(server,), daemon=True).start()


def _end_after(server: int) -> None:
    while os.getppid() == server:
        time.sleep(0.2)
    os._exit(1)

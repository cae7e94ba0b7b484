"""A process that was forked from the fork server: what it has to run, and how it ended."""

import io
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import current_process
from multiprocessing.connection import Connection
from typing import Any

from pipelab.engine.protocol.open_file import OpenFile

_ANSWER_TIME = 30.0  # seconds for the server to fork, on a busy machine

Call = tuple[Callable[..., object], tuple[object, ...]]


class Child:
    """One such process, as its parent knows it.

    Args:
        status: where the server writes the process's number, and later its exit code.

    Attributes:
        pid: its number.
        exit_code: minus the signal if one killed it; None while it runs.

    Raises:
        OSError: the system could not fork.
        EOFError: the server has ended, or gives no answer.
    """

    def __init__(self, status: Connection):
        self._status = status
        self.exit_code: int | None = None
        if not status.poll(_ANSWER_TIME):
            raise EOFError(f"no answer for {_ANSWER_TIME:g} s")
        self.pid: int = status.recv()
        if self.pid < 0:
            raise OSError(-self.pid, os.strerror(-self.pid))

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it ends within so many seconds."""
        if self.exit_code is None and self._status.poll(seconds):
            try:
                self.exit_code = self._status.recv()
            except (EOFError, OSError):  # the server was killed, and its children with it
                self.exit_code = -signal.SIGKILL
        return self.exit_code is not None

    def kill(self) -> None:
        """End it, whatever it does."""
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the connection through which its end is reported."""
        self._status.close()


class _Pickler(pickle.Pickler):
    """pickle, with connections and files as places among those that are sent beside the bytes."""

    def __init__(self, buffer: io.BytesIO):
        super().__init__(buffer, protocol=5)
        self.files: list[int] = []

    def persistent_id(self, obj: Any) -> tuple[int, tuple[bool, bool] | None] | None:
        if not isinstance(obj, Connection | OpenFile):
            return None
        self.files.append(obj if isinstance(obj, OpenFile) else obj.fileno())
        ways = None if isinstance(obj, OpenFile) else (obj.readable, obj.writable)
        return len(self.files) - 1, ways


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, files: Sequence[int]):
        super().__init__(buffer)
        self.files = files

    def persistent_load(self, pid: Any) -> Connection | OpenFile:
        place, ways = pid
        if ways is None:
            return OpenFile(self.files[place])
        readable, writable = ways
        return Connection(self.files[place], readable=readable, writable=writable)


def packed(name: str, call: Call) -> tuple[bytes, list[int]]:
    """What a new process is to run, as bytes, and the files that it needs."""
    folder = None
    with suppress(FileNotFoundError):  # it was removed
        folder = os.getcwd()
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump((name, folder, sys.argv, sys.path))
    pickler.dump(call)
    return buffer.getvalue(), pickler.files


def unpacked(message: bytes, files: Sequence[int]) -> Call:
    """In the new process: find modules and files where the parent does; return what to call."""
    unpickler = _Unpickler(io.BytesIO(message), files)
    name, folder, sys.argv, sys.path[:] = unpickler.load()
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)
    current_process().name = name
    current_process().daemon = True  # it may have no children: nobody would end them
    call: Call = unpickler.load()
    return call

"""The connections of this rank, kept so that they can be closed.

A process that failed continues with its script. Its neighbours would wait for its messages until
their deadline; once the connections are closed they notice at once, as if the process had ended.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Sockets:
    """Second handles of sockets that libraries opened."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep what is connected within the block, not what listens: gloo aborts without that."""
        before = _open_sockets()
        yield
        for number in _open_sockets() - before:
            if (handle := _second_handle(number)) is not None:
                self._sockets.append(handle)

    def close(self) -> None:
        """Close the connections, whoever still uses them. May be called twice."""
        while self._sockets:
            handle = self._sockets.pop()
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()


def _second_handle(number: int) -> socket.socket | None:
    """A second handle of a connected socket: its number may be used for another one later."""
    try:
        handle = socket.socket(fileno=os.dup(number))
    except OSError:  # another thread had opened it, and closed it again
        return None
    try:
        handle.getpeername()
    except OSError:
        handle.close()
        return None
    return handle


def _open_sockets() -> set[int]:
    return {number for name in os.listdir("/dev/fd") if _is_socket(number := int(name))}


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # the handle with which the folder was listed
        return False

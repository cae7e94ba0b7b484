"""The connections of this rank, kept so that they can be cut.

A process that failed lives on with its script. Its neighbours would wait for its messages until
their deadline; once the connections are cut they know at once, as if the process had ended.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wires:
    """Second handles of sockets that libraries opened."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep what is connected within the block. Not what listens: gloo aborts on its end."""
        before = _open_sockets()
        yield
        for number in _open_sockets() - before:
            if (wire := _second_handle(number)) is not None:
                self._sockets.append(wire)

    def cut(self) -> None:
        """End the connections, whoever still uses them. May be called twice."""
        while self._sockets:
            wire = self._sockets.pop()
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()


def _second_handle(number: int) -> socket.socket | None:
    """A handle of a connected socket, even if the number comes to mean another one."""
    try:
        wire = socket.socket(fileno=os.dup(number))
    except OSError:  # another thread's, and gone again
        return None
    try:
        wire.getpeername()
    except OSError:
        wire.close()
        return None
    return wire


def _open_sockets() -> set[int]:
    return {number for name in os.listdir("/dev/fd") if _is_socket(number := int(name))}


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # the handle that listed the folder
        return False

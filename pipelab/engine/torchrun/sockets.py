"""The connections of this rank, kept so that they can be closed.

A process that failed continues with its script. Its neighbours would wait for its messages until
their deadline; once the connections are closed they notice at once, as if the process had ended.

The script's own threads may open connections at any time. Those between ranks are known by one of
their ends: the address at which a rank's gloo listens.
"""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

Address = tuple[object, ...]


class Sockets:
    """Second handles of sockets that gloo opened."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def collect(self, addresses: Collection[Address]) -> None:
        """Keep what is connected with one of these addresses, at either end.

        Not what listens: gloo aborts without that.
        """
        for handle in _open_sockets():
            with suppress(OSError):  # it is not connected
                if {_own(handle), _address(handle.getpeername())} & {*addresses}:
                    self._sockets.append(handle)
                    continue
            handle.close()

    def close(self) -> None:
        """Close the connections, whoever still uses them. May be called twice."""
        while self._sockets:
            handle = self._sockets.pop()
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()

    def forget(self) -> None:
        """In a forked child: close the handles alone, since the connections are its parent's."""
        while self._sockets:
            self._sockets.pop().close()


@contextmanager
def listening() -> Iterator[list[Address]]:
    """The addresses at which this process begins to listen within the block, once it has ended.

    Keep it short: what another thread opens in it counts, too.
    """
    found: list[Address] = []
    before = _listening()
    yield found
    found.extend(_listening() - before)


def _listening() -> set[Address]:
    found = set()
    for handle in _open_sockets():
        with handle, suppress(OSError):  # one of a kind that never listens
            if handle.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(_own(handle))
    return found


def _own(handle: socket.socket) -> Address:
    return _address(handle.getsockname())


def _address(name: object) -> Address:
    """Host and port; a socket without these has a name, or none."""
    return tuple(name[:2]) if isinstance(name, tuple) else (name,)


def _open_sockets() -> list[socket.socket]:
    """Second handles of all sockets: the number of one may be used for another one later."""
    found = []
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # no socket, or closed since by another thread
            number = os.dup(int(name))
            try:
                found.append(socket.socket(fileno=number))
            except OSError:
                os.close(number)
    return found

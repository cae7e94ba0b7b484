"""Give ranks their next commands while they still work on earlier ones.

A rank reads a command only between two steps, and a large batch does not fit into a pipe. A driver
that waited until it had written all of it would read no answers meanwhile; a rank whose answer does
not fit either would wait for the driver, and its neighbours for that rank. So the driver reads the
answers that come while it writes.
"""

import select
import socket
import struct
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from os import dup

_LENGTH = struct.Struct("!i")  # in front of a message, as Connection has it (Lib/multiprocessing)
_LONG = struct.Struct("!iQ")  # of 2 GB and more
_MOST = 0x7FFFFFFF


def deliver(
    message: bytes,
    writer: socket.socket,
    pipes: Sequence[Connection],
    read: Callable[[int], bool],
    seconds_left: Callable[[], float],
) -> bool:
    """Write a message to one rank, and read what comes from all of them meanwhile.

    A message for a rank that has ended is dropped: the rank's answer, which does not come, names
    it.

    Args:
        writer: the writing end of its pipe.
        read: called with the place of a pipe that has an answer; says whether more may come there.
        seconds_left: of the time that this may take.

    Returns:
        Whether all was written in time.
    """
    left = _write(writer, memoryview(_framed(message)))
    if not left:  # as nearly always
        return True
    places = {pipe.fileno(): place for place, pipe in enumerate(pipes)}
    poll = select.poll()
    for file in places:
        poll.register(file, select.POLLIN)
    poll.register(writer, select.POLLOUT)
    while left and (seconds := seconds_left()) > 0.0:
        for file, _ in poll.poll(min(1.0, seconds) * 1e3):
            if file == writer.fileno():
                left = _write(writer, left)
            elif not read(places[file]):
                poll.unregister(file)
    return not left


def writer_of(pipe: Connection) -> socket.socket:
    """The same end of a pipe, to write into as much as there is room for. To be closed."""
    return socket.socket(fileno=dup(pipe.fileno()))


def _framed(message: bytes) -> bytes:
    if len(message) > _MOST:
        return _LONG.pack(-1, len(message)) + message
    return _LENGTH.pack(len(message)) + message


def _write(writer: socket.socket, message: memoryview) -> memoryview:
    """Write what there is room for; returns the rest, nothing if nobody will read it."""
    try:
        return message[writer.send(message, socket.MSG_DONTWAIT) :]
    except BlockingIOError:
        return message
    except OSError:
        return message[:0]

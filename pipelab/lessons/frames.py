"""Messages on a stream of bytes, cut where they end: each has its length before it."""

import struct
from collections.abc import Iterator

MOST_BYTES = 8_000_000  # of one message
_LENGTH = struct.Struct("!Q")


def framed(message: bytes) -> bytes:
    """The message as it is sent."""
    return _LENGTH.pack(len(message)) + message


class Frames:
    """The receiving end, which never waits: give it bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now. Raises ValueError for one that is too long.

        >>> frames = Frames()
        >>> sent = framed(b"one") + framed(b"two")
        >>> [*frames.add(sent[:9])], [*frames.add(sent[9:])]
        ([], [b'one', b'two'])
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MOST_BYTES:
                raise ValueError(f"a message of {length:,} bytes; at most {MOST_BYTES:,} are read")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            yield bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]

"""Memory that the ranks of one machine share: rings of bytes, bells, and lifelines.

    ring       one for each channel, from one rank to another: a stream of bytes. Its writer copies
               a message in, its reader copies it out; neither asks the system for anything.
    bell       one for each rank, which sleeps on it until another one has something for it.
    lifeline   one for each rank: a pipe whose writing end that rank alone holds, so that all others
               see at once that it has ended.

All are files without a name, made by the parent before the ranks start and handed to each of them:
nothing is left behind, however the processes end. A ring takes up only the memory that has been
written: an empty one begins at its start again, so that is as much as was ever in flight.
"""

import ctypes
import mmap
import os
import platform
import select
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from pipelab.engine.protocol.device import MAX_SHARING
from pipelab.engine.protocol.open_file import OpenFile

RING_BYTES = 1 << 25
_COUNTERS = mmap.ALLOCATIONGRANULARITY  # bytes in front of a ring; a mapping can begin there
_SPACE = _COUNTERS + RING_BYTES

# Counters of a ring, as places of 8 bytes: those of its writer, then, apart, those of its reader.
# They count bytes, or receives, since the pipeline began, but for _START and whether an end sleeps.
_WRITTEN, _START, WRITER = 0, 1, 2
_READ, _OPENED, READER = 16, 17, 18

_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd adds up; in a pipe, a few bytes


class Shared(NamedTuple):
    """What one rank shares with the others: open files of its process.

    Attributes:
        memory: all rings.
        bells: of each rank, the reading and the writing end; of an eventfd they are one.
        lifelines: of each rank, the reading end.
        own_lifeline: the writing end of this rank's.
    """

    memory: OpenFile
    bells: Sequence[tuple[OpenFile, OpenFile]]
    lifelines: Sequence[OpenFile]
    own_lifeline: OpenFile


class SharedFiles:
    """What the parent makes for the ranks of one pipeline: open until ``close``.

    Once they have theirs the parent must hold no end of a lifeline.

    Raises:
        OSError: no more files can be opened.
    """

    def __init__(self, num_ranks: int):
        self._opened: list[OpenFile] = []
        self._shared: list[Shared] = []
        if num_ranks > MAX_SHARING:
            return
        try:
            memory = self._keep(_nameless_file(num_ranks**2 * _SPACE))
            bells = [self._bell() for _ in range(num_ranks)]
            reading, writing = zip(*(self._pipe() for _ in range(num_ranks)), strict=True)
        except BaseException:
            self.close()
            raise
        self._shared = [Shared(memory, bells, reading, end) for end in writing]

    def of_rank(self, rank: int) -> Shared | None:
        """An argument of the rank's process; None if there are too many ranks."""
        return self._shared[rank] if self._shared else None

    def close(self) -> None:
        """Close the parent's. May be called twice."""
        while self._opened:
            os.close(self._opened.pop())

    def _keep(self, file: int) -> OpenFile:
        self._opened.append(OpenFile(file))
        return self._opened[-1]

    def _pipe(self) -> tuple[OpenFile, OpenFile]:
        read, write = os.pipe()
        return self._keep(read), self._keep(write)

    def _bell(self) -> tuple[OpenFile, OpenFile]:
        if hasattr(os, "eventfd"):
            file = self._keep(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            return file, file
        read, write = self._pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        return read, write


def _nameless_file(size: int) -> int:
    """A file of zeros that takes no room until it is written."""
    if hasattr(os, "memfd_create"):  # memory, however small /dev/shm is
        file = os.memfd_create("pipelab")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file


class Ring:
    """One end of a channel: a stream of bytes from one rank to another.

    Args:
        file: the memory of all rings.
        place: of this one among them.
    """

    def __init__(self, file: int, place: int):
        self._memory = mmap.mmap(file, _SPACE, offset=place * _SPACE)
        self._counters = memoryview(self._memory)[:_COUNTERS].cast("Q")
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._bytes = self._base + _COUNTERS
        self._at = 0  # of this end, in bytes since the pipeline began
        self.sent = 0  # messages

    def begin(self, head: bytes, size: int) -> int:
        """Copy in a head. Returns the address for the rest of the message, ``size`` in all.

        0, and nothing is copied, if there is no room for all of it in one piece.
        """
        at, counters = self._at, self._counters
        if (read := counters[_READ]) == at:  # empty: use the same memory again
            counters[_START] = at
        place = (at - counters[_START]) % RING_BYTES
        if at + size - read > RING_BYTES or place + size > RING_BYTES:
            return 0
        self._at = at + size
        end = place + _COUNTERS + len(head)
        self._memory[place + _COUNTERS : end] = head
        return self._base + end

    def begins(self, head: bytes, size: int) -> int:
        """Whether a message with this head comes next, ``size`` in all, and in one piece.

        Then it is taken out: returns the address of what follows the head. Else 0.
        """
        at, counters = self._at, self._counters
        if counters[_WRITTEN] - at < size:
            return 0
        if not _KEEPS_ORDER:
            _fence()
        place = (at - counters[_START]) % RING_BYTES
        end = place + _COUNTERS + len(head)
        if place + size > RING_BYTES or self._memory[place + _COUNTERS : end] != head:
            return 0
        self._at = at + size
        return self._base + end

    def write(self, source: int, size: int) -> int:
        """Copy from an address as many bytes as there is room for; returns how many."""
        size = min(size, self.room)
        place, first = self._next(size)
        memmove(self._bytes + place, source, first)
        if first < size:
            memmove(self._bytes, source + first, size - first)
        return size

    def write_head(self, head: bytes) -> None:
        """Copy in all of what there is ``room`` for."""
        place, first = self._next(len(head))
        self._memory[_COUNTERS + place : _COUNTERS + place + first] = head[:first]
        if first < len(head):
            self._memory[_COUNTERS : _COUNTERS + len(head) - first] = head[first:]

    @property
    def room(self) -> int:
        """Bytes that can be written now."""
        if (read := self._counters[_READ]) == self._at:  # empty: use the same memory again
            self._counters[_START] = read
        return RING_BYTES - (self._at - read)

    def publish(self) -> bool:
        """Let the reader see what was written. Returns whether it sleeps and must be woken up."""
        if not _KEEPS_ORDER:
            _fence()
        self._counters[_WRITTEN] = self._at
        _fence()
        return bool(self._counters[READER])

    def read(self, goal: int, size: int) -> int:
        """Copy as many bytes as are there to an address; returns how many."""
        size = min(size, self.num_there)
        place, first = self._next(size)
        memmove(goal, self._bytes + place, first)
        if first < size:
            memmove(goal + first, self._bytes, size - first)
        return size

    def read_head(self, size: int) -> bytes:
        """Take out so many bytes, which are there."""
        place, first = self._next(size)
        head = self._memory[_COUNTERS + place : _COUNTERS + place + first]
        if first < size:
            head += self._memory[_COUNTERS : _COUNTERS + size - first]
        return head

    @property
    def num_there(self) -> int:
        """Bytes that can be read now."""
        written = self._counters[_WRITTEN]
        if not _KEEPS_ORDER:
            _fence()
        return written - self._at

    def free(self) -> bool:
        """Let the writer have the room of what was read. Returns whether it must be woken up."""
        if not _KEEPS_ORDER:
            _fence()
        self._counters[_READ] = self._at
        _fence()
        return bool(self._counters[WRITER])

    def _next(self, size: int) -> tuple[int, int]:
        """This end's place in the ring, which moves on, and how many of the bytes fit behind it."""
        place = (self._at - self._counters[_START]) % RING_BYTES
        self._at += size
        return place, min(size, RING_BYTES - place)

    def open_receive(self) -> bool:
        """The reader has opened a buffer for one more message. Returns as ``free``."""
        self._counters[_OPENED] += 1
        _fence()
        return bool(self._counters[WRITER])

    @property
    def opened(self) -> int:
        """For how many messages the reader has opened a buffer."""
        return self._counters[_OPENED]

    def sleep(self, end: int, asleep: bool) -> None:
        """This end, WRITER or READER, waits for the other, or no longer does."""
        self._counters[end] = asleep
        _fence()  # set before it looks at the other's counters for a last time


memmove = ctypes.memmove
_lock = threading.Lock()
_KEEPS_ORDER = platform.machine() in ("x86_64", "AMD64")  # of stores, and of loads


def _fence() -> None:
    """Keep the processor from moving loads and stores across: a lock's instructions do that.

    Twice, since on ARM a store may move into a locked region, and with one region out of it again.
    """
    with _lock:
        pass
    if not _KEEPS_ORDER:
        with _lock:
            pass


class Bell:
    """A rank's sleep: until another rank rings, or ends."""

    def __init__(self, rank: int, shared: Shared):
        self._bells = shared.bells
        self._own = shared.bells[rank][0]
        self._lifelines = {int(file): other for other, file in enumerate(shared.lifelines)}
        self.gone: set[int] = set()  # ranks that have ended
        self._poll = select.poll()
        self._poll.register(self._own, select.POLLIN)

    def expect(self, peers: set[int]) -> None:
        """Wake up, too, when one of these ranks ends."""
        for file, other in self._lifelines.items():
            if other in peers - self.gone:
                self._poll.register(file, 0)  # its end is reported unasked

    def ring(self, peer: int) -> None:
        """Wake a rank up, or keep it from its next sleep."""
        with suppress(BlockingIOError, BrokenPipeError):  # it has not yet seen that others rang
            os.write(self._bells[peer][1], _ONE)

    def sleep(self, seconds: float) -> None:
        """Until another rank rings or ends, but at most so long."""
        for file, _ in self._poll.poll(1e3 * max(0.0, seconds)):
            if file == self._own:
                with suppress(BlockingIOError):
                    os.read(file, 1 << 10)
            else:
                self._poll.unregister(file)
                self.gone.add(self._lifelines[file])

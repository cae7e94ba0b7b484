"""Where each rank is right now: a few bytes of shared memory that outlive a rank that hangs.

A rank that is stuck in a wait or in an endless loop cannot answer; these bytes show the parent what
it was doing. They are a file in the pipeline's private folder, mapped into memory by all.

Nothing stops a reader while a rank writes. So each rank has two places, and writes them in turn:
first the place, then the count, which says where the reader finds what is whole.
"""

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple

from pipelab.action import Action, Kind

_COUNT = struct.Struct("=q")  # how many actions so far; odd: what began last is in the second place
_WHAT = struct.Struct("=iiiiii")  # an action, a message and its peer
_SINCE = struct.Struct("=d")  # when the action began
_PLACE = struct.Struct(_WHAT.format + "d")  # both
_ENTRY = _COUNT.size + 2 * _PLACE.size  # bytes
_KINDS = list(Kind)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_NONE = -1
_NOTHING = _NONE, _NONE, _NONE
_pack_count, _pack_since = _COUNT.pack, _SINCE.pack


class Wanted(NamedTuple):
    """The message that a rank waits for: a SEND, and the rank at the other end of it."""

    message: Action
    peer: int


class Begun(NamedTuple):
    """What a rank began last.

    Attributes:
        number: how many actions it has begun in all, over all steps.
        action: the last of them; None before the first.
        since: when, on the clock of ``time.monotonic``, which all processes of a machine share.
        wanted: the message that it waits for, if that is what it does.
    """

    number: int = 0
    action: Action | None = None
    since: float = 0.0
    wanted: Wanted | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the rank can only continue when another one does something."""
        return self.wanted is not None or (
            self.action is not None and self.action.kind is Kind.WAIT
        )


class Progress:
    """One entry per rank: the action it began last, when, and how many it has begun."""

    def __init__(self, folder: Path, num_ranks: int):
        self._num_ranks = num_ranks
        path = folder / "progress"
        size = _ENTRY * num_ranks
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), size)
        self._count = 0
        self._counts = [_count(rank) for rank in range(num_ranks)]
        self._places = [(_place(rank, 0), _place(rank, 1)) for rank in range(num_ranks)]

    def write(
        self, rank: int, action: Action, wanted: Wanted | None = None, since: float | None = None
    ) -> None:
        """Note what a rank begins, which message it waits for, and since when; None: now."""
        self.write_packed(
            rank, packed(action, wanted), time.monotonic() if since is None else since
        )

    def write_packed(self, rank: int, what: bytes, since: float) -> None:
        """The same, of what ``packed`` gave."""
        self._count = count = self._count + 1
        place = what + _pack_since(since)  # not by pack_into: it writes zeros first
        self._page[self._places[rank][count % 2]] = place
        self._page[self._counts[rank]] = _pack_count(count)

    def begun(self) -> tuple[Begun, ...]:
        """What each rank began last, in rank order; empty once closed.

        Any thread may ask at any time. Under torchrun a process knows only its own rank.
        """
        try:
            return tuple(self.read(rank) for rank in range(self._num_ranks))
        except ValueError:  # closed, perhaps at this moment by another thread
            return ()

    def read(self, rank: int) -> Begun:
        """What one rank began last."""
        while True:
            count = self._page[self._counts[rank]]
            number: int = _COUNT.unpack(count)[0]
            place = self._page[self._places[rank][number % 2]]
            if count == self._page[self._counts[rank]]:  # else the rank was perhaps writing it
                return _begun(number, place)

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()


def packed(action: Action, wanted: Wanted | None) -> bytes:
    """What a rank begins, and which message it waits for, as the page has it.

    For those who write the same again.
    """
    stage, kind, microbatch = action
    rest = _NOTHING
    if wanted is not None:
        (other, its_kind, _), peer = wanted
        rest = other, _NUMBER[its_kind], peer
    return _WHAT.pack(stage, _NUMBER[kind], _NONE if microbatch is None else microbatch, *rest)


def _count(rank: int) -> slice:
    return slice(rank * _ENTRY, rank * _ENTRY + _COUNT.size)


def _place(rank: int, which: int) -> slice:
    start = rank * _ENTRY + _COUNT.size + which * _PLACE.size
    return slice(start, start + _PLACE.size)


def _begun(count: int, place: bytes) -> Begun:
    if count == 0:
        return Begun()
    stage, kind, microbatch, wanted_stage, wanted_kind, peer, since = _PLACE.unpack(place)
    number = None if microbatch < 0 else microbatch
    wanted = None
    if peer != _NONE:
        wanted = Wanted(Action(wanted_stage, _KINDS[wanted_kind], number), peer)
    return Begun(count, Action(stage, _KINDS[kind], number), since, wanted)

"""Where each rank is right now: a few bytes of shared memory that outlive a rank that hangs.

A rank that is stuck in a wait or in an endless loop cannot answer; these bytes show the parent what
it was doing. They are a file in the pipeline's private folder, mapped into memory by all.

Nothing stops a reader while a rank writes. So the count stands before and behind the rest: the
writer changes it first and last, and a reader takes what it finds twice with two equal counts.
"""

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple

from pipelab.action import Action, Kind

# how many actions so far, the action, a message and its peer, when the action began, how many again
_ENTRY = struct.Struct("=qiiiiiidq")
_COUNT = 8  # bytes of each count
_TRIES = 100  # to read an entry: a rank that ended while it wrote one leaves it half written
_KINDS = list(Kind)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_NONE = -1


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
        size = _ENTRY.size * num_ranks
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), size)
        self._count = 0
        self._last = [Begun()] * num_ranks  # what was read last

    def write(
        self, rank: int, action: Action, wanted: Wanted | None = None, since: float | None = None
    ) -> None:
        """Note what a rank begins, which message it waits for, and since when; None: now."""
        self._count += 1
        stage, kind, microbatch = action
        place = (stage, _NUMBER[kind], _NONE if microbatch is None else microbatch)
        rest = (_NONE, _NONE, _NONE)
        if wanted is not None:
            rest = (wanted.message.stage, _NUMBER[wanted.message.kind], wanted.peer)
        began = time.monotonic() if since is None else since
        entry = _ENTRY.pack(self._count, *place, *rest, began, self._count)
        start, end = rank * _ENTRY.size, (rank + 1) * _ENTRY.size
        # not by pack_into, which fills the entry with zeros first
        self._page[start : start + _COUNT] = entry[:_COUNT]
        self._page[start + _COUNT : end - _COUNT] = entry[_COUNT:-_COUNT]
        self._page[end - _COUNT : end] = entry[-_COUNT:]

    def begun(self) -> tuple[Begun, ...]:
        """What each rank began last, in rank order; empty once closed.

        Any thread may ask at any time. Under torchrun a process knows only its own rank.
        """
        try:
            return tuple(self.read(rank) for rank in range(self._num_ranks))
        except ValueError:  # closed, perhaps at this moment by another thread
            return ()

    def read(self, rank: int) -> Begun:
        """What one rank began last; what it began before, if it ended while it wrote this."""
        for _ in range(_TRIES):
            entry = self._bytes(rank)
            if entry == self._bytes(rank) and entry[:_COUNT] == entry[-_COUNT:]:
                self._last[rank] = _begun(entry)
                break
            time.sleep(0)  # the rank may need this core to finish its entry
        return self._last[rank]

    def _bytes(self, rank: int) -> bytes:
        return self._page[rank * _ENTRY.size : (rank + 1) * _ENTRY.size]

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()


def _begun(entry: bytes) -> Begun:
    count, stage, kind, microbatch, wanted_stage, wanted_kind, peer, since, _ = _ENTRY.unpack(entry)
    if count == 0:
        return Begun()
    number = None if microbatch < 0 else microbatch
    wanted = None
    if peer != _NONE:
        wanted = Wanted(Action(wanted_stage, _KINDS[wanted_kind], number), peer)
    return Begun(count, Action(stage, _KINDS[kind], number), since, wanted)

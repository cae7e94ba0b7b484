"""Where each rank is right now: a few bytes of shared memory that outlive a rank that hangs.

A rank that sits in a wait or in an endless loop cannot answer; this page tells the parent what
it was doing. It is a file in the pipeline's private folder, mapped by all.
"""

import mmap
import struct
from pathlib import Path

from pipelab.action import Action, Kind

_ENTRY = struct.Struct("=qiii")  # how many actions so far, stage, kind, microbatch
_KINDS = list(Kind)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}


class Progress:
    """One entry per rank: the action it began last, and how many it has begun."""

    def __init__(self, folder: Path, num_ranks: int):
        path = folder / "progress"
        size = _ENTRY.size * num_ranks
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), size)
        self._count = 0

    def write(self, rank: int, action: Action) -> None:
        """Say what a rank begins now."""
        self._count += 1
        microbatch = -1 if action.microbatch is None else action.microbatch
        entry = (self._count, action.stage, _NUMBER[action.kind], microbatch)
        _ENTRY.pack_into(self._page, rank * _ENTRY.size, *entry)

    def read(self, rank: int) -> tuple[int, Action | None]:
        """How many actions a rank has begun, and the last of them; None before the first."""
        count, stage, kind, microbatch = _ENTRY.unpack_from(self._page, rank * _ENTRY.size)
        if count == 0:
            return 0, None
        return count, Action(stage, _KINDS[kind], None if microbatch < 0 else microbatch)

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()

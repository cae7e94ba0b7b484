"""What ranks print appears in the parent's output, in rank order, each line marked with its rank.

A rank writes to a file, which has no name once all ranks are up. The parent replays it when the
rank has answered, so that it appears in the cell, or the test, that asked.
"""

import os
import sys
from pathlib import Path

_MOST = 20_000  # bytes of output that are replayed of one rank per command
_LARGE = 16_000_000  # bytes of a file that grows while nobody reads it


class LogReader:
    """Replays what ranks print."""

    def __init__(self, folder: Path, num_ranks: int):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND  # ranks append too, so it can be shortened
        self.files: list[int] = []
        try:
            for rank in range(num_ranks):
                self.files.append(os.open(folder / f"rank-{rank}.log", flags, 0o600))
        except OSError:
            self.close()
            raise
        self.offsets = [0] * num_ranks
        self.dropped = [0] * num_ranks  # bytes that were thrown away since the last replay

    def replay(self) -> None:
        """Print what is new since the last time; of very much output the rest is counted."""
        for rank in range(len(self.files)):
            for line in self.fresh(rank).splitlines():
                print(f"[rank {rank}] {line}", file=sys.stdout)

    def fresh(self, rank: int) -> str:
        """What a rank printed since the last time."""
        if not self.files:
            return ""
        file = self.files[rank]
        offset = self.offsets[rank]
        size = os.fstat(file).st_size
        if size == offset and not self.dropped[rank]:
            return ""
        text = os.pread(file, _MOST, offset).decode("utf-8", "replace")
        left_out = max(0, size - offset - _MOST) + self.dropped[rank]
        self.offsets[rank] = size
        self.dropped[rank] = 0
        return text + (f"\n... {left_out:,} bytes left out" if left_out else "")

    def bound(self) -> None:
        """Keep the files small while ranks work: what nobody would see is thrown away."""
        for rank, file in enumerate(self.files):
            size = os.fstat(file).st_size
            if size > _LARGE:
                text = os.pread(file, _MOST, self.offsets[rank])
                os.ftruncate(file, 0)
                os.write(file, text)
                self.dropped[rank] += size - self.offsets[rank] - len(text)
                self.offsets[rank] = 0

    def close(self) -> None:
        """Close the files."""
        while self.files:
            os.close(self.files.pop())

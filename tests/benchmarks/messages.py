"""Messages: seconds of one way between two ranks, 1 kB to 4 MB, in turns.

    ours    through shared memory, as a pipeline's ranks send (transport/rings.py)
    gloo    through gloo over loopback, with the buffer posted before
    limit   one copy into shared memory and one out of it, and one wake-up by an eventfd; no form,
            no name, no deadline

One way is half of there and back.
"""

import ctypes
import mmap
import multiprocessing
import os
import select
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from pipelab.bench.ratio import Ratio
from pipelab.engine.launch.freed_memory import keep_freed_memory
from pipelab.engine.transport import groups
from pipelab.engine.transport.rings import Name, Rings, plain_form
from pipelab.engine.transport.shared_memory import Shared, SharedFiles
from pipelab.partition.tree import Flat
from pipelab.words import table_text

SIZES = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22)
Way = Callable[[torch.Tensor, bool], None]  # sends a tensor first, or receives one first


class Row(NamedTuple):
    """Seconds of one way, one for each block."""

    bytes: int
    seconds: dict[str, list[float]]

    def to_json(self) -> dict[str, object]:
        return {"bytes": self.bytes, "seconds": self.seconds}


class Limit:
    """A copy in, a wake-up, a copy out."""

    def __init__(self, rank: int, memory: mmap.mmap, bells: tuple[int, int]):
        self.rank, self.bells = rank, bells
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.poll = select.poll()
        self.poll.register(bells[rank], select.POLLIN)

    def send(self, tensor: torch.Tensor) -> None:
        ctypes.memmove(self.address, tensor.data_ptr(), tensor.nbytes)
        os.eventfd_write(self.bells[1 - self.rank], 1)

    def receive(self, tensor: torch.Tensor) -> None:
        self.poll.poll()
        os.eventfd_read(self.bells[self.rank])
        ctypes.memmove(tensor.data_ptr(), self.address, tensor.nbytes)


def bench_messages(blocks: int, turns: int) -> list[Row]:
    """Two processes, which send each other tensors of each size."""
    with closing(SharedFiles(2)) as files, tempfile.TemporaryDirectory() as folder:
        memory = mmap.mmap(-1, max(SIZES))
        bells = os.eventfd(0), os.eventfd(0)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        sides = [
            context.Process(
                target=_side,
                args=(rank, files._shared[rank], memory, bells, Path(folder), theirs,
                      blocks, turns),
            )
            for rank in range(2)
        ]  # fmt: skip
        for side in sides:
            side.start()
        rows: list[Row] = ours.recv()
        for side in sides:
            side.join()
        for bell in bells:
            os.close(bell)
    return rows


def _side(
    rank: int, shared: Shared, memory: mmap.mmap, bells: tuple[int, int], folder: Path,
    results: Connection, blocks: int, turns: int,
) -> None:  # fmt: skip
    keep_freed_memory()  # as a rank does
    torch.set_num_threads(1)
    ways = {
        "ours": _rings(rank, shared),
        "gloo": _gloo(rank, folder),
        "limit": _limit(Limit(rank, memory, bells)),
    }
    rows = []
    for size in SIZES:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        tensor = torch.zeros(size // 4)
        for block in range(blocks + 1):
            for name, way in ways.items():
                took = [_there_and_back(way, tensor, rank) for _ in range(turns)]
                if block:  # the first warms up
                    seconds[name].append(median(took) / 2)
        rows.append(Row(size, seconds))
    if rank == 0:
        results.send(rows)


def _there_and_back(way: Way, tensor: torch.Tensor, rank: int) -> float:
    started = time.perf_counter()
    way(tensor, rank == 0)
    return time.perf_counter() - started


def _rings(rank: int, shared: Shared) -> Way:
    rings, name, peer = Rings(rank, shared, 60.0), Name(0, 1, False), 1 - rank
    rings.connect([(0, 1), (1, 0)])

    def way(tensor: torch.Tensor, is_first: bool) -> None:
        flat = Flat([tensor], plain_form([tensor]))
        rings.open(name, peer)
        if is_first:
            rings.send(name, flat, peer)
        rings.wait(name, peer)
        if not is_first:
            rings.send(name, flat, peer)

    return way


def _gloo(rank: int, folder: Path) -> Way:
    group = groups.join(folder, rank, 2, 1).everyone

    def way(tensor: torch.Tensor, is_first: bool) -> None:
        come = group.recv([torch.empty_like(tensor)], 1 - rank, 0)
        if is_first:
            group.send([tensor], 1 - rank, 0).wait()
        come.wait()
        if not is_first:
            group.send([tensor], 1 - rank, 0).wait()

    return way


def _limit(limit: Limit) -> Way:
    def way(tensor: torch.Tensor, is_first: bool) -> None:
        if is_first:
            limit.send(tensor)
        limit.receive(tensor)
        if not is_first:
            limit.send(tensor)

    return way


def messages_table(rows: list[Row]) -> str:
    """Microseconds, and ours over the others'."""
    lines = [["bytes", "ours, us", "gloo, us", "limit, us", "ours / gloo", "ours / limit"]]
    for size, seconds in rows:
        micro = [f"{1e6 * median(seconds[name]):.1f}" for name in ("ours", "gloo", "limit")]
        ratios = [str(Ratio.of(seconds["ours"], seconds[name])) for name in ("gloo", "limit")]
        lines.append([f"{size:,}", *micro, *ratios])
    return table_text(lines)

"""Soak: pipelines opened and closed, many steps on one, many at once; is anything left, or growing?

Nothing here is a speed. Before and after each part the same things are counted: processes that
descend from this one, its open files, the folders of pipelines, and the memory that this process
and the ranks hold for themselves (PSS: shared pages count their share).
"""

import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from pipelab.words import table_text


class Held(NamedTuple):
    """What there is at one moment; ``own`` is this process's memory, in bytes."""

    processes: int
    files: int
    folders: int
    own: int


class Part(NamedTuple):
    """One part of the soak: what there was before and after, and what grew while it ran."""

    name: str
    before: Held
    after: Held
    ranks: tuple[int, ...] = ()  # bytes of all ranks, at moments spread over the part

    @property
    def is_clean(self) -> bool:
        """Whether no process, file or folder is left."""
        return all(a <= b for a, b in zip(self.after[:3], self.before[:3], strict=True))

    def row(self) -> list[object]:
        """The line of the table."""
        grown = (self.after.own - self.before.own) / 1e6
        left = [max(0, a - b) for a, b in zip(self.after[:3], self.before[:3], strict=True)]
        ranks = " ".join(f"{size / 1e6:.0f}" for size in self.ranks) or "-"
        return [self.name, *left, f"{grown:+.1f}", ranks]


HEAD = ["part", "processes left", "files left", "folders left", "own MB", "ranks, MB over time"]


def bench_soak(opened: int, steps: int, at_once: int) -> list[Part]:
    """All parts, in turn. What a first pipeline starts for good, the fork server, comes before.

    Temporary folders are made within one of our own, where others' are not counted.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(tempfile, "tempdir", folder),
    ):
        _open_and_close(1)
        return [
            _part(f"{opened} opened and closed", partial(_open_and_close, opened)),
            _part(f"{steps} steps on one", partial(_many_steps, steps)),
            _part(f"{at_once} at once", partial(_at_once, at_once)),
        ]


def soak_table(parts: list[Part]) -> str:
    """One line per part."""
    return table_text([HEAD, *(part.row() for part in parts)])


def held() -> Held:
    """Count what this process holds now (Linux)."""
    folders = Path(tempfile.gettempdir()).glob("pipelab-*")
    files = len(os.listdir("/proc/self/fd"))
    return Held(len(descendants(os.getpid())), files, len(list(folders)), pss(os.getpid()))


def pss(pid: int) -> int:
    """The bytes that a process holds for itself, shared pages by their share; 0 once it ends."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line[:4] == "Pss:")


def _part(name: str, run: Callable[[], tuple[int, ...]]) -> Part:
    before = held()
    ranks = run()
    return Part(name, before, held(), ranks)


def _open_and_close(times: int) -> tuple[int, ...]:
    for _ in range(times):
        with _pipeline() as pipeline:
            pipeline.step(*_batch())
    return ()


def _many_steps(steps: int) -> tuple[int, ...]:
    marks = {max(1, steps * i // 4) for i in range(5)}
    found = []
    with _pipeline() as pipeline:
        for step in range(1, steps + 1):
            pipeline.step(*_batch())
            if step in marks:
                found.append(sum(map(pss, pipeline.pids)))
    return tuple(found)


def _at_once(number: int) -> tuple[int, ...]:
    """Each in another thread, as the notebooks of a class; errors are raised."""
    ready = threading.Barrier(number)

    def one() -> int:
        try:
            with _pipeline(timeout=300.0) as pipeline:
                pipeline.step(*_batch())
                ready.wait(600.0)  # all are up now
                size = sum(map(pss, pipeline.pids))
                pipeline.step(*_batch())
                return size
        except BaseException:
            ready.abort()  # the others need not wait
            raise

    with ThreadPoolExecutor(number) as pool:
        pipelines = [pool.submit(one) for _ in range(number)]
        return (sum(each.result() for each in as_completed(pipelines)),)


def _pipeline(timeout: float = 30.0) -> Pipeline:
    sgd = partial(torch.optim.SGD, lr=0.01)
    loss = torch.nn.functional.cross_entropy
    return Pipeline(mlp(), one_f_one_b(4, 8), loss=loss, optimizer=sgd, timeout=timeout)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(32, 16), torch.randint(10, (32,))


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found, wave = [], [pid]
    while wave:
        wave = [child for child, parent in parents.items() if parent in wave]
        found += wave
    return found

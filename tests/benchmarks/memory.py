"""Memory: what a rank's process holds, pipelab's beside torch.distributed.pipelining's.

    at rest   PSS after some steps: the process's own pages, and its share of those that it shares
    peak      at rest, and what its resident memory rose above that within further steps
    buffers   bytes that wait for messages: ours at their most, by the trace; torch's for good

Both sides stand at once, made from one fork server, with the same stages: what all processes share
counts for both alike. Torch's processes load torch.distributed.pipelining too.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipelab.bench.step import Case, jobs
from pipelab.bench.torch_driver import TorchRanks
from pipelab.bench.workloads import OPTIMIZER
from pipelab.engine import Pipeline
from pipelab.errors import PipelabError
from pipelab.trace.memory import memory_curve
from pipelab.words import table_text

_STEPS = 5  # before the first look, and again before the second
_RESET_PEAK = "5"  # see proc(5), clear_refs


class Held(NamedTuple):
    """Bytes of one rank."""

    at_rest: int
    peak: int
    buffers: int


class MemoryResult(NamedTuple):
    """One entry per rank on each side; torch's none where it refuses the case."""

    case: Case
    ours: list[Held]
    torch: list[Held]

    def to_json(self) -> dict[str, object]:
        """Plain data, bytes."""
        case = self.case
        return {
            "model": case.workload,
            "schedule": case.schedule,
            "ranks": case.num_ranks,
            "microbatches": case.num_microbatches,
            "ours": [held._asdict() for held in self.ours],
            "torch": [held._asdict() for held in self.torch],
        }


def bench_memory(case: Case) -> MemoryResult:
    """Fresh processes on both sides, and some steps of each. Raises PipelabError without /proc."""
    if sys.platform != "linux":
        raise PipelabError("the memory of a process is read from Linux's /proc: there is none here")
    work = case.work
    with (
        TorchRanks(case.num_ranks) as others,
        Pipeline(work.model, case.actions, loss=work.loss, optimizer=OPTIMIZER) as pipeline,
    ):
        step = partial(pipeline.step, work.inputs, work.targets)
        refused = others.take(jobs(work, case))
        step()
        if not refused:
            others.run(1)
        ours = _peaks(pipeline.pids, lambda: [step() for _ in range(_STEPS)])
        theirs = [] if refused else _peaks(others.pids, lambda: others.run(_STEPS))
        trace = step().trace
        curves = [memory_curve(trace, rank) for rank in range(case.num_ranks)]
        buffers = [max(point.buffers for point in curve) for curve in curves]
        others_buffers = [] if refused else others.buffers()
    return MemoryResult(
        case,
        [Held(*pair, size) for pair, size in zip(ours, buffers, strict=True)],
        [Held(*pair, size) for pair, size in zip(theirs, others_buffers, strict=True)],
    )


def memory_table(results: Sequence[MemoryResult]) -> str:
    """The rank that holds most, of each side; MB are 10^6 bytes."""
    sides = ("ours", "torch")
    head = ["memory, MB", "p", "m", "schedule"]
    head += [f"{what}: {side}" for what in ("at rest", "peak", "buffers") for side in sides]
    rows = []
    for result in results:
        case = result.case
        row = [case.workload, case.num_ranks, case.num_microbatches, case.schedule]
        for i, digits in enumerate((1, 1, 3)):
            for held in (result.ours, result.torch):
                row.append(f"{max(h[i] for h in held) / 1e6:.{digits}f}" if held else "refused")
        rows.append(row)
    return table_text([head, *rows])


def _peaks(pids: Sequence[int], run: Callable[[], object]) -> list[tuple[int, int]]:
    """For each process, its bytes at rest, and at its most while ``run`` runs twice."""
    run()
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, "ascii")
    resident = [_field(pid, "smaps_rollup", "Rss") for pid in pids]
    run()
    peaks = [_field(pid, "status", "VmHWM") for pid in pids]
    rest = [_field(pid, "smaps_rollup", "Pss") for pid in pids]
    rows = zip(rest, peaks, resident, strict=True)
    return [(pss, pss + max(0, peak - rss)) for pss, peak, rss in rows]


def _field(pid: int, file: str, name: str) -> int:
    """Bytes of one line of a file of /proc."""
    for line in Path(f"/proc/{pid}/{file}").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise PipelabError(f"the /proc of this system has no {name} of a process")

"""Tracing: a step that is recorded against one that is not, in turns.

Two pipelines of the same model run blocks of steps in turns, A B A B. In each, seconds are taken
in the parent from the call of ``step`` to its return, so the events' way home counts too. Seconds
are half chance where ranks share cores; the processor's seconds of both sides, our own share
included, are compared beside them.
"""

import os
import time
from functools import partial
from statistics import median
from typing import NamedTuple

from pipelab.bench.meter import Meter
from pipelab.bench.ratio import Ratio
from pipelab.bench.workloads import OPTIMIZER, workload
from pipelab.engine import Pipeline
from pipelab.schedules import one_f_one_b
from pipelab.words import table_text


class TracingResult(NamedTuple):
    """Seconds per step, one entry per block; and ``cpu``, the processor's, recorded over silent."""

    workload: str
    num_ranks: int
    recorded: list[float]
    silent: list[float]
    cpu: float | None = None

    @property
    def ratio(self) -> Ratio:
        """Recorded over silent."""
        return Ratio.of(self.recorded, self.silent)

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        return {**self._asdict(), "recorded_over_silent": self.ratio._asdict()}


def bench_tracing(model: str, num_ranks: int, blocks: int, seconds: float) -> TracingResult:
    """1F1B, 8 microbatches, with recording and without."""
    work = workload(model, num_ranks)
    schedule = one_f_one_b(num_ranks, 8)
    open_one = partial(Pipeline, work.model, schedule, loss=work.loss, optimizer=OPTIMIZER)
    with open_one(record=True) as recorded, open_one(record=False) as silent:
        sides = [partial(p.step, work.inputs, work.targets) for p in (recorded, silent)]
        for step in sides:
            step()
        start = time.monotonic()
        sides[1]()
        steps = max(1, round(seconds / (time.monotonic() - start)))
        times: list[list[float]] = [[], []]
        meters = [Meter([*p.pids, os.getpid()]) for p in (recorded, silent)]
        for _ in range(blocks):
            for step, found, meter in zip(sides, times, meters, strict=True):
                with meter:
                    start = time.monotonic()
                    for _ in range(steps):
                        step()
                    found.append((time.monotonic() - start) / steps)
    cpu = meters[0].own / meters[1].own if meters[1].own else None
    return TracingResult(model, num_ranks, times[0], times[1], cpu)


def tracing_table(results: list[TracingResult]) -> str:
    """One line per workload."""
    head = ["step", "p", "recorded, ms", "silent, ms", "recorded / silent (quartiles)", "cpu"]
    rows = []
    for result in results:
        times = [f"{1e3 * median(side):.2f}" for side in (result.recorded, result.silent)]
        cpu = "" if result.cpu is None else f"{result.cpu:.3f}"
        rows.append([result.workload, result.num_ranks, *times, result.ratio, cpu])
    return table_text([head, *rows])

"""First step: from a new pipeline to its first result, and from another schedule to a result.

    new pipeline      Pipeline(...)
    first step        and its first step
    use and step      use(...) of another schedule, and a step by it
    step              a later step alone

A learner waits for these after each change of a control. All is warm, as in launch.py. The
processor's time until the first result hardly depends on what else the machine does.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pipelab.bench.meter import cpu_seconds
from pipelab.bench.ratio import Quartiles
from pipelab.bench.workloads import OPTIMIZER, workload
from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.words import table_text

_MICROBATCHES = 8
_WARM = 2  # pipelines before those that count
_STEPS = 4  # steps, and changes of the schedule, of each pipeline

_WAITS = {
    "both": "new pipeline and first step",
    "new": "  new pipeline",
    "first": "  first step",
    "use": "use and step",
    "step": "step",
}
_PROCESSOR = {
    "this process": "processor: this process",
    "server": "processor: fork server",
    "rank": "processor: each rank",
}


class FirstStepResult(NamedTuple):
    """Seconds: of waiting, and of the processor until the first result; one entry for each time."""

    waits: dict[str, list[float]]
    processor: dict[str, list[float]]

    def __str__(self) -> str:
        lines = [["", "ms (quartiles)"]]
        for names, times in ((_WAITS, self.waits), (_PROCESSOR, self.processor)):
            for name, text in names.items():
                lines.append([text, str(Quartiles.among([1e3 * t for t in times[name]]))])
        return table_text(lines)


def bench_first_step(num_ranks: int, opened: int) -> FirstStepResult:
    """Open so many pipelines, one after the other."""
    found = FirstStepResult({name: [] for name in _WAITS}, {name: [] for name in _PROCESSOR})
    for number in range(_WARM + opened):
        warm_up = FirstStepResult({n: [] for n in _WAITS}, {n: [] for n in _PROCESSOR})
        _open_and_use(num_ranks, warm_up if number < _WARM else found)
    return found


def _open_and_use(num_ranks: int, found: FirstStepResult) -> None:
    model, loss, inputs, targets = workload("mlp", num_ranks)
    schedules = [kind(num_ranks, _MICROBATCHES) for kind in (one_f_one_b, gpipe)]
    waits, before = found.waits, (time.process_time(), _of_server())
    with _timed(waits["new"]):
        pipeline = Pipeline(model, schedules[0], loss=loss, optimizer=OPTIMIZER, timeout=60.0)
    with pipeline:
        with _timed(waits["first"]):
            pipeline.step(inputs, targets)
        waits["both"].append(waits["new"][-1] + waits["first"][-1])
        found.processor["this process"].append(time.process_time() - before[0])
        found.processor["server"].append(_of_server() - before[1])
        found.processor["rank"].append(sum(map(cpu_seconds, pipeline.pids)) / num_ranks)
        for number in range(_STEPS):
            with _timed(waits["step"]):
                pipeline.step(inputs, targets)
            with _timed(waits["use"]):
                pipeline.use(schedules[(number + 1) % 2])
                pipeline.step(inputs, targets)


def _of_server() -> float:
    pid = fork_server.pid()
    return 0.0 if pid is None else cpu_seconds(pid)


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)

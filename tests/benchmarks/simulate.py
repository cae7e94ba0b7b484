"""Simulate: does the time per action stay flat from a thousand actions to a quarter of a million?

    build      interleaved 1F1B, two stages per rank
    validate   judge it, which gives it its messages
    simulate   the same, and a predicted trace
    µs/action  all three together, per computing action
    growth     that, over the first row's
    peak MB    most memory of Python objects at once; of another run, since measuring it is slow

Processor time of this process, the shortest of all repeats: what else runs is left aside.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from pipelab.bench.ratio import machine
from pipelab.schedules import Schedule, interleaved, validate
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.words import table_text

SIZES = ((8, 32), (16, 64), (16, 256), (64, 256), (64, 1024))  # ranks, microbatches
_COST = Cost(0.010, 0.010, 0.010, latency=0.001)
_Result = TypeVar("_Result")


class Row(NamedTuple):
    """One size of schedule: seconds of each part, and the most bytes at once."""

    ranks: int
    microbatches: int
    actions: int
    build: float
    validate: float
    simulate: float
    peak_bytes: int

    @property
    def per_action(self) -> float:
        """Seconds per computing action, for all three parts."""
        return (self.build + self.validate + self.simulate) / self.actions


class SimulateResult(NamedTuple):
    """All that one run of the bench measured, smallest schedule first."""

    machine: dict[str, object]
    repeats: int
    rows: tuple[Row, ...]

    def growth(self, row: Row) -> float:
        """How many times as long an action takes as in the smallest schedule."""
        return row.per_action / self.rows[0].per_action

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "bench": "simulate",
            "machine": self.machine,
            "settings": {"schedule": "interleaved, v = 2", "repeats": self.repeats},
            "rows": [
                {**row._asdict(), "per_action": row.per_action, "growth": self.growth(row)}
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        head = ["ranks x microbatches", "actions", "build s", "validate s", "simulate s"]
        head += ["µs/action", "growth", "peak MB"]
        cells = [
            [f"{row.ranks} x {row.microbatches}", f"{row.actions:,}"]
            + [f"{seconds:.3f}" for seconds in (row.build, row.validate, row.simulate)]
            + [f"{row.per_action * 1e6:.1f}", f"{self.growth(row):.2f}"]
            + [f"{row.peak_bytes / 1e6:.1f}"]
            for row in self.rows
        ]
        return table_text([head, *cells])


def bench_simulate(sizes: Sequence[tuple[int, int]] = SIZES, repeats: int = 3) -> SimulateResult:
    """Build, validate and simulate interleaved schedules of these (ranks, microbatches)."""
    about = machine()
    return SimulateResult(about, repeats, tuple(_row(p, m, repeats) for p, m in sizes))


def _row(num_ranks: int, num_microbatches: int, repeats: int) -> Row:
    def build() -> Schedule:
        return interleaved(num_ranks, num_microbatches, 2)

    def predict() -> Trace:
        return simulate(schedule, _COST)

    building, schedule = _shortest(build, repeats)
    judging, _ = _shortest(lambda: validate(schedule), repeats)
    predicting, _ = _shortest(predict, repeats)
    tracemalloc.start()
    simulate(build(), _COST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    actions = sum(map(len, schedule.ranks))
    return Row(num_ranks, num_microbatches, actions, building, judging, predicting, peak)


def _shortest(run: Callable[[], _Result], repeats: int) -> tuple[float, _Result]:
    """The shortest of several runs in seconds, and what the last one gave."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return min(times), result

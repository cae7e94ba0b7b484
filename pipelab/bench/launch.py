"""Launch: four ranks up and joined over gloo, by pipelab and by torchrun, in turns.

    ranks      Ranks(4): from the call until every rank has joined the others and has answered
    pipeline   Pipeline(...): the same, and every rank has built its stage and read its schedule
    torchrun   from spawning torchrun until the last rank has passed its first barrier
    total      the same until all processes are gone again

Ours is warm: the fork server has loaded torch before, as it has soon after ``import
pipelab.engine``. The first launch, which may wait for that, is reported apart, in no ratio.
How long a learner then waits for a result: first_step.py.

torchrun's rendezvous is a file in a private folder (``engine/torchrun/private_run.py``), and its
ranks meet through another, as ours do.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from pipelab.bench.first_step import FirstStepResult, bench_first_step
from pipelab.bench.ratio import Ratio, machine
from pipelab.engine import Pipeline
from pipelab.engine.launch.launched import LaunchedRanks
from pipelab.engine.torchrun.private_run import run_privately
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from pipelab.words import table_text

_DEADLINE = 120.0  # seconds for one launch by torchrun
_SCRIPT = Path(__file__).with_name("torchrun_rank.py")


class Launch(NamedTuple):
    """Seconds of one launch: until all ranks are joined, and until all are gone again."""

    joined: float
    total: float


class LaunchResult(NamedTuple):
    """All that one run of the bench measured; ``times`` has one entry per repeat."""

    machine: dict[str, object]
    num_ranks: int
    first: float
    times: dict[str, list[Launch]]
    first_step: FirstStepResult

    def faster(self, who: str, what: str) -> Ratio:
        """How many times as long torchrun takes: ``what`` is ``"joined"`` or ``"total"``."""
        ours = [getattr(launch, what) for launch in self.times[who]]
        return Ratio.of([getattr(launch, what) for launch in self.times["torchrun"]], ours)

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "bench": "launch",
            "machine": self.machine,
            "settings": {"ranks": self.num_ranks, "torchrun_store": "file", "unit": "seconds"},
            "first_launch": self.first,
            "first_step": self.first_step._asdict(),
            "times": {who: [t._asdict() for t in all_] for who, all_ in self.times.items()},
            "torchrun_over_ours": {
                who: {what: self.faster(who, what)._asdict() for what in Launch._fields}
                for who in ("ranks", "pipeline")
            },
        }

    def __str__(self) -> str:
        rows = [
            [
                f"{who}, {what}",
                f"{median(getattr(t, what) for t in launches):.3f}",
                "" if who == "torchrun" else self.faster(who, what),
            ]
            for who, launches in self.times.items()
            for what in Launch._fields
        ]
        head = [f"launch of {self.num_ranks} ranks", "seconds", "torchrun / ours (quartiles)"]
        first = f"first launch of this process: {self.first:.3f} s"
        return f"{table_text([head, *rows])}\n{first}\n\n{self.first_step}"


def bench_launch(num_ranks: int, repeats: int, opened: int) -> LaunchResult:
    """Launch by turns: bare ranks, a pipeline, torchrun, and again; then ``opened`` pipelines."""
    about = machine()
    first = launch_ranks(num_ranks).joined
    launch_pipeline(num_ranks)
    times: dict[str, list[Launch]] = {"ranks": [], "pipeline": [], "torchrun": []}
    for _ in range(repeats):
        times["ranks"].append(launch_ranks(num_ranks))
        times["pipeline"].append(launch_pipeline(num_ranks))
        times["torchrun"].append(launch_torchrun(num_ranks))
    return LaunchResult(about, num_ranks, first, times, bench_first_step(num_ranks, opened))


def launch_ranks(num_ranks: int) -> Launch:
    """Bare ranks of ours, that joined and answered."""
    start = time.monotonic()
    ranks = LaunchedRanks(num_ranks, replicas=1, timeout=60.0)
    joined = time.monotonic()
    ranks.close()
    return Launch(joined - start, time.monotonic() - start)


def launch_pipeline(num_ranks: int) -> Launch:
    """A whole pipeline of ours, ready for its first step."""
    model, schedule = mlp(), one_f_one_b(num_ranks, 8)
    start = time.monotonic()
    with Pipeline(model, schedule, loss=torch.nn.functional.cross_entropy, timeout=60.0):
        joined = time.monotonic()
    return Launch(joined - start, time.monotonic() - start)


def launch_torchrun(num_ranks: int) -> Launch:
    """The same number of ranks by torchrun. Raises PipelabError if they do not come up."""
    with tempfile.TemporaryDirectory(prefix="pipelab-bench-") as name:
        folder = Path(name)
        start = time.monotonic()
        run_privately(_SCRIPT, num_ranks, folder, timeout=_DEADLINE)
        total = time.monotonic() - start
        reports = [folder / f"rank-{rank}" for rank in range(num_ranks)]
        joined = max(float(report.read_text("utf-8")) for report in reports)
    return Launch(joined - start, total)

"""One core and two gigabytes: Binder's machine. What it runs on, and what each rank takes."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from torch import randint, randn
from torch.nn.functional import cross_entropy

from pipelab.bench.soak import pss
from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b

ROOT = Path(__file__).parents[2]
GIGABYTE = 1 << 30


def small():
    """Before the program starts: one core, and 2 GB of data in each process."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_DATA, (2 * GIGABYTE, 2 * GIGABYTE))


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux knows them")
def test_the_demo_runs_on_one_core_with_two_gigabytes():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pipelab", "demo"], cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
        preexec_fn=small, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]


@pytest.mark.skipif(sys.platform != "linux", reason="PSS as Linux tells it")
def test_what_a_pipeline_takes():
    def all_below(num_ranks):
        with Pipeline(mlp(depth=8), one_f_one_b(num_ranks, 8), loss=cross_entropy) as pipeline:
            pipeline.step(randn(32, 16), randint(10, (32,)))
            ranks = [pss(pid) for pid in pipeline.pids]
            from pipelab.bench.soak import _descendants

            return pss(os.getpid()) + sum(map(pss, _descendants(os.getpid()))), sum(ranks)

    whole, _ = all_below(4)
    more, _ = all_below(8)
    assert whole < 1.2e9, f"{whole / 1e6:.0f} MB with 4 ranks"
    assert (more - whole) / 4 < 60e6, f"{(more - whole) / 4e6:.0f} MB for each further rank"
    print(f"{whole / 1e6:.0f} MB with 4 ranks, {(more - whole) / 4e6:.1f} MB each further one")

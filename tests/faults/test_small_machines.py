"""One core and two gigabytes: Binder's machine. What it runs on, and what each rank takes."""

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.benchmarks.soak import descendants, pss

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
LESSONS = [*NOTEBOOKS.glob("00*.ipynb"), *sorted((NOTEBOOKS / "teacher").glob("[0-9]*.ipynb"))]
GIGABYTE = 1 << 30


def small():
    """Before the program starts: one core, and 2 GB of data in each process."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_DATA, (2 * GIGABYTE, 2 * GIGABYTE))


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux knows them")
PATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


@LINUX
@pytest.mark.parametrize("steps", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_the_demo_runs_on_one_core_with_two_gigabytes(steps, tmp_path):
    """Of the default length when slow: after the second step, all that takes memory is there."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelab", "demo", "--steps", str(steps)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATH},
        preexec_fn=small,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_passes_all_its_checks_on_one_core_with_two_gigabytes(lesson, tmp_path):
    """Kernel, launcher and ranks share the core, and together stay below 2 GB."""
    run = ["-m", "nbconvert", "--execute", "--to", "notebook", "--output-dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": PATH, "PIPELAB_HOME": str(tmp_path)}
    began, most = time.monotonic(), 0
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, *run, lesson],
            env=environment,
            preexec_fn=small,
            stdout=log,
            stderr=log,
        )
        while process.poll() is None:
            with suppress(OSError):  # a process that has just ended
                most = max(most, sum(map(pss, [process.pid, *descendants(process.pid)])))
            time.sleep(1.0)
    seconds = time.monotonic() - began
    print(f"{lesson.stem}: {seconds:.0f} s, {most / 1e6:.0f} MB at most")
    assert process.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    assert most < 2e9
    if lesson.parent.name == "teacher":
        checks = json.loads((tmp_path / "progress.json").read_text())["checks"]
        assert checks and all(row["passed"] for row in checks.values()), checks


TAKES = """
import os
from torch import randint, randn
from torch.nn.functional import cross_entropy
from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from tests.benchmarks.soak import descendants, pss

for ranks in (4, 8):
    with Pipeline(mlp(depth=8), one_f_one_b(ranks, 8), loss=cross_entropy) as pipeline:
        pipeline.step(randn(32, 16), randint(10, (32,)))
        print(sum(map(pss, [os.getpid(), *descendants(os.getpid())])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PSS as Linux counts it")
def test_what_a_pipeline_takes(tmp_path):
    # in a fresh process: this one may hold what other tests have left
    script = tmp_path / "takes.py"
    script.write_text(TAKES)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    whole, more = map(int, done.stdout.split())
    assert whole < 1.2e9, f"{whole / 1e6:.0f} MB with 4 ranks"
    assert (more - whole) / 4 < 60e6, f"{(more - whole) / 4e6:.0f} MB for each further rank"
    print(f"{whole / 1e6:.0f} MB with 4 ranks, {(more - whole) / 4e6:.1f} MB each further one")

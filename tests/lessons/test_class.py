"""A class on one machine: as many kernels as learners, on two cores, all checking at once.

Every right answer passes and every wrong one fails, however busy the machine is, and nothing is
left. What a server has to have is printed:

    python -m pytest -s -m slow tests/lessons/test_class.py
"""

import json
import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from pipelab.lessons.chapters import MODULES
from pipelab.lessons.edition import SKIPPED, nbgrader, read

ROOT = Path(__file__).parent.parent.parent
TEACHER = ROOT / "notebooks" / "teacher"
MOST = 350e6  # bytes of a learner at rest, of memory that no other process shares
RUNNING = 700e6  # bytes of a learner whose ranks run
LEARNERS = pytest.mark.parametrize("learners", [10, 30])

CHECK = """
import importlib, json
from pipelab.lessons import check
{solution}
wrong = importlib.import_module("tests.lessons.wrong_{number}")
import cloudpickle
cloudpickle.register_pickle_by_value(wrong)
found = [check("{name}", {function}), *(check("{name}", f) for f, _ in wrong.WRONG["{name}"][:2])]
print(json.dumps([[v.passed, str(v)] for v in found]))
"""


def cells_of_a_class():
    """For each exercise: the answer with the names around it, checked, and two wrong ones."""
    for number in MODULES:
        (path,) = TEACHER.glob(f"{number}_*.ipynb")
        cells = [c for c in nbgrader(read(path)).cells if c.cell_type == "code"]
        checks = [re.search(r'grade\("(.*)", (\w+)\)', c.source) for c in cells]
        skipped = [SKIPPED in c.metadata.get("tags", []) for c in cells]
        kept = [c.source for c, *no in zip(cells, checks, skipped, strict=True) if not any(no)]
        for found in filter(None, checks):
            yield CHECK.format(
                name=found[1], number=number, function=found[2], solution="\n".join(kept)
            )


CELLS = [*cells_of_a_class()]


class Learner:
    """One kernel, and what it checks."""

    def __init__(self, number: int, home: Path):
        folders = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        env = os.environ | {"PIPELAB_HOME": str(home), "PIPELAB_IDLE": "5", "PYTHONPATH": folders}
        self.kernel, self.client = start_new_kernel(
            startup_timeout=600, kernel_name="python3", env=env, cwd=str(ROOT)
        )
        self.process = psutil.Process(self.kernel.provisioner.pid)
        self.cell = CELLS[number % len(CELLS)]

    def run(self, cell: str) -> str:
        """What a cell prints. Raises AssertionError if it fails."""
        said: list[str] = []
        self.client.execute_interactive(cell, timeout=1800, output_hook=lambda m: said.append(m))
        errors = [m["content"]["traceback"] for m in said if m["msg_type"] == "error"]
        assert not errors, "\n".join(errors[0])
        return "".join(m["content"]["text"] for m in said if m["msg_type"] == "stream")

    def check(self) -> tuple[float, str]:
        """Seconds, and what was wrong with the verdicts: "" if nothing."""
        begin = time.monotonic()
        (right, said), *others = json.loads(self.run(self.cell).splitlines()[-1])
        faults = [] if right else [said]
        faults += [said for passed, said in others if passed]
        return time.monotonic() - begin, "\n".join(faults)

    def at_rest(self) -> float:
        """Bytes that only this kernel and its children have."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(p.memory_full_info().uss for p in family if p.status() != psutil.STATUS_ZOMBIE)

    def end(self) -> None:
        """Shut the kernel down."""
        self.client.stop_channels()
        self.kernel.shutdown_kernel(now=True)


@pytest.mark.slow
@LEARNERS
def test_a_class_checks_at_once(learners, tmp_path):
    if psutil.virtual_memory().available < learners * RUNNING:
        pytest.skip(f"{learners} learners who all run ranks take {learners * RUNNING / 1e9:.0f} GB")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:2])
    try:
        with ThreadPoolExecutor(learners) as pool:
            homes = [tmp_path / f"learner-{n}" for n in range(learners)]
            class_ = [*pool.map(Learner, range(learners), homes)]
            families = [learner.process for learner in class_]
            try:
                found = [*pool.map(Learner.check, class_)]
                time.sleep(15.0)
                bytes_ = [learner.at_rest() for learner in class_]
            finally:
                children = [c for p in families for c in p.children(recursive=True)]
                [*pool.map(Learner.end, class_)]
    finally:
        os.sched_setaffinity(0, cores)
    seconds = [spent for spent, _ in found]
    print(
        f"\n{learners} learners on 2 cores: {statistics.median(seconds):.0f} s for three checks in "
        f"the median, {max(seconds):.0f} s at most; at rest {max(bytes_) / 1e6:.0f} MB at most"
    )
    faults = [fault for _, fault in found if fault]
    assert not faults, "\n\n".join(faults)
    assert max(bytes_) < MOST
    assert not psutil.wait_procs(children, timeout=10)[1], "processes are left"

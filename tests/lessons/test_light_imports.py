"""No waiting before it is needed: to note or draw a prediction loads no torch."""

import subprocess
import sys

import pytest

from pipelab.lessons.chapters import MODULES, chapter_of, questions_of

HEAVY = ("torch", "matplotlib", "anywidget", "numpy")


def loaded(code: str, tmp_path) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after ``code``."""
    script = f"import sys\n{code}\nprint(*(m for m in {HEAVY} if m in sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    return set(ran.stdout.splitlines()[-1].split())


def test_no_lesson_s_first_cell_loads_torch(tmp_path):
    code = "from pipelab.lessons import check, hint, predict, predicted, reveal\n" + "\n".join(
        f"predict({name!r}, ...); predicted({name!r})"
        for number in MODULES
        for name in questions_of(number)
    )
    assert loaded(code, tmp_path) == set()


@pytest.mark.parametrize("number", MODULES)
def test_the_light_module_holds_all_that_a_chapter_asks(number):
    assert questions_of(number) is chapter_of(number).predictions


def test_in_a_notebook_torch_is_loaded_in_the_background(tmp_path):
    code = """
import threading, types
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
import pipelab.lessons
warm = [t for t in threading.enumerate() if t.name == "pipelab warm-up"]
assert len(warm) == 1 and warm[0].daemon
warm[0].join()
from pipelab.engine.launch import fork_server
assert fork_server.pid() is not None, "its server starts too"
"""
    assert {"torch", "matplotlib", "anywidget"} <= loaded(code, tmp_path)

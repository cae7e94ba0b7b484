"""No waiting before it is needed: to note or draw a prediction loads no torch."""

import subprocess
import sys

import nbclient
import nbformat
import pytest

from pipelab.lessons.chapters import MODULES, chapter_of, questions_of

HEAVY = {"torch", "matplotlib", "anywidget", "numpy"}


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


def test_a_kernel_loads_torch_when_it_is_idle_and_in_no_thread():
    """Where two threads import, one of them may get a module that is half loaded.

    The process that ranks are forked from is another one: it starts with the first cell.
    """
    cells = [
        "import sys, threading\nfrom pipelab.lessons import predict\n"
        "from pipelab.engine.launch import fork_server\n"
        "print('torch' in sys.modules, fork_server.pid() is not None)",
        "import asyncio\nfor _ in range(600):\n    await asyncio.sleep(0.1)\n"
        "    if 'pipelab.plots.figure' in sys.modules: break\n"
        f"print(sorted({HEAVY} & sys.modules.keys()))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    said = ["".join(out.get("text", "") for out in cell.outputs) for cell in notebook.cells]
    assert said == ["False True\n", f"{sorted(HEAVY)}\n"]


def test_a_process_that_has_only_loaded_the_kernel_s_package_stays_light(tmp_path):
    assert loaded("import ipykernel.kernelapp\nimport pipelab.lessons", tmp_path) == set()

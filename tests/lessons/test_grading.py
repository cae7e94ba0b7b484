"""Grading in a new interpreter: what the notebook's process has changed does not count."""

import builtins
import json
import os
import signal
import sys
import threading
from runpy import run_module

import cloudpickle
import pytest
from jupyter_client.manager import start_new_kernel

import pipelab.lessons
from pipelab import simulator
from pipelab.lessons import checking, comparing, edition, results, warm_up

pytestmark = pytest.mark.slow
LOCK = threading.Lock()
cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))  # as a notebook's


def right(costs, dishes, hand_over):
    print("costs", costs)
    return sum(costs) + hand_over * (len(costs) - 1) + (dishes - 1) * max(costs)


def wrong(costs, dishes, hand_over):
    return sum(costs) * dishes


def with_lock(costs, dishes, hand_over):
    with LOCK:
        return right(costs, dishes, hand_over)


class RunsWhereItIsRead:
    """An answer whose bytes do harm to whoever reads them."""

    def __call__(self, *arguments):
        return 0

    def __reduce__(self):
        return exec, ("import os; os._exit(0)",)


@pytest.fixture
def grade():
    yield run_module("pipelab.lessons.grading")["grade"]
    if grader := vars(sys).pop("_pipelab_grader", None):
        grader._end()


@pytest.fixture
def patches(monkeypatch):
    """What a cell above may have changed, so that everything would pass."""
    passed = results.Verdict("01.2", "passed", (results.Result("all", "", "", True),))
    monkeypatch.setattr(results.Verdict, "passed", property(lambda self: True))
    monkeypatch.setattr(checking, "check", lambda *_: passed)
    monkeypatch.setattr(pipelab.lessons, "check", lambda *_: passed, raising=False)
    monkeypatch.setattr(comparing, "same", lambda a, b: True)
    monkeypatch.setattr(simulator, "simulate", None)
    monkeypatch.setattr(builtins, "abs", lambda x: 0)
    monkeypatch.setattr(builtins, "all", lambda x: True)
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "{}")
    monkeypatch.setattr(json, "loads", lambda *_, **__: {"said": "", "passed": True})


def test_patches_change_no_grade(grade, patches, capsys):
    grade("01.2", right)
    out = capsys.readouterr().out
    assert "passed, " in out and "your answer printed:\n  costs [" in out
    with pytest.raises(AssertionError, match=r"01\.2 is not passed yet"):
        grade("01.2", wrong)
    assert "not yet" in capsys.readouterr().out


PATCHED = {
    "__import__": lambda *_, **__: None,
    "callable": lambda x: False,
    "getattr": lambda *_: "other",
    "isinstance": lambda *_: True,
    "len": lambda x: 0,
    "str": None,
    "type": lambda *_: None,
}


@pytest.mark.parametrize("name", PATCHED)
def test_what_a_cell_did_to_python_changes_no_grade(grade, name, monkeypatch, capsys):
    """They refused a right answer, or ended in a traceback."""
    run_module("pipelab.lessons.grading")["begin"]()  # with the first cell
    monkeypatch.setattr(sys, "path", [])
    own, caught = builtins.__dict__[name], None
    builtins.__dict__[name] = PATCHED[name]  # pytest needs them itself
    try:
        grade("01.2", right)
        grade("01.2", wrong)
    except AssertionError as error:
        caught = error
    finally:
        stays = builtins.__dict__[name] is PATCHED[name] and sys.path == []
        builtins.__dict__[name] = own
    assert "passed, " in capsys.readouterr().out
    assert stays and "01.2 is not passed yet" in str(caught)


def test_a_path_among_the_folders_of_modules_is_one(grade, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    grade("01.2", right)


def test_what_the_system_refuses_is_said(grade, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(AssertionError, match=r"01\.2 could not be graded: .*No such file"):
        grade("01.2", right)


def test_one_interpreter_grades_all_of_a_notebook(grade, capsys):
    grade("01.2", right)
    first = vars(sys)["_pipelab_grader"]
    run_module("pipelab.lessons.grading")["grade"]("01.2", right)
    assert vars(sys)["_pipelab_grader"] is first


def test_the_interpreter_may_start_before_the_first_check(grade, capsys):
    module = run_module("pipelab.lessons.grading")
    module["begin"]()
    first = vars(sys)["_pipelab_grader"]
    module["begin"]()
    grade("01.2", right)
    assert vars(sys)["_pipelab_grader"] is first


def test_in_a_notebook_that_nbgrader_executes_it_starts_with_the_import_of_check(
    grade, monkeypatch
):
    """And nothing is loaded into the kernel for runs that nobody sees."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setattr(warm_up, "_is_kernel", lambda: True)
    monkeypatch.setattr(warm_up.asyncio, "get_running_loop", lambda: pytest.fail("it loads"))
    monkeypatch.delitem(sys.modules, "pipelab.engine.pipeline", raising=False)
    warm_up.begin()
    assert "_pipelab_grader" not in vars(sys)  # lesson 0 has no exercise
    monkeypatch.delitem(sys.modules, "pipelab.lessons.checking", raising=False)
    run_module("pipelab.lessons.checking")
    assert "_pipelab_grader" in vars(sys)


def test_an_interpreter_that_has_ended_is_started_again(grade, capsys):
    grade("01.2", right)
    first = vars(sys)["_pipelab_grader"]
    first._process.kill()
    first._process.wait()
    grade("01.2", right)
    second = vars(sys)["_pipelab_grader"]
    assert second is not first and second.python is first.python


def test_an_interpreter_that_was_stopped_continues(grade, monkeypatch, capsys):
    run_module("pipelab.lessons.grading")["begin"]()
    first = vars(sys)["_pipelab_grader"]
    first._process.send_signal(signal.SIGSTOP)
    grade("01.2", right)
    assert vars(sys)["_pipelab_grader"] is first


def test_one_whose_files_were_closed_is_started_again(grade, capsys):
    run_module("pipelab.lessons.grading")["begin"]()
    first = vars(sys)["_pipelab_grader"]
    os.close(first._to.fileno())
    grade("01.2", right)
    assert vars(sys)["_pipelab_grader"] is not first


def test_a_verdict_that_cannot_be_shown_is_a_grade_all_the_same(grade, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    grade("01.2", right)
    with pytest.raises(AssertionError, match="not passed yet"):
        grade("01.2", wrong)


ANSWERS = """
from pipelab.lessons import check

def right(costs, dishes, hand_over):
    return sum(costs) + hand_over * (len(costs) - 1) + (dishes - 1) * max(costs)

def wrong(costs, dishes, hand_over):
    return sum(costs) * dishes
"""
HARM = """
import builtins, cloudpickle, os, pickle, runpy, select, signal, subprocess, sys

os.kill(sys._pipelab_grader._process.pid, signal.SIGKILL)
for name in ("pipelab", "pipelab.errors", "subprocess", "json", "torch", "cloudpickle", "runpy"):
    sys.modules[name] = None
runpy.run_module = lambda *_: {"grade": lambda *_: None}
os.read = os.write = os.pipe = os.kill = select.select = subprocess.Popen.__init__ = None
cloudpickle.Pickler.dump = pickle.dumps = None
sys.path.clear()
sys.meta_path.clear()
sys.stdout = None

def refuse(*_, **__):
    raise RuntimeError("a cell's own")

builtins.isinstance = lambda *_: True
builtins.__import__ = refuse
"""


def graded(answer):
    return edition._graded(f'check("01.2", {answer})')


def test_in_a_kernel_the_graded_cell_has_pythons_own_functions_and_modules(monkeypatch, tmp_path):
    """Without them, its first line ended in a traceback, or passed whatever came."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("PIPELAB_HOME", str(tmp_path))
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=200)

    def run(cell):
        said = client.execute_interactive(cell, timeout=300, output_hook=lambda _: None)
        return said["content"]

    try:
        assert run(ANSWERS)["status"] == "ok"
        run(HARM)
        assert run(graded("right"))["status"] == "ok"
        assert run(graded("wrong"))["evalue"] == "01.2 is not passed yet"
        assert run("import json")["status"] == "error", "its own cells have what it patched"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_what_cannot_be_graded_says_why(grade):
    with pytest.raises(AssertionError, match=r"could not be graded:(.|\n)*no exercise '01\.9'"):
        grade("01.9", right)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "nothing yet"),
        (7, "int"),
        (with_lock, "LOCK, a lock"),
        (RunsWhereItIsRead(), "its process ended"),
    ],
)
def test_what_is_no_answer_is_not_passed(grade, answer, words, capsys):
    with pytest.raises(AssertionError, match="not passed yet"):
        grade("01.2", answer)
    assert words in capsys.readouterr().out

"""A class graded by nbgrader: what the export promises, tried with nbgrader itself.

nbgrader is no dependency of pipelab. To run this: ``pip install nbgrader``, then
``python -m pytest -m slow tests/lessons/test_nbgrader.py``.
"""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from pipelab.lessons.edition import BEGIN, generate, read, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("nbgrader") is None,
        reason="nbgrader is not installed, and optional: pip install nbgrader",
    ),
]
TEACHER = Path(__file__).parent.parent.parent / "notebooks" / "teacher"
WRONG = {
    "01_the_relay_team.ipynb": {
        "order_of": "    return [[f'{c}F{d}' for d in range(dishes)] for c in range(cooks)]",
        "minutes": "    return sum(costs) * dishes",
    },
    "06_the_payoff_and_its_limits.ipynb": {
        "choose": "    return 'gpipe', 4, 8",
        "speedup": "    return p",
    },
}
GUESS = {
    "01_the_relay_team.ipynb": "guess = 8",
    "06_the_payoff_and_its_limits.ipynb": "guess = 20",
}


def nbgrader(course: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    paths = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "PIPELAB_HOME": "progress"}
    env = os.environ | {name: str(course.parent / folder) for name, folder in paths.items()}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # it calls alembic
    done = subprocess.run(
        command, cwd=course, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def submit(
    course: Path, lesson: str, student: str, answers: dict[str, str], first: str = ""
) -> None:
    """The released notebook, with these bodies where a cell defines these functions.

    ``first``: what the student writes above all.
    """
    assignment = Path(lesson).stem
    notebook = read(course / "release" / assignment / lesson)
    for cell in notebook.cells:
        for name, body in answers.items():
            if cell.cell_type == "code" and cell.source.startswith(f"def {name}("):
                assert "raise NotImplementedError()" in cell.source, "released with a solution"
                cell.source = cell.source.splitlines()[0] + "\n" + body
    if first:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    folder = course / "submitted" / student / assignment
    folder.mkdir(parents=True)
    write(notebook, folder / lesson)


def solutions(lesson: str) -> dict[str, str]:
    """The bodies that the teacher's notebook has between the two lines."""
    found = {}
    for cell in read(TEACHER / lesson).cells:
        if cell.cell_type == "code" and cell.source.startswith("def ") and BEGIN in cell.source:
            name = cell.source.removeprefix("def ").partition("(")[0]
            found[name] = "\n".join(cell.source.splitlines()[1:])
    return found


PATCHES = """
import builtins
import pipelab.lessons
from pipelab.lessons import checking, results
from pipelab.simulator import Cost

results.Verdict.passed = property(lambda self: True)
checking.check = pipelab.lessons.check = lambda *_: results.Verdict("x", "x", ())
Cost.__eq__ = lambda *_: True
builtins.abs = builtins.sum = lambda *_: 0
builtins.all = lambda _: True
"""


def grade(course: Path, assignment: str) -> dict[str, float]:
    """The score of each student, all of whom can have two points."""
    nbgrader(course, "autograde", assignment, "--create", "--ExecutePreprocessor.timeout=120")
    nbgrader(course, "export", "--to", "grades.csv")
    with (course / "grades.csv").open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert all(float(row["max_score"]) == 2.0 for row in rows.values())
    return {name: float(row["score"]) for name, row in rows.items()}


@pytest.mark.parametrize("lesson", WRONG)
def test_right_answers_get_all_points_and_wrong_ones_none(lesson, tmp_path):
    course = tmp_path / "course"
    assignment = Path(lesson).stem
    generate("nbgrader", TEACHER, course / "source")

    nbgrader(course, "generate_assignment", assignment, "--create")
    path = course / "release" / assignment / lesson
    released = "\n".join([path.read_text("utf-8"), *(cell.source for cell in read(path).cells)])
    right = solutions(lesson)
    assert right.keys() == WRONG[lesson].keys()
    lines = [line for body in right.values() for line in body.splitlines()]
    assert not [secret for secret in (*lines, GUESS[lesson]) if secret in released]

    submit(course, lesson, "right", right)
    submit(course, lesson, "wrong", WRONG[lesson])
    submit(course, lesson, "untouched", {})
    submit(course, lesson, "patched", WRONG[lesson], PATCHES)
    submit(course, lesson, "patched and right", right, PATCHES)
    expected = {"right": 2.0, "wrong": 0.0, "untouched": 0.0}
    assert grade(course, assignment) == expected | {"patched": 0.0, "patched and right": 2.0}


def test_first_steps_are_an_assignment_without_points(tmp_path):
    course = tmp_path / "course"
    generate("nbgrader", TEACHER, course / "source")
    nbgrader(course, "generate_assignment", "00_start_here", "--create")
    assert (course / "release" / "00_start_here" / "00_start_here.ipynb").exists()

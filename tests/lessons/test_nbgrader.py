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


def submit(course: Path, lesson: str, student: str, answers: dict[str, str]) -> None:
    """The released notebook, with these bodies where a cell defines these functions."""
    notebook = read(course / "release" / "week" / lesson)
    for cell in notebook.cells:
        for name, body in answers.items():
            if cell.cell_type == "code" and cell.source.startswith(f"def {name}("):
                assert "raise NotImplementedError()" in cell.source, "released with a solution"
                cell.source = cell.source.splitlines()[0] + "\n" + body
    folder = course / "submitted" / student / "week"
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


@pytest.mark.parametrize("lesson", WRONG)
def test_right_answers_get_all_points_and_wrong_ones_none(lesson, tmp_path):
    course = tmp_path / "course"
    generate("nbgrader", TEACHER, tmp_path / "all")
    source = course / "source" / "week"
    source.mkdir(parents=True)
    (tmp_path / "all" / lesson).rename(source / lesson)

    nbgrader(course, "generate_assignment", "week", "--create")
    path = course / "release" / "week" / lesson
    released = "\n".join([path.read_text("utf-8"), *(cell.source for cell in read(path).cells)])
    right = solutions(lesson)
    assert right.keys() == WRONG[lesson].keys()
    lines = [line for body in right.values() for line in body.splitlines()]
    assert not [secret for secret in (*lines, GUESS[lesson]) if secret in released]

    submit(course, lesson, "right", right)
    submit(course, lesson, "wrong", WRONG[lesson])
    submit(course, lesson, "untouched", {})
    nbgrader(course, "autograde", "week", "--create", "--ExecutePreprocessor.timeout=120")
    nbgrader(course, "export", "--to", "grades.csv")
    with (course / "grades.csv").open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {name: float(row["score"]) for name, row in rows.items()} == {
        "right": 2.0,
        "wrong": 0.0,
        "untouched": 0.0,
    }
    assert all(float(row["max_score"]) == 2.0 for row in rows.values())

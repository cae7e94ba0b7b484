"""``notebooks/README.md`` says how to write a lesson: done here to the letter, in a copy.

The template becomes lesson 13 of a copy of this project, and the project's own tests judge it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lessons.new import PLACES, make

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "notebooks" / "template"
COPIED = (
    *("pipelab", "tests", "conftest.py", "pyproject.toml"),
    *("notebooks/00_start_here.ipynb", "notebooks/README.md", "notebooks/template"),
)
NUMBERS = ("07", "13")


def run(project: Path, *command: str) -> str:
    """A command in the copy, which its processes import in place of this project."""
    env = os.environ | {"PYTHONPATH": str(project), "PIPELAB_HOME": str(project / "progress")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project, env=env, capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        shown = f"$ python -m {' '.join(command)}\n{readable(done.stdout)}\n{done.stderr[-1500:]}"
        pytest.fail(f"the template does not pass as lesson {project.name}\n{shown}", pytrace=False)
    return done.stdout


def readable(output: str) -> str:
    """Of what pytest says, which tests failed and why; of another command all, as far as it fits.

    >>> readable("...\\n    code\\nE   assert 1 == 2\\nFAILED a.py::b - assert 1 == 2")
    'E   assert 1 == 2\\nFAILED a.py::b - assert 1 == 2'
    """
    lines = [line for line in output.splitlines() if line.startswith(("E  ", "FAILED", "ERROR"))]
    return "\n".join(lines[:40]) or output[-1500:]


def copy_of_project(place: Path, *names: str) -> Path:
    for name in names:
        source, target = ROOT / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (place / "notebooks" / "teacher").mkdir()
    return place


def forget_lesson(place: Path, number: str) -> None:
    """Make room in the copy for a new lesson of a number that this project has, if it does."""
    for path in (*place.rglob(f"ch{number}_*.py"), *place.rglob(f"wrong_{number}.py")):
        path.unlink()
    for name, row in (
        ("pipelab/lessons/chapters/__init__.py", rf'^    "{number}": .*\n'),
        ("notebooks/README.md", rf"^\| {int(number)} \| .*\n"),
    ):
        file = place / name
        file.write_text(re.sub(row, "", file.read_text("utf-8"), flags=re.MULTILINE), "utf-8")


@pytest.fixture(params=NUMBERS)
def project(request, tmp_path):
    """The copy, with the template as lesson of this number, executed and stored."""
    copy = copy_of_project(tmp_path / request.param, *COPIED)
    forget_lesson(copy, request.param)
    make(copy, request.param, "mine")
    run(copy, "tests.lessons.store", request.param)
    return copy


@pytest.mark.parametrize("number", ["07", "13", "42"])
def test_a_lesson_of_any_number_is_made(number, tmp_path):
    chapters = "pipelab/lessons/chapters/__init__.py"
    copy = copy_of_project(tmp_path, "notebooks/template", "notebooks/README.md", chapters)
    (copy / "tests" / "lessons").mkdir(parents=True)
    forget_lesson(copy, number)
    before = sorted(path for path in copy.rglob("*") if path.is_file())
    files = make(copy, number, "hide_messages")
    assert sorted(path for path in copy.rglob("*") if path.is_file()) == sorted([*before, *files])
    assert {path.name for path in TEMPLATE.iterdir() if path.is_file()} == set(PLACES)
    texts = [path.read_text("utf-8") for path in files]
    assert not any("99" in text for text in texts)
    assert f'"# Lesson {int(number)} · ' in texts[0] and f"lesson {int(number)}," in texts[1]
    assert f'"{number}.1": Exercise(' in texts[2]
    modules = re.findall(r'^    "(\d\d)": "ch(\d\d)_', (copy / chapters).read_text(), re.MULTILINE)
    assert (number, number) in modules and modules == sorted(modules)
    readme = (copy / "notebooks" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ", readme, re.MULTILINE)
    assert rows == [*map(str, sorted(map(int, rows)))] and str(int(number)) in rows
    with pytest.raises(SystemExit, match="is there already"):
        make(copy, number, "again")


@pytest.mark.parametrize("arguments", [("7", "mine"), ("07", "Mine!"), ("007", "mine")])
def test_a_name_that_will_not_do_is_refused(arguments, tmp_path):
    with pytest.raises(SystemExit, match="two digits"):
        make(tmp_path, *arguments)


@pytest.mark.slow
def test_template_passes_the_lint(project):
    said = run(project, "pytest", "-q", "tests/test_notebooks.py", "-k", f"{project.name}_mine")
    assert " passed" in said and "skipped" not in said


@pytest.mark.slow
def test_template_distinguishes_right_from_wrong(project):
    notebook = f"notebooks/{project.name}_mine.ipynb"
    tests = "tests/lessons/test_checks.py", "tests/lessons/test_editions.py"
    assert " passed" in run(project, "pytest", "-q", *tests, notebook, "-k", project.name)
    assert "every check PASSED" in run(project, "pytest", "-v", notebook)

"""``notebooks/README.md`` says how to write a lesson: done here to the letter, in a copy.

The template becomes lesson 13 of a copy of this project, and the project's own tests judge it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "notebooks" / "template"
PLACES = {
    "99_template.ipynb": "notebooks/teacher/13_mine.ipynb",
    "99_template.md": "notebooks/teacher/13_mine.md",
    "ch99_template.py": "pipelab/lessons/chapters/ch13_mine.py",
    "wrong_99.py": "tests/lessons/wrong_13.py",
}
COPIED = ("pipelab", "tests", "conftest.py", "pyproject.toml", "notebooks/00_start_here.ipynb")


def run(project: Path, *command: str) -> str:
    """A command in the copy, which its processes import in place of this project."""
    env = os.environ | {"PYTHONPATH": str(project), "PIPELAB_HOME": str(project / "progress")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project, env=env, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def project(tmp_path):
    """The copy, with the template's files in their places, and the chapter named."""
    for name in COPIED:
        source, place = ROOT / name, tmp_path / name
        place.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    (tmp_path / "notebooks" / "teacher").mkdir()
    assert {path.name for path in TEMPLATE.iterdir() if path.is_file()} == set(PLACES)
    for name, place in PLACES.items():
        text = (TEMPLATE / name).read_text("utf-8").replace("99", "13")
        (tmp_path / place).write_text(text, "utf-8")
    chapters = tmp_path / "pipelab" / "lessons" / "chapters" / "__init__.py"
    named = 'MODULES = {\n    "13": "ch13_mine",'
    chapters.write_text(chapters.read_text("utf-8").replace("MODULES = {", named), "utf-8")
    return tmp_path


def make(project: Path) -> None:
    """The learner's notebook, executed and stored."""
    run(project, "tests.lessons.store", "13")


@pytest.mark.slow
def test_template_passes_the_lint(project):
    make(project)
    said = run(project, "pytest", "-q", "tests/test_notebooks.py", "-k", "13_mine")
    assert " passed" in said and "skipped" not in said


@pytest.mark.slow
def test_template_distinguishes_right_from_wrong(project):
    make(project)
    tests = "tests/lessons/test_checks.py", "tests/lessons/test_editions.py"
    said = run(project, "pytest", "-q", *tests, "notebooks/13_mine.ipynb", "-k", "13")
    assert " passed" in said
    assert "every check PASSED" in run(project, "pytest", "-v", "notebooks/13_mine.ipynb")

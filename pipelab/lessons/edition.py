"""One source per lesson, three editions: the learner's, the teacher's, and nbgrader's.

The source is the teacher's notebook. What stands between these two lines is the solution:

    ### BEGIN SOLUTION
    ### END SOLUTION

For learners, inside a function it becomes ``raise NotImplementedError``; elsewhere it is removed,
and the line before it, ``answer = ...``, remains. Cells tagged ``teacher`` are removed.
"""

import copy
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from pipelab.errors import LessonError
from pipelab.files import replace_text
from pipelab.lessons.cell_parts import parted
from pipelab.lessons.contents import GLOSSARY, Lesson, glossary, lesson_of, linked, unlinked

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = 'raise NotImplementedError("your turn")'
SKIPPED = "skip-execution"  # nbclient's tag, which nbgrader uses
NAMES = "[0-9][0-9]_*.ipynb"
_PREDICTION = re.compile(r"^predict\(", re.MULTILINE)
_CHECK = re.compile(r'^check\("([0-9]{2}\.[0-9])"', re.MULTILINE)


class Written(NamedTuple):
    """The files of an edition: ``new``, and those that were there already and differ: ``kept``."""

    new: list[Path]
    kept: list[Path]


def generate(edition: str, source: Path, folder: Path, force: bool = False) -> Written:
    """Write an edition of all lessons of a folder of teacher's notebooks.

    A notebook that is there and differs may hold somebody's work: it stays, or, with ``force``,
    gets another name.

    Args:
        edition: one of ``EDITIONS``.
        source: the folder of the teacher's notebooks.
        folder: where to. nbgrader wants a folder for each assignment: there each lesson has one.
        force: whether to write also where a notebook differs.

    Raises:
        LessonError: no such edition, no lesson there, or a solution without its last line.
    """
    if edition not in EDITIONS:
        raise LessonError(f"{edition!r} is no edition: choose one of {', '.join(EDITIONS)}")
    sources = sorted(source.glob(NAMES))
    if not sources:
        raise LessonError(f"{source} holds no teacher's notebooks, named NN_name.ipynb")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() == source.resolve():
        raise LessonError(f"{folder} holds the source itself: choose another folder")
    written = Written([], [])
    course = course_of(source)
    for path in [*_without_solutions(source), *sources]:
        place = folder / path.stem / path.name if edition == "nbgrader" else folder / path.name
        place.parent.mkdir(exist_ok=True)
        notebook = EDITIONS[edition](read(path))
        if edition == "nbgrader":  # each assignment is alone in its folder
            unlinked(notebook)
        else:
            linked(notebook, path.name[:2], course)
        done = _write_beside(notebook, place, force)
        (written.new if done else written.kept).append(place)
    if edition != "nbgrader":
        written.new.append(replace_text(folder / GLOSSARY, glossary(course)))
    if edition == "teacher":
        written.new.extend(
            replace_text(folder / p.name, p.read_text("utf-8")) for p in _notes(source)
        )
    return written


def course_of(source: Path) -> list[Lesson]:
    """All lessons of a folder of teacher's notebooks, the first steps included, in order."""
    return [
        lesson_of(path, read(path))
        for path in [*_without_solutions(source), *sorted(source.glob(NAMES))]
    ]


def _notes(source: Path) -> list[Path]:
    """The teacher's note of each lesson."""
    return sorted(source.glob("[0-9][0-9]_*.md"))


def _without_solutions(source: Path) -> list[Path]:
    """Lessons that need no edition, such as the first steps: in a clone, and in a wheel."""
    for folder in (source.parent, source.parent / "notebooks"):
        if found := sorted(folder.glob("00_*.ipynb")):
            return found
    return []


def _write_beside(notebook: NotebookNode, place: Path, force: bool) -> bool:
    """Write a notebook, unless another one is there; whether it is there now."""
    if place.exists() and _text(notebook) != place.read_text("utf-8", "replace"):
        if not force:
            return False
        names = (place.with_suffix(f".old{n or ''}.ipynb") for n in count())
        place.rename(next(name for name in names if not name.exists()))
    write(notebook, place)
    return True


def read(path: Path) -> NotebookNode:
    """The notebook in a file."""
    notebook: NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
        path.read_text("utf-8"), as_version=4
    )
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook to a file."""
    replace_text(path, _text(notebook))


def _text(notebook: NotebookNode) -> str:
    return f"{nbformat.writes(notebook)}\n"  # type: ignore[no-untyped-call]


def learner(teacher: NotebookNode) -> NotebookNode:
    """The notebook without its solutions, and without outputs."""
    notebook = _for_learners(teacher)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = strip(cell.source)
    return notebook


def nbgrader(teacher: NotebookNode) -> NotebookNode:
    """The notebook with nbgrader's marks: solutions to clear, checks to grade.

    Predictions are not graded: they are the same as in the learner's. Cells that run ranks and show
    them are skipped while a submission is graded; what else they define is not.
    """
    notebook = _for_learners(teacher)
    cells: list[NotebookNode] = []
    slow_names: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        found = _CHECK.search(cell.source)
        if cell.cell_type != "code":
            cells.append(cell)
        elif BEGIN in cell.source and not _PREDICTION.search(cell.source):
            cell.metadata["nbgrader"] = _mark(f"solution-{number}", solution=True)
            cells.append(cell)
        elif found:
            cell.source = cell.source[: found.start()] + _graded(cell.source[found.start() :])
            cell.metadata["nbgrader"] = _mark(f"check-{found[1].replace('.', '-')}", solution=False)
            cells.append(cell)
        else:
            cells += _parts(cell, slow_names)
    notebook.cells = cells
    return notebook


def _parts(cell: NotebookNode, slow_names: set[str]) -> list[NotebookNode]:
    """A cell as one that a grader executes, and one that it skips; only one if that is all."""
    quick, slow = parted(strip(cell.source), slow_names)
    parts: list[NotebookNode] = []
    for source, suffix in ((quick, "-names" if slow else ""), (slow, "")):
        if source:
            part = copy.deepcopy(cell)
            part.source, part.id = source, f"{cell.id}{suffix}"
            parts.append(part)
    if slow:
        parts[-1].metadata["tags"] = [*cell.metadata.get("tags", []), SKIPPED]
    return parts


def strip(source: str) -> str:
    r"""A cell's source without its solutions. Raises LessonError if one does not end.

    >>> print(strip("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"))
    def f():
        raise NotImplementedError("your turn")
    """
    kept: list[str] = []
    inside = False
    for line in source.splitlines():
        text = line.strip()
        if text == BEGIN:
            inside = True
            if indent := line[: len(line) - len(line.lstrip())]:
                kept.append(indent + STUB)
        elif text == END:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise LessonError(f"a solution does not end: write {END} below it, in\n{source}")
    return "\n".join(kept)


def _clean(teacher: NotebookNode) -> NotebookNode:
    notebook = copy.deepcopy(teacher)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return notebook


def _for_learners(teacher: NotebookNode) -> NotebookNode:
    notebook = _clean(teacher)
    notebook.cells = [c for c in notebook.cells if "teacher" not in c.metadata.get("tags", [])]
    return notebook


def _graded(line: str) -> str:
    """The check as a test, loaded anew: a cell above may have changed what has this name."""
    again = 'grade = run_module("pipelab.lessons.grading")["grade"]'
    return f"from runpy import run_module\n\n{again}\n{line.rstrip().replace('check', 'grade', 1)}"


def _mark(name: str, solution: bool) -> NotebookNode:
    """The marks of one cell: a solution to write, or a locked test worth a point."""
    mark = {"grade": not solution, "solution": solution, "locked": not solution, "task": False}
    points = {} if solution else {"points": 1}
    marks = mark | points | {"grade_id": name, "schema_version": 3}
    return NotebookNode(marks)  # type: ignore[no-untyped-call]


EDITIONS: dict[str, Callable[[NotebookNode], NotebookNode]] = {
    "learner": learner,
    "nbgrader": nbgrader,
    "teacher": _clean,
}

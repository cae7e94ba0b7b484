"""One source per lesson, three editions: the learner's, the teacher's, and nbgrader's.

The source is the teacher's notebook. What stands between these two lines is the solution:

    ### BEGIN SOLUTION
    ### END SOLUTION

For learners, inside a function it becomes ``raise NotImplementedError``; elsewhere it is removed,
and the line before it, ``answer = ...``, remains. Cells tagged ``teacher`` are removed.
"""

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from pipelab.errors import LessonError
from pipelab.files import free_name, replace_text, replacing
from pipelab.lessons.cell_parts import parted
from pipelab.lessons.contents import GLOSSARY, Lesson, glossary, lesson_of, linked, unlinked

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = 'raise NotImplementedError("your turn")'
SKIPPED = "skip-execution"  # nbclient's tag, which nbgrader uses
NAMES = "[0-9][0-9]_*.ipynb"
_PREDICTION = re.compile(r"^predict\(", re.MULTILINE)
_CHECK = re.compile(r'^check\("([0-9]{2}\.[0-9])"', re.MULTILINE)


class Written(NamedTuple):
    """The files of an edition.

    Attributes:
        new: they hold the edition now.
        kept: something else was there, and is there still.
        aside: what was there, and the name that it has now.
    """

    new: list[Path]
    kept: list[Path]
    aside: list[tuple[Path, Path]]


def generate(edition: str, source: Path, folder: Path, force: bool = False) -> Written:
    """Write an edition of all lessons of a folder of teacher's notebooks.

    What is there and differs may hold somebody's work: it stays, or, with ``force``, gets another
    name.

    Args:
        edition: one of ``EDITIONS``.
        source: the folder of the teacher's notebooks.
        folder: where to. nbgrader wants a folder for each assignment: there each lesson has one.
        force: whether to write also where something else is.

    Raises:
        LessonError: no such edition, no lesson there, or a solution without its last line.
        OSError: a file cannot be written; what was there is there still.
    """
    if edition not in EDITIONS:
        raise LessonError(f"{edition!r} is no edition: choose one of {', '.join(EDITIONS)}")
    sources = sorted(source.glob(NAMES))
    if not sources:
        raise LessonError(f"{source} holds no teacher's notebooks, named NN_name.ipynb")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() == source.resolve():
        raise LessonError(f"{folder} holds the source itself: choose another folder")
    written = Written([], [], [])
    course = course_of(source)
    for path in [*_without_solutions(source), *sources]:
        place = folder / path.stem / path.name if edition == "nbgrader" else folder / path.name
        place.parent.mkdir(exist_ok=True)
        notebook = EDITIONS[edition](read(path))
        if edition == "nbgrader":  # each assignment is alone in its folder
            unlinked(notebook)
        else:
            linked(notebook, path.name[:2], course)
        # whatever is in an assignment's folder is handed out with it: what was there leaves it
        _put(_text(notebook), place, folder / path.name, force, written)
    pages = {} if edition == "nbgrader" else {GLOSSARY: glossary(course)}
    if edition == "teacher":
        pages |= {path.name: path.read_text("utf-8") for path in _notes(source)}
    for name, text in pages.items():
        _put(text, folder / name, folder / name, force, written)
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


def _put(text: str, place: Path, beside: Path, force: bool, written: Written) -> None:
    """Write a file, unless something else is there: it stays, or gets a name like ``beside``."""
    data = text.encode("utf-8")
    is_taken = os.path.lexists(place)
    if is_taken and place.is_file() and place.read_bytes() == data:
        written.new.append(place)
    elif is_taken and not force:
        written.kept.append(place)
    else:
        with replacing(place) as file:
            file.write(data)
            file.flush()  # on a full disk, what is there keeps its name
            if is_taken:
                aside = free_name(beside, "old")
                place.rename(aside)
                written.aside.append((place, aside))
        written.new.append(place)


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

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
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from pipelab.errors import LessonError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = 'raise NotImplementedError("your turn")'
NAMES = "[0-9][0-9]_*.ipynb"
_PREDICTION = re.compile(r"^predict\(", re.MULTILINE)
_CHECK = re.compile(r'^check\("([0-9]{2}\.[0-9])"', re.MULTILINE)


def generate(edition: str, source: Path, folder: Path) -> list[Path]:
    """Write an edition of all lessons of a folder of teacher's notebooks; returns the files.

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
    written = []
    for path in sources:
        write(EDITIONS[edition](read(path)), folder / path.name)
        written.append(folder / path.name)
    return written


def read(path: Path) -> NotebookNode:
    """The notebook in a file."""
    notebook: NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
        path.read_text("utf-8"), as_version=4
    )
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook to a file."""
    path.write_text(nbformat.writes(notebook) + "\n", "utf-8")  # type: ignore[no-untyped-call]


def learner(teacher: NotebookNode) -> NotebookNode:
    """The notebook without its solutions, and without outputs."""
    notebook = _for_learners(teacher)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = strip(cell.source)
    return notebook


def nbgrader(teacher: NotebookNode) -> NotebookNode:
    """The notebook with nbgrader's marks: solutions to clear, checks to grade.

    Predictions are not graded: they are the same as in the learner's.
    """
    notebook = _for_learners(teacher)
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        found = _CHECK.search(cell.source)
        if _PREDICTION.search(cell.source):
            cell.source = strip(cell.source)
        elif BEGIN in cell.source:
            cell.metadata["nbgrader"] = _mark(f"solution-{number}", solution=True)
        elif found:
            cell.source = cell.source[: found.start()] + _graded(cell.source[found.start() :])
            cell.metadata["nbgrader"] = _mark(f"check-{found[1].replace('.', '-')}", solution=False)
    return notebook


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
    """The check as a test; imported again, since a cell above may have changed the name."""
    again = "from pipelab.lessons import check"
    return f"{again}\n\nverdict = {line.rstrip()}\nprint(verdict)\nassert verdict.passed"


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

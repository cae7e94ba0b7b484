"""Each lesson is executed once: as the learner has it, and on with what the teacher's adds.

nbval runs the learner's notebook from the top, untouched, and compares what is marked for it. In
the same kernel then come the teacher's cells that can turn out differently: the answers, and all
that looks at a prediction or an answer. At the end, the kept progress must say that every check
was passed and that every prediction was right. So an answer is judged by the runs that the notebook
made, and no run is made twice.

What a cell gave that answers a prediction is not stored in the notebook; it is compared as well.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from pipelab.lessons.edition import read
from tests.lessons.hidden_outputs import hidden

LOOKS_AT_AN_ANSWER = ("reveal(", "check(", "predicted(")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After a whole learner's notebook: the teacher's cells, and what they must have reached."""
    for item in items:
        if isinstance(item, IPyNbCell) and not item.cell.outputs:
            item.cell.outputs = hidden(item.path.name[:2], item.cell.get("id", ""))
    found: list[pytest.Item] = []
    for parent, group in groupby(items, key=lambda item: item.parent):
        found += [*group]
        if (
            isinstance(parent, IPyNbFile)
            and _is_whole(parent, found)
            and _teachers(parent).exists()
        ):
            found += _teachers_cells(parent)
            found.append(AllPassed.from_parent(parent, name="Teacher passes every check"))
    items[:] = found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """The kernel of a notebook, which starts with its first cell, keeps its progress alone."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELAB_HOME", str(_home(item.path)))
        return (yield)


class AllPassed(pytest.Item):
    """The checks and predictions of a lesson, by the file in which its kernel kept them."""

    def runtest(self) -> None:
        """Assert that each check passed, and that each prediction was met by its measurement."""
        from pipelab.lessons.chapters import chapter_of  # loads torch: not where nothing runs

        number = self.path.name[:2]
        chapter = chapter_of(number)
        progress = json.loads((_home(self.path) / "progress.json").read_text("utf-8"))
        passed = {name: row["passed"] for name, row in progress["checks"].items()}
        assert passed == dict.fromkeys(chapter.exercises, True)
        assert set(progress["predictions"]) == set(chapter.predictions)
        for name, row in progress["predictions"].items():
            assert row.keys() == {"value", "measured"}, "predicted, and revealed"
            said = chapter.predictions[name].explain(row["value"], row["measured"])
            assert "You said so" in said or "well predicted" in said, said

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands, for reports."""
        return self.path, 0, self.name


def _home(notebook: Path) -> Path:
    return Path(os.environ["PIPELAB_HOME"]) / notebook.stem


def _teachers(parent: IPyNbFile) -> Path:
    return parent.path.parent / "teacher" / parent.path.name


def _is_whole(parent: IPyNbFile, items: list[pytest.Item]) -> bool:
    """Whether all code cells of this notebook are to run."""
    chosen = sum(item.parent is parent for item in items)
    return chosen == sum(cell.cell_type == "code" for cell in parent.nb.cells)


def _teachers_cells(parent: IPyNbFile) -> Iterator[IPyNbCell]:
    learners = {cell.id: cell.source for cell in parent.nb.cells}
    for number, cell in enumerate(
        c for c in read(_teachers(parent)).cells if c.cell_type == "code"
    ):
        looks = any(call in cell.source for call in LOOKS_AT_AN_ANSWER)
        if looks or cell.source != learners.get(cell.id):
            yield IPyNbCell.from_parent(
                parent,
                name=f"Teacher's cell {number}",
                cell_num=number,
                cell=cell,
                options=defaultdict(bool),  # its outputs are not compared
            )

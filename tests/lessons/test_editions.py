"""One source, two editions: they agree, and the learner's passes nothing.

That the teacher's passes everything is seen where the notebooks run: ``tests/teacher_cells.py``.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest

from pipelab.cli.main import main
from pipelab.errors import LessonError
from pipelab.lessons.chapters import MODULES, chapter_of
from pipelab.lessons.edition import generate, learner, nbgrader, read, strip

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
TEACHER = sorted((NOTEBOOKS / "teacher").glob("[0-9]*.ipynb"))
PAIRS = pytest.mark.parametrize("source", TEACHER, ids=lambda path: path.stem)

ANSWER = 'cuts = ...\n### BEGIN SOLUTION\ncuts = [1]\n### END SOLUTION\ncheck("01.1", cuts)'
CHECK = re.compile(r'^check\("([0-9.]+)"', re.MULTILINE)


def sources(notebook):
    return [(c.id, c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


def test_every_chapter_has_a_notebook():
    assert [path.name[:2] for path in TEACHER] == list(MODULES)


@PAIRS
def test_shipped_notebook_is_what_the_source_gives(source):
    shipped = read(NOTEBOOKS / source.name)
    assert sources(shipped) == sources(learner(read(source)))
    assert "SOLUTION" not in json.dumps(shipped)


@PAIRS
def test_untouched_learner_notebook_passes_no_check(source):
    """The stored verdicts; nbval compares them with those of a new run."""
    checks = [cell for cell in read(NOTEBOOKS / source.name).cells if CHECK.search(cell.source)]
    assert [CHECK.search(cell.source)[1] for cell in checks] == [
        *chapter_of(source.name[:2]).exercises
    ]
    for cell in checks:
        assert cell.metadata.tags == ["nbval-check-output"]
        assert ": not yet, 0 of" in cell.outputs[-1].data["text/plain"]


@PAIRS
def test_teacher_has_a_note_of_one_page(source):
    note = source.with_suffix(".md").read_text("utf-8")
    assert 15 <= len(note.splitlines()) <= 60
    for heading in ("## Misconceptions", "## The picture", "## Minutes", "## On one core"):
        assert heading in note


# ---------------------------------------------------------------------------- the generator


def test_solution_in_a_function_becomes_a_stub():
    cell = "def f(x):\n    # in words\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    assert strip(cell) == ('def f(x):\n    # in words\n    raise NotImplementedError("your turn")')


def test_solution_elsewhere_leaves_the_line_before_it():
    assert strip(ANSWER) == 'cuts = ...\ncheck("01.1", cuts)'


def test_solution_without_an_end_is_refused():
    with pytest.raises(LessonError, match="does not end"):
        strip("### BEGIN SOLUTION\n1")


def test_teachers_cells_and_outputs_do_not_reach_learners():
    new = nbformat.v4
    output = new.new_output("stream", text="secret")
    cells = [
        new.new_markdown_cell("for you alone", metadata={"tags": ["teacher"]}),
        new.new_code_cell(ANSWER, outputs=[output], execution_count=3),
    ]
    (cell,) = learner(new.new_notebook(cells=cells)).cells
    assert (cell.outputs, cell.execution_count) == ([], None)


def test_nbgrader_gets_solutions_to_clear_and_locked_checks():
    new = nbformat.v4
    guess = 'guess = ...\n### BEGIN SOLUTION\nguess = 8\n### END SOLUTION\npredict("01", guess)'
    cells = [
        new.new_markdown_cell("for you alone", metadata={"tags": ["teacher"]}),
        new.new_code_cell(guess),
        new.new_code_cell(ANSWER.rpartition("\n")[0]),
        new.new_code_cell('check("01.1", cuts)'),
    ]
    prediction, solution, check = nbgrader(new.new_notebook(cells=cells)).cells
    assert prediction.source == 'guess = ...\npredict("01", guess)', "guesses are not graded"
    assert "nbgrader" not in prediction.metadata
    assert solution.metadata.nbgrader.solution and not solution.metadata.nbgrader.locked
    assert check.metadata.nbgrader.grade and check.metadata.nbgrader.locked
    assert check.source.endswith("assert verdict.passed")
    names = [cell.metadata.nbgrader.grade_id for cell in (solution, check)]
    assert all(re.fullmatch(r"[a-zA-Z0-9_\-]+", name) for name in names), "nbgrader's own rule"


@pytest.mark.parametrize("name", ["learner", "teacher", "nbgrader"])
def test_command_writes_an_edition(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOKS.parent)
    assert main(["edition", name, str(tmp_path / "new")]) == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [p.name for p in TEACHER]
    for path in (tmp_path / "new").iterdir():
        nbformat.validate(read(path))
        assert ("BEGIN SOLUTION" in path.read_text()) == (name != "learner")


def test_source_is_not_overwritten(tmp_path):
    with pytest.raises(LessonError, match="holds the source itself"):
        generate("learner", NOTEBOOKS / "teacher", NOTEBOOKS / "teacher")
    with pytest.raises(LessonError, match="holds no teacher's notebooks"):
        generate("learner", tmp_path, tmp_path / "new")

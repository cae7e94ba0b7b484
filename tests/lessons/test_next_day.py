"""A notebook opened again, with a new kernel: a cell with a picture runs, or says what to run."""

import ast
import builtins
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted(Path("notebooks").glob("[0-9]*.ipynb"))
PICTURES = ("Timeline(", "TimelineLab(", "kitchen_lab(", "ScheduleEditor(")
ANNOUNCES = ("pipelab.lessons", "pipelab.widgets")  # an import of these explains unknown names


def picture_cells():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code" and any(name in cell.source for name in PICTURES):
                yield pytest.param(cell.source, id=f"{path.name[:2]}-{cell.id}")


def unknown(source: str) -> set[str]:
    """Names that a cell takes from cells before it."""
    names = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)]
    made = {n.id for n in names if isinstance(n.ctx, ast.Store)} | set(dir(builtins))
    imports = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom | ast.Import))
    made |= {alias.asname or alias.name for node in imports for alias in node.names}
    return {n.id for n in names if isinstance(n.ctx, ast.Load)} - made


@pytest.mark.parametrize("source", [*picture_cells()])
def test_a_picture_s_cell_needs_nothing_or_begins_with_what_explains_it(source):
    first = ast.parse(source).body[0]
    explains = isinstance(first, ast.ImportFrom) and str(first.module).startswith(ANNOUNCES)
    assert explains or not unknown(source)
    if "Lab(" in source or "_lab(" in source:
        assert not unknown(source), "a lab runs by itself"


def run(*cells: str) -> list[str]:
    """What each cell shows in a new kernel; of an error, what the learner reads."""
    code = map(nbformat.v4.new_code_cell, cells)
    notebook = nbformat.v4.new_notebook(cells=[*code])
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    shown = []
    for cell in notebook.cells:
        texts = [out.get("text", "") or "\n".join(out.get("traceback", [])) for out in cell.outputs]
        shown.append("".join(texts))
    return shown


def test_unknown_names_are_explained_and_errors_of_functions_stay_what_they_are():
    known = "from pipelab.widgets import Timeline"
    said, inside, usual, fine = run(
        f"{known}\nTimeline(four, over=1)",
        "def mine():\n    return nowhere\nmine()",
        "1 / 0",
        "four = 4\nprint(four)",
    )
    assert said.startswith("Timeline(four, over=1)") and "does not know 'four' yet" in said
    assert "Run All Above" in said and "NameError" not in said and "Traceback" not in said
    assert "NameError" in inside and "nowhere" in inside and "Run All Above" not in inside
    assert "ZeroDivisionError" in usual
    assert fine == "4\n"


@pytest.mark.slow
@pytest.mark.parametrize("source", [*picture_cells()])
def test_each_picture_s_cell_alone_in_a_new_kernel(source):
    (shown,) = run(source)
    assert "NameError" not in shown and "Traceback" not in shown
    assert "Run All Above" in shown or not unknown(source)

"""A notebook opened again, with a new kernel: each cell runs, or says what to run first."""

import ast
import builtins
from itertools import takewhile
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted(Path("notebooks").glob("[0-9]*.ipynb"))


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


CELLS = [
    pytest.param(cell.source, id=f"{path.name[:2]}-{cell.id}")
    for path in NOTEBOOKS
    for cell in code_cells(path)
]


class Names(ast.NodeVisitor):
    """Names that a cell makes, and those that it uses while it runs: not in its functions."""

    def __init__(self, source: str) -> None:
        self.made, self.used = set(dir(builtins)), set()
        self.visit(ast.parse(source))

    def visit_FunctionDef(self, node):
        self.made.add(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
            if default is not None:
                self.visit(default)

    def visit_ClassDef(self, node):
        self.made.add(node.name)
        for base in node.bases:
            self.visit(base)

    def visit_Lambda(self, node):
        pass

    def visit_Name(self, node):
        (self.made if isinstance(node.ctx, ast.Store) else self.used).add(node.id)

    def visit_ExceptHandler(self, node):
        self.made.add(node.name)
        self.generic_visit(node)

    def visit_alias(self, node):
        self.made.add((node.asname or node.name).partition(".")[0])


def unknown(source: str) -> set[str]:
    """Names that a cell takes from cells before it."""
    names = Names(source)
    return names.used - names.made


def imports_pipelab(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return str(statement.module).startswith("pipelab")
    return isinstance(statement, ast.Import) and statement.names[0].name == "pipelab"


@pytest.mark.parametrize("source", CELLS)
def test_a_cell_needs_nothing_or_begins_with_what_explains_it(source):
    imports = [*takewhile(lambda s: isinstance(s, ast.Import | ast.ImportFrom), body(source))]
    assert any(map(imports_pipelab, imports)) or not unknown(source)
    if "Lab(" in source or "_lab(" in source:
        assert not unknown(source), "a lab runs by itself"


def body(source: str) -> list[ast.stmt]:
    return ast.parse(source).body


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
    said, _, inside, foreign, usual, fine = run(
        f"{known}\nTimeline(four, over=1)",
        "def mine():\n    return nowhere",
        "mine()",
        "import random\nrandom.seed(3); exec('elsewhere', {})",
        "1 / 0",
        "four = 4\nprint(four)",
    )
    assert said.startswith("Timeline(four, over=1)") and "does not know 'four' yet" in said
    assert "Run All Above" in said and "NameError" not in said and "Traceback" not in said
    assert "mine" in inside and "NameError" in inside and "Run All Above" in inside
    assert "NameError" in foreign and "Run All Above" not in foreign
    assert "ZeroDivisionError" in usual
    assert fine == "4\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_each_cell_runs_alone_or_says_what_to_run(path):
    """One kernel for a lesson, whose names are forgotten before each cell."""
    sources = [cell.source for cell in code_cells(path)]
    outputs = run(*(cell for source in sources for cell in ("%reset -f", source)))[1::2]
    for source, shown in zip(sources, outputs, strict=True):
        assert "NameError" not in shown and "Traceback" not in shown, source
        assert "Run All Above" in shown or not unknown(source), source

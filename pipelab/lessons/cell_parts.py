"""Two parts of a notebook's cell: what only gives names, and what runs.

A grader needs the names, since an answer may use them; to run ranks and to draw them takes time.
"""

import ast
import builtins
from collections.abc import Iterator

_QUICK_CALLS = {"dict", "enumerate", "float", "int", "len", "list", "max", "min", "partial"}
_QUICK_CALLS |= {"range", "round", "set", "sorted", "str", "sum", "tuple", "zip"}
# What starts ranks or draws them: no answer may use it, and it loads slowly.
_RUNNING = ("chapters", "plan_report", "plan_run", "torch_run", "trials")
_OF_RANKS = ("pipelab.engine", "pipelab.widgets", *(f"pipelab.lessons.{n}" for n in _RUNNING))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def parted(source: str, slow_names: set[str]) -> tuple[str, str]:
    r"""The part of a cell that only gives names, and the rest.

    Names are given by imports, definitions, and assignments that call nothing but a few builtins.
    What starts ranks or draws them belongs to the rest.

    Args:
        source: of the cell.
        slow_names: those that the rest of earlier cells gives; this cell's are added, or removed.

    >>> parted("import torch\nshare = 1 / 4\nrun = measure(share)\nprint(run)", set())
    ('import torch\nshare = 1 / 4', 'run = measure(share)\nprint(run)')
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a magic command
        return "", source
    lines = source.splitlines()
    parts: tuple[list[str], list[str]] = [], []
    begin = 0
    for statement in statements:
        end = statement.end_lineno or begin
        is_slow = not _is_quick(statement, slow_names)
        names = set(_given(statement))
        if is_slow:
            slow_names |= names
        else:
            slow_names -= names
        parts[is_slow].extend(lines[begin:end])
        begin = end
    parts[bool(parts[1])].extend(lines[begin:])
    quick, slow = ("\n".join(part).strip("\n") for part in parts)
    return quick, slow


def _is_quick(statement: ast.stmt, slow_names: set[str]) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return not (statement.module or "").startswith(_OF_RANKS)
    if isinstance(statement, ast.Import):
        return not any(alias.name.startswith(_OF_RANKS) for alias in statement.names)
    if isinstance(statement, _DEFINITIONS):
        return not _used(_run_at_once(statement)) & slow_names
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return False
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    known = all(isinstance(call, ast.Name) and call.id in _QUICK_CALLS for call in calls)
    return known and not _used([statement]) & slow_names


def _run_at_once(definition: ast.stmt) -> Iterator[ast.AST]:
    """What of a definition runs where it stands: decorators, defaults, and a class's body."""
    if isinstance(definition, ast.ClassDef):
        yield from (*definition.decorator_list, *definition.bases)
        for statement in definition.body:
            yield from (
                _run_at_once(statement) if isinstance(statement, _DEFINITIONS) else [statement]
            )
    elif isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (*definition.decorator_list, definition.args)


def _used(nodes: "Iterator[ast.AST] | list[ast.stmt]") -> set[str]:
    found = {
        name.id
        for node in nodes
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)
    }
    return found - set(dir(builtins))


def _given(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives to the notebook."""
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id

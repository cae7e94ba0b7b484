"""Counts lines of code: what a reader has to follow, whatever room its names and words take.

Not counted: blank lines, comments, docstrings, imports, and signatures (from ``def`` to the line
before the first of the body). So nobody saves lines at the expense of a clear signature.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

_SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_JS_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\\\"'`])//[^\n]*", re.DOTALL)
_JS_IMPORT = re.compile(r"^import\b[^;]*;", re.MULTILINE | re.DOTALL)


class Function(NamedTuple):
    """A function and how long it is, functions inside it included."""

    name: str
    line: int
    length: int


def code_lines(source: str) -> set[int]:
    """The numbers of the lines of code of a Python file."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines |= {*range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        lines -= _not_counted(node)
    return lines


def functions(source: str) -> Iterator[Function]:
    """All functions of a Python file, with the lines of code of their bodies."""
    lines = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Function):
            body = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield Function(node.name, node.lineno, len(lines.intersection(body)))


def js_code_lines(source: str) -> int:
    """How many lines of code a JavaScript or CSS file has."""
    bare = _JS_IMPORT.sub("", _JS_COMMENT.sub("", source))
    return sum(bool(line.strip()) for line in bare.splitlines())


def _not_counted(node: ast.AST) -> set[int]:
    """The lines of an import, of a signature, of a docstring."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return _lines(node)
    found: set[int] = set()
    if isinstance(node, _Function):
        first = node.body[0]
        decorators = getattr(first, "decorator_list", [])
        found |= {*range(node.lineno, min([first.lineno, *(d.lineno for d in decorators)]))}
    if (
        isinstance(node, ast.Module | ast.ClassDef | _Function)
        and ast.get_docstring(node) is not None
    ):
        found |= _lines(node.body[0])
    return found


def _lines(node: ast.stmt) -> set[int]:
    return {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}

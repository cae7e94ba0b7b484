"""The engine's text leads somewhere: files that it names exist, and the numbers of the diagram."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import pipelab.engine

PACKAGE = Path(pipelab.engine.__file__).parents[1]
ENGINE = PACKAGE / "engine"
EXAMPLES = {"script.py", "train.py", "jupyterlab.py"}  # of a learner
RULE = "engine/protocol/gradient_rule.py"
FILES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


def prose(path):
    """The docstrings and comments of a file; a comment continues over the lines that follow it."""
    source = path.read_text("utf-8")
    nodes = (
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
    )
    yield from filter(None, map(ast.get_docstring, nodes))
    last = -1
    lines: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield " ".join(lines)
                lines = []
            lines.append(token.string)
            last = token.start[0]
    yield " ".join(lines)


def is_there(name, near):
    """Whether a file is named from the package, from the engine, or from its own folder."""
    return any((base / name).is_file() for base in (PACKAGE, ENGINE, near))


@pytest.mark.parametrize("name", FILES)
def test_files_and_modules_that_the_text_names_exist(name):
    path = PACKAGE / name
    for text in prose(path):
        for found in re.findall(r"(?<![\w./])(?:\w+/)*\w+\.py\b", text):
            is_example = found in EXAMPLES
            assert is_example or is_there(found, path.parent), f"{name} names {found}"
        for found in re.findall(r"\bpipelab(?:\.[a-z_]\w*)+", text):
            assert resolves(found), f"{name} names {found}"


def resolves(dotted):
    """Whether a dotted name is a module of the package, or stands in one."""
    place = PACKAGE.parent.joinpath(*dotted.split("."))
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    above = place.parent
    home = above.with_suffix(".py") if above.with_suffix(".py").is_file() else above / "__init__.py"
    return home.is_file() and re.search(rf"\b{place.name}\b", home.read_text("utf-8")) is not None


def test_the_gradient_rule_has_one_home_and_every_signpost_names_it():
    homes = [
        name for name in FILES if (PACKAGE / name).read_text().startswith('"""THE GRADIENT RULE')
    ]
    assert homes == [RULE]
    signposts = [
        (name, text)
        for name in FILES
        if name.startswith("engine/") and name != RULE
        for text in prose(PACKAGE / name)
        if "gradient rule" in text.lower()
    ]
    assert len(signposts) >= 4
    for name, text in signposts:
        assert "THE GRADIENT RULE" in text and "protocol/gradient_rule.py" in text, name


def test_the_numbers_of_the_diagram_are_those_that_the_code_cites():
    diagram = [int(n) for n in re.findall(r"\[(\d+)\]", pipelab.engine.__doc__)]
    assert sorted(diagram) == list(range(1, len(diagram) + 1)) and len(diagram) >= 10
    cited = {}
    for path in sorted(ENGINE.rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type == tokenize.COMMENT:
                for number in re.findall(r"\[(\d+)\]", token.string):
                    cited.setdefault(int(number), []).append(path.name)
    assert sorted(cited) == sorted(diagram), cited

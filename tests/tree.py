"""The tree of files in ``notebooks/guides/tree.md``, made from the first line of each file.

python tests/tree.py        writes the guide again; tests/test_readme.py compares it
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "notebooks" / "guides" / "tree.md"
HEAD = """# The tree

Every file of the package, with the first line of its text. Imports go downwards in the list of
layers in [CONTRIBUTING](../../CONTRIBUTING.md), never up. Read `action.py`, then `schedules/`, then
`engine/rank/worker.py`. This page is written by `python tests/tree.py`.

"""
COLUMN = 34  # where a file's text begins


def main() -> None:
    GUIDE.write_text(guide(), "utf-8")


def guide() -> str:
    """The whole page."""
    return f"{HEAD}```\n" + "\n".join(["pipelab/", *lines(ROOT / "pipelab", "  ")]) + "\n```\n"


def lines(folder: Path, indent: str) -> Iterator[str]:
    """A line for each file of a folder, files first; folders with what is in them."""
    entries = [path for path in sorted(folder.iterdir()) if path.suffix in (".py", ".js")]
    for path in entries:
        if path.name != "__init__.py":
            yield f"{indent + path.name:<{COLUMN}}{about(path)}".rstrip()
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(inner.rglob("*.py")) or any(inner.rglob("*.js")):
            text = about(inner / "__init__.py") if (inner / "__init__.py").exists() else ""
            yield f"{indent + inner.name + '/':<{COLUMN}}{text}".rstrip()
            yield from lines(inner, indent + "  ")


def about(path: Path) -> str:
    """The first line of a module's docstring, or of a script's first comment."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    for line in text.splitlines():
        if not line.startswith("// @"):  # an order to a checker
            return re.sub(r"^[/*\s]+|[/*\s]+$", "", line)
    return ""


if __name__ == "__main__":
    main()

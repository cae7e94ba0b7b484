"""A page for each public package, for Sphinx to fill from the docstrings."""

from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path

# In the order in which a reader meets them.
PACKAGES = (
    "schedules",
    "simulator",
    "engine",
    "trace",
    "plots",
    "widgets",
    "partition",
    "models",
    "lessons",
)
_LIST = """# Reference

Every public name, from its docstring. Times are in seconds, sizes in bytes.

```{{toctree}}
{names}
```
"""


def write_reference(folder: Path) -> None:
    """Write a page for each package, one for errors, and the list of them."""
    folder.mkdir(parents=True)
    described: set[int] = set()
    for package in PACKAGES:
        text = _page(f"pipelab.{package}", described)
        folder.joinpath(f"{package}.md").write_text(text, "utf-8")
    errors = "\n".join(_directive("pipelab.errors", name, set()) for name in _error_names())
    text = "# pipelab.errors\n\nEvery error that pipelab raises.\n\n"
    folder.joinpath("errors.md").write_text(f"{text}```{{eval-rst}}\n{errors}\n```\n", "utf-8")
    names = "\n".join((*PACKAGES, "errors"))
    folder.joinpath("index.md").write_text(_LIST.format(names=names), "utf-8")


def _page(module: str, described: set[int]) -> str:
    """A package: what it is for, and its names; some are ``described`` on another page, too."""
    found = import_module(module)
    about = (found.__doc__ or "").partition("\n\n")[0]
    names = "\n".join(_directive(module, name, described) for name in found.__all__)
    return f"# {module}\n\n{about}\n\n```{{eval-rst}}\n{names}\n```\n"


def _error_names() -> list[str]:
    errors = import_module("pipelab.errors")
    return [name for name, value in vars(errors).items() if name.endswith("Error") or _fails(value)]


def _fails(value: object) -> bool:
    return isclass(value) and issubclass(value, Exception)


def _directive(module: str, name: str, described: set[int]) -> str:
    value = getattr(import_module(module), name)
    kind = "class" if isclass(value) else "function" if isroutine(value) else "data"
    options = ["members"] * (kind == "class") + ["no-index"] * (id(value) in described)
    described.add(id(value))
    return f".. auto{kind}:: {module}.{name}\n" + "".join(f"   :{word}:\n" for word in options)

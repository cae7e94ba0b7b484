"""Whose line is this? A traceback's lines that the learner wrote, and no others.

The learner's own: notebook cells, what is typed at a prompt or given with ``python -c``, and every
file that is installed nowhere, whatever its folder is called. Not the learner's: the standard
library, installed packages, PyTorch and pipelab itself, each known by where it is installed.
"""

import linecache
import os
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

_PACKAGES = ("pipelab", "torch")  # also where they are installed in an unusual place
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")  # of another Python, by PYTHONPATH
# of any Python, on its path or not: Debian's own packages are in /usr/lib/python3/dist-packages
_OF_A_PYTHON = re.compile(r"/lib(64)?/python3[.0-9]*t?/(site|dist)-packages/")
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")


class Line(NamedTuple):
    """One line of a traceback: ``file`` is a path, or a made-up name such as a notebook cell's."""

    file: str
    number: int
    function: str

    @property
    def text(self) -> str:
        """The line itself, stripped; "" where its source is not to be had.

        A rank cannot read the cells of a notebook; the notebook's own process can.
        """
        return linecache.getline(self.file, self.number).strip()

    @property
    def place(self) -> str:
        """The file's name and the number; for a notebook's cell, whose file is made up, no name."""
        name = f"{os.path.basename(self.file)}, " if os.path.exists(self.file) else ""
        return f"{name}line {self.number}"


def own_lines(traceback: TracebackType | None) -> list[Line]:
    """The learner's own lines of a traceback, outermost first."""
    return [
        Line(frame.f_code.co_filename, number, frame.f_code.co_name)
        for frame, number in walk_tb(traceback)
        if _is_own(frame)
    ]


def innermost_own_line(error: BaseException) -> Line | None:
    """The learner's line nearest to an error, or to the error that led to it; None without any."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if lines := own_lines(current.__traceback__):
            return lines[-1]
        seen.add(id(current))
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return None


def reduced_code(code: CodeType, table: Mapping[type, Callable[[CodeType], Any]]) -> Any:
    """How to pickle code with its file's name, which cloudpickle leaves out since 3.1.2.

    ``table``: the ``dispatch_table`` of a pickler of cloudpickle's.
    """
    make, parts, *_ = table[CodeType](code)
    return _code, (make, parts, code.co_filename)


def _code(make: Callable[..., CodeType], parts: tuple[object, ...], file: str) -> CodeType:
    return make(*parts).replace(co_filename=file)


def is_installed(path: str) -> bool:
    """Whether a file belongs to the standard library, to a package, to PyTorch or to pipelab."""
    real = os.path.realpath(path)
    return real.startswith(_installed_folders()) or _OF_A_PYTHON.search(real) is not None


def _is_own(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    if not name.startswith("<"):
        return not is_installed(name)
    # Generated code has no file; the module that it runs in shows whose it is. A cell and a prompt
    # run in a module without a file.
    module = frame.f_globals.get("__file__")
    return not name.startswith("<frozen ") and not (module and is_installed(module))


def _installed_folders() -> tuple[str, ...]:
    """Each with a separator at its end; not remembered, since PyTorch may be imported later."""
    folders = [sysconfig.get_path(name) for name in _LIBRARIES]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    folders += [path for path in sys.path if os.path.basename(path) in _PACKAGE_FOLDERS]
    modules = (sys.modules.get(name) for name in _PACKAGES)
    folders += [os.path.dirname(m.__file__) for m in modules if m is not None and m.__file__]
    return tuple({os.path.join(os.path.realpath(folder), "") for folder in folders})

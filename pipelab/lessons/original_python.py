"""Python's own functions and modules as they were at first, while a check is graded.

A cell can replace ``builtins.len``, ``os.read``, ``subprocess.Popen.__init__`` or
``sys.modules["json"]``, by mistake or not. The kernel, which runs the next cell, and the graded
cell itself take all of them: so between cells, and in graded cells, they are as they were. In the
learner's own cells, what they changed is theirs.

    a cell    (put_back)    a cell           (put_back)    a graded cell
                            undo first                     as it is
"""

import builtins
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

_FIXED = (FunctionType, BuiltinFunctionType, type, ModuleType)  # what programs rarely set anew
_LISTS = ("path", "meta_path", "path_hooks")  # of sys: where modules are found
_STREAMS = ("stdin", "stdout", "stderr")  # of sys: the kernel flushes them before each cell
_WITH_CLASSES = (
    "cloudpickle.cloudpickle",
    "pickle",
    "subprocess",
    "tempfile",
)  # to send takes them
_MISSING = object()

Owner = ModuleType | type


class OriginalPython:
    """What is loaded when this is made, put back and taken away again."""

    def __init__(self) -> None:
        self._builtins = builtins.__dict__.copy()
        self._modules = sys.modules.copy()
        self._streams = {name: getattr(sys, name) for name in _STREAMS}
        self._lists = {name: [*getattr(sys, name)] for name in _LISTS}
        self._fixed = [
            (owner, {n: value for n, value in _inside(owner) if issubclass(type(value), _FIXED)})
            for owner in _owners(self._modules)
        ]
        self._undo: list[Callable[[], object]] = []

    def put_back(self) -> bool:
        """Until ``undo``, what was replaced is as it was; what is new stays. False: it was so."""
        if self._undo:
            return False
        now = builtins.__dict__.copy()
        builtins.__dict__.update(self._builtins)  # first: all below needs them
        self._undo.append(partial(builtins.__dict__.update, now))
        for name in (*self._streams, *self._lists):
            self._undo.append(partial(setattr, sys, name, getattr(sys, name)))
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
        for name, first in self._lists.items():
            found = getattr(sys, name)
            setattr(sys, name, [*first, *(one for one in found if one not in first)])
        loaded = sys.modules.copy()
        self._undo.append(partial(_replace, sys.modules, loaded, self._modules))
        nothing = {name for name, module in loaded.items() if module is None}
        _replace(sys.modules, self._modules, nothing - self._modules.keys())
        for owner, values in self._fixed:
            inside = vars(owner)
            for name, value in values.items():
                if (other := inside.get(name, _MISSING)) is not value:
                    self._undo.append(partial(_set, owner, name, other))
                    _set(owner, name, value)
        return True

    def undo(self) -> None:
        """What the cells have changed is changed again."""
        while self._undo:
            self._undo.pop()()

    def keep_between_cells(self, events: Any, is_graded: Callable[[str], bool]) -> None:
        """Put back after each cell, and undo before each that is not graded.

        Args:
            events: of IPython's shell.
            is_graded: whether a cell with this source is.
        """

        def before(cell: Any) -> None:
            if not is_graded(cell.raw_cell):
                self.undo()

        events.register("pre_run_cell", before)
        events.register("post_run_cell", lambda _: self.put_back())


def _owners(modules: Mapping[str, ModuleType]) -> list[Owner]:
    """All modules but the notebook's own, and the classes of some."""
    own = [m for name, m in modules.items() if isinstance(m, ModuleType) and name != "__main__"]
    classes = [
        value
        for name in _WITH_CLASSES
        if name in modules
        for _, value in _inside(modules[name])
        if isinstance(value, type) and value.__module__ == name
    ]
    return [*own, *classes]


def _inside(owner: Owner) -> list[tuple[str, object]]:
    return [*vars(owner).items()]


def _set(owner: Owner, name: str, value: object) -> None:
    if value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _replace(
    modules: dict[str, ModuleType],
    new: Mapping[str, ModuleType],
    old: Collection[str],
) -> None:
    """Set what is new, and leave out what is in ``old`` alone."""
    modules.update(new)
    for name in old:
        if name not in new:
            modules.pop(name, None)

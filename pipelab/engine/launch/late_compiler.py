"""In ranks, PyTorch's compiler is loaded when something is compiled, and not by each optimizer.

``torch._dynamo`` is a third of what the fork server would load. An optimizer's step, and a layer
that is recomputed, ask for it only to keep it out of what they do. Where it is not loaded it is
out: so these few of its names do nothing here, and any other loads it, into the same module.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_loader
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch

_NAME = "torch._dynamo"
_CONFIG = f"{_NAME}.config"  # its settings need no more than their own file
_lock = threading.RLock()


def begin() -> None:
    """From now on, in this process and in those that are forked from it; once."""
    spec = find_spec(_NAME)
    if _NAME in sys.modules or spec is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Late
    sys.modules[_NAME] = vars(torch)["_dynamo"] = module
    sys.meta_path.insert(0, _Finder())


def _is_late() -> bool:
    return isinstance(sys.modules.get(_NAME), _Late)


class _Late(ModuleType):
    """The package before it is loaded."""

    trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing is recorded."""

    @staticmethod
    def disable(fn: object = None, recursive: bool = True, **how: Any) -> object:
        """The function; as soon as the compiler is loaded, without it."""
        if not isinstance(fn, FunctionType):
            return _loaded().disable(fn, recursive, **how)

        @cache
        def kept_out() -> Callable[..., object]:
            made: Callable[..., object] = _loaded().disable(fn, recursive, **how)
            return made

        @wraps(fn)
        def undisturbed(*args: Any, **kwargs: Any) -> object:
            return (fn if _is_late() else kept_out())(*args, **kwargs)

        return undisturbed

    def __getattr__(self, name: str) -> Any:
        """Only for what is not here."""
        if name == "config":
            return import_module(_CONFIG)
        if name.startswith("__"):
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        return getattr(_loaded(), name)


class _Loading(ModuleType):
    """The package while it is loaded: other threads wait for all of it."""

    def __getattr__(self, name: str) -> Any:
        """Only for what is not here yet."""
        with _lock:
            if isinstance(self, _Loading):  # this thread is loading it
                raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        return getattr(self, name)


def _loaded() -> Any:
    """The package, whole. Raises what its import raises."""
    with _lock:
        module: Any = sys.modules[_NAME]
        if _is_late():
            module.__class__ = _Loading
            try:
                module.__spec__.loader.exec_module(module)
            except BaseException:
                del sys.modules[_NAME], vars(torch)["_dynamo"]  # the next import tries again
                raise
            module.__class__ = ModuleType
        return module


class _Finder(MetaPathFinder):
    """Loads the whole package before a module of it, as Python does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_late() or not name.startswith(f"{_NAME}.") or name == _CONFIG:
            return None
        _loaded()
        module = sys.modules.get(name)
        return None if module is None else spec_from_loader(name, _Loaded(module))


class _Loaded(Loader):
    """A module that its package has loaded meanwhile: it stays as it is."""

    def __init__(self, module: ModuleType):
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec

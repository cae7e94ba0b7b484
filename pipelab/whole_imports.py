"""PyTorch, NumPy and Matplotlib are loaded whole or not at all: Stop waits for their end.

A package in C that was loaded by half cannot be loaded again by the same process: the kernel would
have to be restarted, and nothing says so.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

from pipelab.collector import paused_collector
from pipelab.notice import noticed

_PACKAGES = {"matplotlib": "Matplotlib", "numpy": "NumPy", "torch": "PyTorch"}
_SOON = 0.05  # seconds: an interrupt within the import would leave it undone, so it comes after it


def begin() -> None:
    """From now on, for this process; once."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds these packages and their modules as usual, and holds back interrupts as each loads."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if package not in _PACKAGES or signal.getsignal(signal.SIGINT) == _hold:
            return None  # another, or part of what is being loaded
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None  # others may find it
        load = spec.loader.exec_module

        def whole(module: ModuleType) -> None:
            with _held_back(), paused_collector(), noticed(f"loading {_PACKAGES[package]}"):
                load(module)

        # of this loader alone, which stays what others know
        spec.loader.exec_module = whole  # type: ignore[method-assign]
        return spec


_pressed = threading.Event()


def _hold(number: int, frame: FrameType | None) -> None:
    _pressed.set()


@contextmanager
def _held_back() -> Iterator[None]:
    """An interrupt within comes soon after the block. None comes to other threads than the main."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, _hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if _pressed.is_set():
            _pressed.clear()
            threading.Timer(_SOON, os.kill, [os.getpid(), signal.SIGINT]).start()

"""No silent waiting: in a notebook, what takes longer than a second says what it does."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

SWITCH = "PIPELAB_NOTICES"  # "0" in the environment: none, so that stored outputs stay the same
_AFTER = 1.0  # seconds
_LINGER = 0.5  # seconds
_under_way: set[str] = set()  # in the main thread


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Say what is being done while it is done, if it takes long: ``loading PyTorch ...``.

    Blocks of the same words in one cell count as one: many short steps are a long wait, too. Only
    in a cell: what a widget starts in a thread is shown by the widget. A block within a block of
    the same words leaves the saying to the outer one.
    """
    is_cell = "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()
    if not is_cell or os.environ.get(SWITCH) == "0" or what in _under_way:
        yield
        return
    notice = _of_this_cell(what)
    notice.begin()
    _under_way.add(what)
    try:
        yield
    finally:
        _under_way.remove(what)
        notice.end()


def _of_this_cell(what: str) -> "_Notice":
    header = getattr(sys.stdout, "parent_header", None) or {}  # of the cell, in a kernel
    cell = header.get("msg_id")
    if cell is None or cell != _cell[0]:
        _cell[0] = cell
        _notices.clear()
    return _notices.setdefault(what, _Notice(f"{what} ..."))


class _Notice:
    """A line of a cell's output that goes away: one that stayed would say what is over."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()  # a block may end while its notice appears
        self._is_on = self._is_shown = False
        self._change: Callable[[str], None] | None = None
        self._spent = self._begun = 0.0  # seconds
        self._timer = threading.Timer(0.0, self._show)

    def begin(self) -> None:
        self._begun = time.monotonic()
        self._timer.cancel()
        with self._lock:
            self._is_on = True
            if self._is_shown:
                return
        self._later(max(0.0, _AFTER - self._spent), self._show)

    def end(self) -> None:
        seconds = time.monotonic() - self._begun
        self._spent += seconds
        self._timer.cancel()
        with self._lock:
            self._is_on = False
            if not self._is_shown:
                return
        if seconds >= _AFTER:
            self._clear()
        else:  # the next short block may follow: a line that comes and goes would flicker
            self._later(_LINGER, self._clear)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, what)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._is_on and not self._is_shown:
                self._is_shown = True
                self._write(self._text)

    def _clear(self) -> None:
        with self._lock:
            if self._is_shown and not self._is_on:
                self._is_shown = False
                self._write("")

    def _write(self, text: str) -> None:
        if self._change is None:
            self._change = _display(text)
        else:
            self._change(text)


_notices: dict[str, _Notice] = {}  # of one cell
_cell: list[object] = [None]  # which one that is


def _display(text: str) -> Callable[[str], None]:
    """Show a text below the cell; what is returned puts another one in its place."""

    def bundle(text: str) -> dict[str, str]:
        html = f"<pre>{escape(text)}</pre>" if text else ""  # an empty one takes no room
        return {"text/plain": text, "text/html": html}

    display = sys.modules["IPython"].display.display  # in a cell, it is loaded
    handle = display(bundle(text), raw=True, display_id=True)
    return lambda text: handle.update(bundle(text), raw=True)

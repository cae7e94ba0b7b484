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


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Say what is being done while it is done, if it takes long: ``loading PyTorch ...``.

    Blocks of the same words in one cell count as one: many short steps are a long wait, too. A
    block within another of the same words leaves the saying to that. Only in a cell: what a widget
    starts in a thread is shown by the widget.
    """
    is_cell = "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if is_cell and interactive is not None else None
    if shell is None or os.environ.get(SWITCH) == "0":
        yield
        return
    shell.events.register("post_run_cell", _cell_ended)  # again: it is called once all the same
    notice = _notices.setdefault(what, _Notice(f"{what} ..."))
    if notice.is_under_way:
        yield
        return
    notice.begin()
    try:
        yield
    finally:
        notice.end()


class _Notice:
    """A line of a cell's output that goes away: one that stayed would say what is over."""

    def __init__(self, text: str) -> None:
        self.is_under_way = False
        self._text = text
        self._spent = 0.0  # seconds, in blocks that have ended
        self._lock = threading.Lock()  # a block may end while the notice appears
        self._change: Callable[[str], None] | None = None  # of what the line says, once it is there
        self._is_shown = False

    def begin(self) -> None:
        self.is_under_way = True
        self._begun = time.monotonic()
        self._timer = threading.Timer(max(0.0, _AFTER - self._spent), self._show)
        self._timer.daemon = True
        if not self._is_shown:
            self._timer.start()

    def end(self) -> None:
        """The line goes with a block that was long by itself; else, others may follow."""
        self._timer.cancel()
        took = time.monotonic() - self._begun
        self._spent += took
        with self._lock:
            self.is_under_way = False
        if took >= _AFTER:
            self.clear()

    def _show(self) -> None:
        with self._lock:
            if not self.is_under_way:
                return
            if self._change is None:
                self._change = _displayed(self._text)
            else:
                self._change(self._text)
            self._is_shown = True

    def clear(self) -> None:
        with self._lock:
            if self._is_shown and self._change is not None:
                self._change("")
            self._is_shown = False


_notices: dict[str, _Notice] = {}  # of this cell, by what they say


def _cell_ended(_result: object = None) -> None:
    for notice in _notices.values():
        notice.clear()
    _notices.clear()


def _displayed(text: str) -> Callable[[str], None]:
    """Show a text below the cell; what is returned puts another one in its place."""

    def bundle(text: str) -> dict[str, str]:
        html = f"<pre>{escape(text)}</pre>" if text else ""  # an empty one takes no room
        return {"text/plain": text, "text/html": html}

    display = sys.modules["IPython"].display.display  # in a cell, it is loaded
    handle = display(bundle(text), raw=True, display_id=True)
    return lambda text: handle.update(bundle(text), raw=True)

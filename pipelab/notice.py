"""No silent waiting: in a notebook, what takes longer than a second says what it does."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

SWITCH = "PIPELAB_NOTICES"  # "0" in the environment: none, so that stored outputs stay the same
_AFTER = 1.0  # seconds
_under_way: set[str] = set()  # in the main thread


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Say what is being done while it is done, if the block takes long: ``loading PyTorch ...``.

    Only in a cell: what a widget starts in a thread is shown by the widget. A block within a block
    of the same words leaves the saying to the outer one.
    """
    is_cell = "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()
    if not is_cell or os.environ.get(SWITCH) == "0" or what in _under_way:
        yield
        return
    notice = _Notice(f"{what} ...")
    timer = threading.Timer(_AFTER, notice.show)
    timer.daemon = True
    timer.start()
    _under_way.add(what)
    try:
        yield
    finally:
        _under_way.remove(what)
        timer.cancel()
        notice.clear()


class _Notice:
    """A line of a cell's output that goes away: one that stayed would say what is over."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()  # the block may end while its notice appears
        self._over = False
        self._change: Callable[[str], None] | None = None

    def show(self) -> None:
        with self._lock:
            if not self._over:
                self._change = _display(self._text)

    def clear(self) -> None:
        with self._lock:
            self._over = True
            if self._change is not None:
                self._change("")


def _display(text: str) -> Callable[[str], None]:
    """Show a text below the cell; what is returned puts another one in its place."""

    def bundle(text: str) -> dict[str, str]:
        html = f"<pre>{escape(text)}</pre>" if text else ""  # an empty one takes no room
        return {"text/plain": text, "text/html": html}

    display = sys.modules["IPython"].display.display  # in a cell, it is loaded
    handle = display(bundle(text), raw=True, display_id=True)
    return lambda text: handle.update(bundle(text), raw=True)

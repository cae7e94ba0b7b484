"""No silent waiting: in a notebook, what takes longer than a second says what it does."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = "PIPELAB_NOTICES"  # "0" in the environment: none, so that stored outputs stay the same
_AFTER = 1.0  # seconds
_under_way: set[str] = set()  # in the main thread
_spent: dict[str, float] = {}  # seconds of the blocks that have ended in this cell
_cell: list[object] = [None]  # which cell that is


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Say what is being done, if it takes long: ``starting 4 processes ...``.

    Blocks of the same words in one cell count as one: many short steps are a long wait, too, and
    the words are said once. Only in a cell: what a widget starts in a thread is shown by the
    widget.
    """
    is_cell = "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()
    if not is_cell or os.environ.get(SWITCH) == "0" or what in _under_way:
        yield
        return
    timer = threading.Timer(
        max(0.0, _AFTER - _before(what)), print, [f"{what} ..."], {"flush": True}
    )
    timer.daemon = True
    if _before(what) < _AFTER:  # else it was said
        timer.start()
    begun = time.monotonic()
    _under_way.add(what)
    try:
        yield
    finally:
        timer.cancel()
        _under_way.remove(what)
        _spent[what] = _before(what) + time.monotonic() - begun


def _before(what: str) -> float:
    """Seconds that this cell has spent on it before."""
    header = getattr(sys.stdout, "parent_header", None) or {}  # of the cell, in a kernel
    cell = header.get("msg_id")
    if cell is None or cell != _cell[0]:
        _cell[0] = cell
        _spent.clear()
    return _spent.get(what, 0.0)

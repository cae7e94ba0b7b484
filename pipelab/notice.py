"""No silent waiting: in a notebook, what takes longer than a second says what it does."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = "PIPELAB_NOTICES"  # "0" in the environment: none, so that stored outputs stay the same
_AFTER = 1.0  # seconds
_under_way: set[str] = set()  # in the main thread


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Say what is being done, if the block takes long: ``starting 4 processes ...``.

    Only in a cell: what a widget starts in a thread is shown by the widget. A block within a block
    of the same words leaves the saying to the outer one.
    """
    is_cell = "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()
    if not is_cell or os.environ.get(SWITCH) == "0" or what in _under_way:
        yield
        return
    timer = threading.Timer(_AFTER, print, [f"{what} ..."], {"flush": True})
    timer.daemon = True
    timer.start()
    _under_way.add(what)
    try:
        yield
    finally:
        _under_way.remove(what)
        timer.cancel()

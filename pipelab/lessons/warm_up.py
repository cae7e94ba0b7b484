"""In a notebook, load what the next cells need while the learner reads: seconds, in the background.

PyTorch takes two to four seconds to load, and the process that ranks are forked from loads it too.
A cell that notes a prediction needs neither, so its answer comes at once.
"""

import sys
import threading
from contextlib import suppress
from importlib import import_module

_NEXT = ("pipelab.engine", "pipelab.widgets.timeline", "pipelab.plots.figure")


def begin() -> None:
    """Start to load, once. Outside of a notebook's kernel nothing is loaded before it is used."""
    if "ipykernel" in sys.modules and "pipelab.engine" not in sys.modules:
        threading.Thread(target=_load, name="pipelab warm-up", daemon=True).start()


def _load() -> None:
    for name in _NEXT:
        with suppress(Exception):  # the cell that needs it raises it again, where it is read
            import_module(name)

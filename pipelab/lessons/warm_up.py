"""In a notebook, load what the next cells need while the learner reads.

PyTorch takes seconds to load, and the process that ranks are forked from loads it too. A cell that
notes a prediction needs neither, so its answer comes first: that process starts at once, and the
rest is loaded when the kernel is idle. Not in a thread: where two threads import parts of one
package in another order, Python ends the deadlock by handing one of them a module that is half
loaded.

A notebook that nbgrader executes shows no runs: there, the interpreter that grades starts instead,
if the notebook imports ``check``.
"""

import asyncio
import os
import sys
from contextlib import suppress
from importlib import import_module
from runpy import run_module

from pipelab.collector import paused_collector
from pipelab.notice import noticed

_NEXT = ("pipelab.engine.pipeline", "pipelab.widgets.timeline", "pipelab.plots.figure")
_GRADED = "NBGRADER_EXECUTION"  # nbgrader sets it: "autograde" or "validate"
_SOON = 0.3  # seconds: after the answer of the cell that imports the lessons


def begin() -> None:
    """Load soon, once. Outside of a running kernel nothing is loaded before it is used."""
    if not _is_kernel() or _NEXT[0] in sys.modules:
        return
    if _GRADED in os.environ:
        return
    with suppress(Exception):  # as below
        import_module("pipelab.engine")  # starts the fork server, and loads no torch yet
    with suppress(RuntimeError):  # no loop runs: what runs this cell is no usual kernel
        asyncio.get_running_loop().call_later(_SOON, _load)


def begin_grader() -> None:
    """Start it, where nbgrader executes this kernel's notebook."""
    if _GRADED in os.environ and _is_kernel():
        with suppress(OSError):  # the first graded cell starts it then
            run_module("pipelab.lessons.grading")["begin"]()


def _is_kernel() -> bool:
    """Whether this process is a kernel; to have loaded its package is not enough."""
    app = sys.modules.get("ipykernel.kernelapp")
    return app is not None and bool(app.IPKernelApp.initialized())


def _load() -> None:
    # said once, and not for each part that takes long
    with paused_collector(), noticed("loading PyTorch"):
        for name in _NEXT:
            with suppress(Exception):  # the cell that needs it raises it again, where it is read
                import_module(name)

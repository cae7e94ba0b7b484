"""The process that ranks are forked from: Python's own fork server, with torch loaded already.

Its first start takes seconds, so it is started before this process loads torch itself. It and its
ranks must not hear the terminal's Ctrl-C or the notebook's Stop, which reach the whole process
group: ranks are stopped by their pipeline alone.
"""

import multiprocessing
import signal
import sys
from multiprocessing import forkserver, resource_tracker

from pipelab.engine.host import under_torchrun

CONTEXT = multiprocessing.get_context("forkserver")


def is_inside() -> bool:
    """Whether this process is the fork server, or a rank that was forked from it."""
    return any("multiprocessing.forkserver" in argument for argument in sys.orig_argv)


def start() -> None:
    """Start the server, if it does not run; returns at once. Ranks of torchrun's need none."""
    # The server and its ranks import this module too: they must not start servers of their own.
    if is_inside() or under_torchrun():
        return
    CONTEXT.set_forkserver_preload(["pipelab.engine.preload"])
    resource_tracker.ensure_running()  # its start lets held signals through: so it goes first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # inherits the held signal; ``preload`` ignores it for good
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

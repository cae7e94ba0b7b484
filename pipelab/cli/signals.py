"""Ctrl-C at any moment: one line, exit code 130, no process left, no traceback.

The handler itself ends the program instead of raising KeyboardInterrupt: raised in the middle of
the import of an extension module, or in a finalizer, that exception is lost, or printed.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from pipelab.cli.terminal import CommandError

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_on_signals() -> None:
    """From now on, Ctrl-C, SIGTERM and the end of the terminal end this program cleanly.

    A signal that whoever started us has silenced (nohup, a shell's background job) stays so.
    """
    for number in _ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    for other in _ENDINGS:  # whoever presses twice does not want to wait for the cleaning
        signal.signal(other, lambda number, frame: os._exit(128 + number))
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    line = f"Stopped by {name}.\n"
    with suppress(OSError):  # the terminal may be gone; and print() may be what was interrupted
        os.write(2, ("\n" + line if os.isatty(2) else line).encode())
    atexit._run_exitfuncs()  # pipelines end their ranks here, `pipelab lab` its server
    end_fork_server()
    os._exit(128 + number)


def end_fork_server() -> None:
    """Kill the server that ranks come from, if it runs.

    Left alone it would end by itself, but only once it has loaded torch: seconds after us.
    """
    module = sys.modules.get("multiprocessing.forkserver")
    pid: int | None = getattr(getattr(module, "_forkserver", None), "_forkserver_pid", None)
    if pid is not None:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def import_engine() -> None:
    """Import torch and ``pipelab.engine``. Raises CommandError where torch cannot be loaded."""
    try:
        import pipelab.engine  # noqa: F401 - the slow part: Ctrl-C ends it
    except ImportError as error:
        raise CommandError(
            f"torch cannot be loaded ({error}): install it into this Python, {sys.executable}"
        ) from None

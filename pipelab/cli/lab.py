"""``pipelab lab [NN]``: the lessons in JupyterLab, for this machine's user alone."""

import atexit
import sys
from importlib.util import find_spec

from pipelab.cli import lessons
from pipelab.cli.server import Server, free_port
from pipelab.cli.terminal import CommandError, say


def lab(number: int, *, browser: bool, port: int | None) -> int:
    """Serve lesson ``number`` until Ctrl-C; returns the exit code."""
    if find_spec("jupyterlab") is None:
        raise CommandError(
            f"JupyterLab is missing from this Python: {sys.executable} -m pip install jupyterlab"
        )
    notebook = lessons.find(number)
    server = Server(notebook, free_port(port), browser)
    atexit.register(server.stop)  # for signals: see pipelab.cli.signals
    try:
        server.wait_until_up()
        say(f"Lesson {notebook.name[:2]} of {notebook.parent}, for this machine's user alone:")
        say(server.address)
        say("Ctrl-C here ends JupyterLab and its kernels; save your work before.")
        return server.wait()
    finally:
        server.stop()

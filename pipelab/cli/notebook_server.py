"""``pipelab lab``: a lesson in JupyterLab, which runs in this very process.

It listens on the loopback interface alone, behind a token. The token comes to it through the
environment, which only its owner can read: arguments are in ``ps`` for everybody on the machine.
Whatever ends this process ends the server; kernels end when their server has gone.
"""

import argparse
import os
import secrets
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipelab.cli import course
from pipelab.cli.console import ENDINGS, CommandError, end_at_once, say, stopped_by

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

HOST = "127.0.0.1"


def lab(arguments: argparse.Namespace) -> int:
    """Serve a lesson until Ctrl-C, or until JupyterLab's own menu ends it; the exit code."""
    if find_spec("jupyterlab") is None:
        raise CommandError(
            f"JupyterLab is missing from this Python: {sys.executable} -m pip install jupyterlab"
        )
    notebook = course.find(arguments.lesson)
    port, token = free_port(arguments.port), secrets.token_urlsafe(24)
    server = _server(options(notebook, port, not arguments.no_browser), token)

    def announce() -> None:
        say(f"Lesson {notebook.name[:2]} of {notebook.parent}, for this machine's user alone:")
        say(f"http://{HOST}:{port}/lab/tree/{notebook.name}?token={token}")
        say("Ctrl-C here ends JupyterLab and its kernels; save your work first.")

    server.io_loop.add_callback(announce)  # after the server's own callback, which opens the port
    _keep_kernels_quiet()
    return _serve(server)


def free_port(wanted: int | None) -> int:
    """The wanted port, or any free one. Raises CommandError if the wanted one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise CommandError(
                f"port {wanted} cannot be used ({error.strerror}): choose another with --port, or "
                f"leave --port out and a free one is taken"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def options(notebook: Path, port: int, browser: bool) -> list[str]:
    """JupyterLab's command line; it stands above what configuration files say."""
    found = [
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/lab/tree/{notebook.name}",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--Application.log_level=ERROR",
    ]
    found += [] if browser else ["--no-browser"]
    return found + (["--allow-root"] if os.geteuid() == 0 else [])  # a container's usual user


def _server(options: list[str], token: str) -> "ServerApp":
    """A server that is ready to run. Raises CommandError if it cannot, or has another token."""
    from jupyterlab.labapp import LabApp

    os.environ["JUPYTER_TOKEN"] = token
    try:
        server: ServerApp = LabApp.initialize_server(argv=options)
    except SystemExit as error:
        raise CommandError(f"JupyterLab did not start: {error}") from None
    if server.identity_provider.token != token:
        raise CommandError(
            "JupyterLab lets anybody in without the token: your Jupyter configuration switches "
            "it off. Remove IdentityProvider.token (or ServerApp.token) from it; `jupyter "
            "--paths` says where it is"
        )
    return server


def _keep_kernels_quiet() -> None:
    """What kernels write to the descriptors that they inherit no longer reaches the terminal.

    What this process says goes where it went before.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        ours = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace")
        os.dup2(nowhere, stream.fileno())
        setattr(sys, name, ours)


def _serve(server: "ServerApp") -> int:
    """Run JupyterLab until a signal or its own menu ends it, and all its kernels with it."""
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        end_at_once()
        signals.append(number)
        server.stop(from_signal=True)

    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    server.start()
    if not signals:
        return 0
    stopped_by(signals[0])
    return 128 + signals[0]

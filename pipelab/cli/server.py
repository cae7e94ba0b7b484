"""JupyterLab as a process of its own: on the loopback interface alone, behind a token.

The token goes through the environment, which only its owner can read; arguments are in `ps` for
everybody on the machine.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from pipelab.cli.terminal import CommandError

HOST = "127.0.0.1"
START_SECONDS, STOP_SECONDS = 60.0, 10.0
_LOG_LINES = 12
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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


class Server:
    """A JupyterLab that shows one notebook first. ``stop`` ends it and all its kernels."""

    def __init__(self, notebook: Path, port: int, browser: bool):
        self.token = secrets.token_urlsafe(24)
        self.url = f"http://{HOST}:{port}"
        self.address = f"{self.url}/lab/tree/{notebook.name}?token={self.token}"
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        self.process = subprocess.Popen(
            _command(notebook, port, browser),
            cwd=notebook.parent,
            env={**os.environ, "JUPYTER_TOKEN": self.token},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches us, and we end the server in good order
        )

    def wait_until_up(self) -> None:
        """Return once it answers, to the token alone. Raises CommandError if it does not."""
        until = time.monotonic() + START_SECONDS
        while (status := self._status(self.token)) != 200:
            if self.process.poll() is not None:
                raise CommandError(f"JupyterLab did not start:\n{self._last_words()}")
            if time.monotonic() > until:
                raise CommandError(
                    f"JupyterLab did not answer within {START_SECONDS:g} s (status {status}):\n"
                    f"{self._last_words()}"
                )
            time.sleep(0.1)
        if self._status() == 200:
            raise CommandError(
                "JupyterLab lets anybody in without the token: your Jupyter configuration switches "
                "it off. Remove IdentityProvider.token (or ServerApp.token) from it; `jupyter "
                "--paths` says where it is"
            )

    def wait(self) -> int:
        """Serve until it ends, from its own menu for instance. Raises CommandError on a crash."""
        if self.process.wait() != 0:
            raise CommandError(f"JupyterLab broke down:\n{self._last_words()}")
        return 0

    def stop(self) -> None:
        """End it and its kernels. May be called twice, and from a signal handler.

        So it does without Popen's own methods: their lock may be held by what was interrupted.
        """
        pid, until = self.process.pid, time.monotonic() + STOP_SECONDS
        with suppress(ProcessLookupError, ChildProcessError):  # it has ended, or will have
            if self.process.returncode is None:
                os.kill(pid, signal.SIGTERM)
                while os.waitpid(pid, os.WNOHANG) == (0, 0):
                    if time.monotonic() > until:
                        os.killpg(pid, signal.SIGKILL)
                    time.sleep(0.05)

    def _status(self, token: str = "") -> int:
        """What it answers to a request with a token, or without; 0 if it does not answer."""
        request = urllib.request.Request(f"{self.url}/api/status")
        if token:
            request.add_header("Authorization", f"token {token}")
        try:
            with _DIRECT.open(request, timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").replace(self.token, "...").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def _command(notebook: Path, port: int, browser: bool) -> list[str]:
    command = [
        *(sys.executable, "-P", "-m", "jupyterlab"),  # -P: not a jupyterlab.py that lies around
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/lab/tree/{notebook.name}",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    command += [] if browser else ["--no-browser"]
    command += ["--allow-root"] if os.geteuid() == 0 else []  # a container's usual user
    return command

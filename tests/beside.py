"""Programs that run beside the tests: begun before the first test, judged by a test each.

A test marked ``beside("mypy")`` has that command begun as soon as the tests are collected, and
its fixture ``beside`` waits until the command has ended. A command may make files in
``$FOLDER/made``. The programs give way to the tests (nice), so that no paced run is late for them.
"""

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0  # seconds
BEGUN = pytest.StashKey[list[subprocess.Popen[bytes]]]()
# SIGINT is ignored: a test of Stop sends it to all processes below its own, these among them.
SCRIPT = """trap '' INT
({}) >"$FOLDER/output" 2>&1
echo $? >"$FOLDER/unfinished"
mv "$FOLDER/unfinished" "$FOLDER/status"
"""


class Ended(NamedTuple):
    """How a command ended, what it said, and the folder for what it made."""

    returncode: int
    output: str
    folder: Path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"beside(command): {__doc__.splitlines()[0]}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """One process begins the commands, whichever worker will run their tests."""
    is_first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if is_first and not session.config.option.collectonly:
        commands = dict.fromkeys(filter(None, map(_command, session.items)))
        session.config.stash[BEGUN] = [_begin(c, _folder(session.config, c)) for c in commands]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave no process behind."""
    for process in session.config.stash.get(BEGUN, []):
        process.wait()


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Ended:
    """How the command of this test's marker ended."""
    command = _command(request.node)
    assert command is not None, "want a marker: beside(command)"
    folder = _folder(request.config, command)
    status, until = folder / "status", time.monotonic() + PATIENCE
    while not status.exists():
        assert time.monotonic() < until, f"$ {command}\nhas not ended after {PATIENCE:.0f} s"
        time.sleep(0.05)
    return Ended(int(status.read_text()), (folder / "output").read_text(), folder / "made")


def _command(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("beside")
    return marker.args[0] if marker else None


def _folder(config: pytest.Config, command: str) -> Path:
    """A folder that all workers know: their own are side by side in the run's."""
    own = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return shared / f"beside-{zlib.crc32(command.encode()):x}"


def _begin(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Begin a command in the checkout, with the tools of the environment that runs the tests."""
    (folder / "made").mkdir(parents=True)
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["nice", "sh", "-c", SCRIPT.format(command)],
        cwd=ROOT,
        env={**os.environ, "PATH": tools, "NO_COLOR": "1", "FOLDER": str(folder)},
        stdin=subprocess.DEVNULL,
    )

"""Starts that fail half-way: no files left, no room, a kill, a Stop, folders of the dead."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.nn.functional import cross_entropy

from pipelab.bench.torch_driver import TorchRanks
from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server, leftovers
from pipelab.engine.launch.leftovers import PrivateFolder
from pipelab.errors import LaunchError
from pipelab.lessons import answer_process
from pipelab.models import mlp
from pipelab.schedules import gpipe
from tests.benchmarks.soak import descendants
from tests.faults.leftovers import Held, is_alive, nothing_more


def open_pipeline():
    return Pipeline(mlp(), gpipe(2, 2), loss=cross_entropy)


def answer():
    return answer_process.call(abs, [(-1,)])


STARTS = {
    "pipeline": lambda: open_pipeline().close(),
    "check": answer,
    "bench": lambda: TorchRanks(2).close(),
}


# -------------------------------------------------------------------------- too many open files


@contextmanager
def files_left(number):
    """This process may open so many more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used, limit = {int(name) for name in os.listdir("/proc/self/fd")}, 0
    while limit in used or number > 0:
        number -= limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("name", STARTS)
def test_a_start_without_enough_files_is_refused_in_words_and_leaves_nothing(name):
    start = STARTS[name]
    start()
    before, refused = Held.now(), 0
    for number in range(0, 18, 3):
        try:
            with files_left(number):
                start()
        except LaunchError as error:
            refused += 1
            assert "files" in str(error) and "ulimit -n" in str(error)
        assert nothing_more(before) is None
    assert refused > 1
    start()


def test_a_start_without_room_says_which_folder_to_look_at(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(LaunchError, match=r"(?s)room, and permission to write, in .*/gone\?"):
        open_pipeline()


# --------------------------------------------------------------------------------- Stop


@pytest.mark.parametrize("name", STARTS)
def test_a_stop_while_it_starts_leaves_no_process(name):
    start, pid = STARTS[name], os.getpid()
    start()
    before = Held.now()
    for moment in (0.0, 0.002, 0.005, 0.01, 0.02):
        presser = threading.Timer(moment, os.kill, (pid, signal.SIGINT))
        try:
            presser.start()
            while True:
                start()
        except KeyboardInterrupt:
            pass
        presser.join()
        assert nothing_more(before) is None


# --------------------------------------------------------------------------------- kill -9

LOADING = """
import sys, threading, time
def make_folder():
    name = "pipelab.engine.launch.fork_server"
    while not getattr(sys.modules.get(name), "pid", int)():
        time.sleep(0.001)
    sys.modules["pipelab.engine.launch.leftovers"].PrivateFolder()
    time.sleep(float(sys.argv[1]))
    print("now", flush=True)
threading.Thread(target=make_folder).start()
import pipelab.engine.pipeline
"""


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_parent_killed_while_its_fork_server_loads_leaves_nothing(whole_group):
    """As a notebook's kernel is killed in its first seconds: alone, or its whole group."""
    with tempfile.TemporaryDirectory() as folder:
        parent = subprocess.Popen(
            [sys.executable, "-c", LOADING, "0.3" if whole_group else "0"],
            env=os.environ | {"TMPDIR": folder, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        with parent.stdout:
            assert parent.stdout.readline() == b"now\n"
        below = descendants(parent.pid)
        made = os.listdir(folder)
        (os.killpg if whole_group else os.kill)(parent.pid, signal.SIGKILL)
        killed = time.monotonic()
        parent.wait()
        while any(map(is_alive, below)) or os.listdir(folder):
            assert time.monotonic() - killed < 1.0 + os.getloadavg()[0] / 2
            time.sleep(0.01)
    assert below and len(made) == 1 and made[0].startswith(f"pipelab-{parent.pid}-")


def test_folders_of_the_dead_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    own = PrivateFolder()
    monkeypatch.setattr(os, "getpid", lambda: dead.pid)
    elsewhere = PrivateFolder()  # locked: its owner still runs, and another container numbers it so
    for name in (f"pipelab-{dead.pid}-abc", "pipelab-1-abc", "pipelab-demo", "pipelab-x-1"):
        (tmp_path / name / "inside").mkdir(parents=True)
    (tmp_path / f"pipelab-{dead.pid}-link").symlink_to(tmp_path / "pipelab-demo")
    leftovers.remove_stale()
    left = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert left == {own.path.name, elsewhere.path.name, "pipelab-1-abc", "pipelab-demo",
                    "pipelab-x-1"}  # fmt: skip
    assert (tmp_path / "pipelab-demo" / "inside").exists()
    elsewhere.close()
    leftovers.remove_stale()
    assert not elsewhere.path.exists() and own.path.exists()
    own.close()
    own.remove()


def test_what_the_system_refuses_is_said_with_what_to_do(monkeypatch):
    def refuses(*arguments, **options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(fork_server, "_home", fork_server._Home())  # the one that runs stays
    monkeypatch.setattr(os, "posix_spawn", refuses)
    with pytest.raises(LaunchError, match=r"(?s)did not start \(\[Errno 11\].*take fewer ranks"):
        open_pipeline()

"""Ctrl-C, the notebook's Stop and kill -9, at many random moments: launch, step, close."""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from statistics import median

import psutil
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.engine.launch.delivery import deliver, writer_of
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.launched import LaunchedRanks
from pipelab.errors import PipelabError
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from tests.benchmarks.soak import descendants
from tests.faults.leftovers import Held, is_alive, nothing_more

SCRIPT = Path(__file__).with_name("script.py")
OPENING = ("shared_memory.py", "processes.py")
X, Y = torch.randn(12, 16), torch.randint(10, (12,))


def open_pipeline():
    return Pipeline(mlp(), one_f_one_b(3, 4), loss=cross_entropy)


def interrupted_after(seconds, whole_group):
    """Open, step and close, over and over, until the SIGINT comes."""
    pid = os.getpid()

    def press():
        time.sleep(seconds)
        os.kill(pid, signal.SIGINT)
        if whole_group:  # as the notebook's Stop: the fork server and the ranks get it too
            server = fork_server.pid()  # other children of this process belong to other tests
            for child in [server, *descendants(server)] if server else []:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGINT)

    presser = threading.Thread(target=press)
    try:
        presser.start()
        while True:
            with open_pipeline() as pipeline:
                pipeline.step(X, Y)
    except KeyboardInterrupt:
        pass
    started = time.monotonic()
    with open_pipeline() as pipeline:
        pipeline.step(X, Y)
    took = time.monotonic() - started
    presser.join()
    return took


def interrupt_at(moments, seed):
    rng = random.Random(seed)
    with open_pipeline() as pipeline:
        pipeline.step(X, Y)
    started = time.monotonic()
    with open_pipeline() as pipeline:
        pipeline.step(X, Y)
    usual = time.monotonic() - started
    before, late = Held.now(), []
    for _ in range(moments):
        took = interrupted_after(rng.uniform(0.0, 2.0 * usual), rng.random() < 0.5)
        if took > 1.0 + 5.0 * usual:
            late.append(took)
        assert nothing_more(before, 2.0) is None
    assert not late


def test_usable_again_after_an_interrupt_at_any_moment():
    interrupt_at(12, seed=1)


@pytest.mark.slow
def test_usable_again_after_100_interrupts():
    interrupt_at(100, seed=2)


def close_at(moments, seed):
    rng, before = random.Random(seed), Held.now()
    for _ in range(moments):
        pipeline = open_pipeline()
        closer = threading.Timer(rng.uniform(0.0, 0.05), pipeline.close)
        closer.start()
        started = time.monotonic()
        with pytest.raises(PipelabError, match="closed"):
            while True:
                pipeline.step(X, Y)
        assert time.monotonic() - started < 5.0
        closer.join()
        assert nothing_more(before) is None


def test_close_from_another_thread_at_any_moment():
    close_at(6, seed=3)


@pytest.mark.slow
def test_close_from_another_thread_at_100_moments():
    close_at(100, seed=4)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_interrupt_at_any_moment_of_a_delivery_leaves_no_file():
    """One came between a file's number and the socket that closes it."""
    ours, theirs = Pipe()
    with ours, theirs, writer_of(ours) as writer:
        usual, large = len(os.listdir("/proc/self/fd")), bytes(1 << 22)  # nobody reads it
        for moment in itertools.count():
            if not interrupted_at_opcode(moment, deliver, large, writer, [ours], bool, lambda: 0.0):
                break
            assert len(os.listdir("/proc/self/fd")) == usual, moment
    assert moment > 20


def interrupted_at_opcode(wanted, function, *arguments):
    """Whether a function of Python has an n-th operation, at which SIGINT came."""
    seen = itertools.count()

    def follow(frame, event, argument):
        if frame.f_code is not function.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(seen) == wanted:
            signal.raise_signal(signal.SIGINT)
        return follow

    sys.settrace(follow)
    try:
        function(*arguments)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_an_interrupt_is_held_back_and_then_raised():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        with Uninterrupted():
            signal.raise_signal(signal.SIGINT)
            seen.append("whole")
        seen.append("never")
    assert seen == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def killed_at(folder, rng):
    """Seconds from the death of the parent to that of the last of its processes; what it left."""
    script = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "ready\n" in iter(script.stdout.readline, ""), "it did not begin"
    time.sleep(rng.uniform(0.0, 0.5))
    grown = [pid for pid in descendants(script.pid) if is_grown(pid)]
    if rng.random() < 0.3 and grown:
        stopped = rng.choice(grown)
        os.kill(stopped, signal.SIGSTOP)  # it cannot see its parent's death by itself
        if psutil.Process(stopped).ppid() == script.pid:  # the fork server
            os.kill(stopped, signal.SIGCONT)
    below = descendants(script.pid)
    assert below, "the fork server at least"
    script.kill()
    started = time.monotonic()
    while alive := [pid for pid in below if is_alive(pid)]:
        if time.monotonic() - started > 10.0:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    took = time.monotonic() - started
    script.communicate()
    until = time.monotonic() + 5.0
    while (left := ours(folder)) and time.monotonic() < until:
        time.sleep(0.02)  # the fork server sweeps as its last act
    return took, left


def ours(folder):
    """What is there, except for the cache that torch makes for each user."""
    return [path for path in folder.iterdir() if not path.name.startswith("torchinductor")]


def is_grown(pid):
    """Whether a process has had the time to ask the system to end it with its parent."""
    with suppress(psutil.NoSuchProcess):
        return time.time() - psutil.Process(pid).create_time() > 0.1
    return False


def kill_at(times, seed):
    rng, found = random.Random(seed), []
    for _ in range(times):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is a short one
            took, left = killed_at(Path(folder), rng)
        assert left == []
        assert took < 1.0 + os.getloadavg()[0] / 2, f"{took:.2f} s"
        found.append(took)
    print(f"all gone after {median(found):.3f} s in the median, {max(found):.3f} s at most")


def test_all_ranks_follow_a_killed_parent():
    """The first two of the twenty below: all processes are well, and one of them is stopped."""
    kill_at(2, seed=6)


@pytest.mark.slow
def test_all_ranks_follow_a_parent_killed_20_times():
    kill_at(20, seed=6)


@pytest.mark.skipif(sys.platform != "linux", reason="it counts the files of /proc")
def test_an_interrupt_at_any_line_of_a_start_leaves_no_file_open():
    """At each line of the modules that open files, in turn, until a start has no such line left."""
    before, line = len(os.listdir("/proc/self/fd")), 0
    while interrupted_at_line(line):
        assert len(os.listdir("/proc/self/fd")) == before, f"line event {line}"
        line += 1
    assert line > 50


def interrupted_at_line(wanted):
    """Start and end a rank; whether there was an n-th line, at which SIGINT came."""
    seen, modules = itertools.count(), OPENING

    def follow(frame, event, argument):
        if not frame.f_code.co_filename.endswith(modules):
            return None
        if event == "line" and next(seen) == wanted:
            signal.raise_signal(signal.SIGINT)
        return follow

    sys.settrace(follow)
    try:
        ranks = LaunchedRanks(1, 1, timeout=30.0)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    ranks.close()
    return False

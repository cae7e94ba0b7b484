"""Processes: private, closed in every way that a pipeline can end, loud about failures."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.engine.launch.processes import Processes
from pipelab.engine.transport.backends import MessageError, Tagged
from pipelab.engine.transport.p2p import GroupMessages
from pipelab.errors import LaunchError, PipelineClosed, RankDied, RankError, RankTimeout
from pipelab.models import mlp
from pipelab.partition.tree import flatten
from pipelab.schedules import gpipe, one_f_one_b
from tests.faults.leftovers import gone

ROOT = Path(__file__).parents[2]
X, Y = torch.randn(12, 16), torch.randint(10, (12,))


def open_pipeline(model=None, schedule=None, **options):
    return Pipeline(model or mlp(), schedule or one_f_one_b(4, 3), loss=cross_entropy, **options)


def server():
    """The process that ranks are forked from."""
    return fork_server.pid()


ENDED = "the process that ranks are forked from has ended .* Try once more"


def test_a_server_killed_just_before_a_launch_is_reported_in_words():
    open_pipeline().close()
    os.kill(server(), signal.SIGSTOP)  # or Python may notice its death, and start another
    killer = threading.Timer(0.2, os.kill, (server(), signal.SIGKILL))
    killer.start()
    with pytest.raises(LaunchError, match=ENDED):
        open_pipeline()
    killer.join()
    with open_pipeline() as pipeline:
        assert pipeline.step(X, Y).loss > 0


def test_a_server_killed_while_it_loads_is_reported_and_the_next_launch_starts_another():
    open_pipeline().close()
    before = server()
    os.kill(before, signal.SIGKILL)
    assert gone([before])

    def kill_the_next():
        until = time.monotonic() + 10.0
        while server() in (before, None) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(server(), signal.SIGKILL)  # it takes a second to load torch

    killer = threading.Thread(target=kill_the_next)
    killer.start()
    with pytest.raises(LaunchError, match=ENDED):
        open_pipeline()
    killer.join()
    assert server() != before
    with open_pipeline() as pipeline:
        assert pipeline.step(X, Y).loss > 0


def test_a_temporary_folder_may_have_a_path_of_any_length(tmp_path):
    """No socket has a path: one of more than 107 bytes was refused."""
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    code = (
        "import torch\n"
        "from pipelab.engine import Pipeline\n"
        "from pipelab.models import mlp\n"
        "from pipelab.schedules import gpipe\n"
        "with Pipeline(mlp(), gpipe(2, 2), loss=torch.nn.functional.cross_entropy) as pipeline:\n"
        "    print(pipeline.step(torch.randn(4, 16), torch.randint(10, (4,))).loss > 0)\n"
    )
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not list(folder.glob("p*"))  # of pipelab, or of Python's multiprocessing


def test_one_process_per_rank_with_the_threads_that_are_left():
    with open_pipeline() as pipeline:
        assert len(set(pipeline.pids)) == 4
        assert os.getpid() not in pipeline.pids
        assert all(psutil.pid_exists(pid) for pid in pipeline.pids)
        pids = pipeline.pids
    assert gone(pids)
    assert pipeline.pids == ()
    with pytest.raises(PipelineClosed, match="open a new Pipeline"):
        pipeline.step(X, Y)
    pipeline.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_port_listens_beyond_loopback_and_the_folder_is_private(monkeypatch, replicas):
    seen = []
    remove = Processes.remove_folder

    def look_first(processes):
        if processes.folder.exists():
            modes = [stat.S_IMODE(p.stat().st_mode) for p in processes.folder.glob("*.log")]
            seen.append((stat.S_IMODE(processes.folder.stat().st_mode), *modes))
        remove(processes)

    monkeypatch.setattr(Processes, "remove_folder", look_first)
    with open_pipeline(replicas=replicas) as pipeline:
        folder = pipeline._ranks._processes.folder
        assert not folder.exists()  # the ranks have met: nothing is left, however they may die
        assert seen == [(0o700, *[0o600] * 4 * replicas)]
        pipeline.step(X, Y)
        sockets = [c for pid in pipeline.pids for c in psutil.Process(pid).net_connections("inet")]
        threads = [len(psutil.Process(pid).threads()) for pid in pipeline.pids]
        assert bool(sockets) == (replicas > 1), "messages need none, the sum over replicas does"
        assert replicas > 1 or max(threads) <= 2, "the rank's, and the one that ends it"
        assert {c.laddr.ip for c in sockets} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_an_exception_in_the_block_ends_all_processes():
    with pytest.raises(ZeroDivisionError), open_pipeline() as pipeline:
        pids = pipeline.pids
        pipeline.step(X, Y)
        raise ZeroDivisionError
    assert gone(pids)


class Trap(nn.Module):
    """Does something nasty in the forward of its n-th microbatch."""

    def __init__(self, what, at=1):
        super().__init__()
        self.what, self.at, self.seen = what, at, 0

    def forward(self, x):
        self.seen += 1
        if self.seen > self.at:
            match self.what:
                case "raise":
                    raise KeyError("my own bug")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "exit":
                    sys.exit(3)
                case "loop":
                    while True:
                        time.sleep(0.01)
                case "word":
                    return x, "word"
                case "print":
                    print("hello from forward", self.seen)
        return x


def trapped(what, place):
    layers = list(mlp(depth=4))
    layers.insert(place, Trap(what))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("place", [0, 2, 3])
def test_the_learners_own_exception_comes_first(place):
    started = time.monotonic()
    with open_pipeline(trapped("raise", place), gpipe(5, 3)) as pipeline:
        pids = pipeline.pids
        with pytest.raises(RankError) as caught:
            pipeline.step(X, Y)
    error = caught.value
    assert (error.rank, error.action) == (place, f"{place}F1")
    assert str(error).startswith(
        f"rank {place} failed in {place}F1 (stage {place}, forward, microbatch 1): KeyError: 'my"
    )
    assert (error.stage, error.microbatch) == (place, 1)
    assert 'in forward: raise KeyError("my own bug")' in str(error)
    assert "reset" not in str(error)
    assert len(str(error).splitlines()) <= 4
    assert 'raise KeyError("my own bug")' in error.details
    assert gone(pids)
    assert time.monotonic() - started < 5


def test_what_cannot_be_handed_over_is_named():
    words = r"rank 2 failed in 2F1 \(.*\): TypeError: a str where a tensor is expected"
    with (
        open_pipeline(trapped("word", 2), gpipe(5, 3)) as pipeline,
        pytest.raises(RankError, match=words),
    ):
        pipeline.step(X, Y)


@pytest.mark.parametrize(("what", "error"), [("kill", RankDied), ("exit", RankError)])
def test_a_dead_rank_is_named(what, error):
    with open_pipeline(trapped(what, 2), gpipe(5, 3)) as pipeline:
        pids = pipeline.pids
        with pytest.raises(error, match=r"rank 2 (died|failed) in 2F1") as caught:
            pipeline.step(X, Y)
    assert caught.value.rank == 2
    assert gone(pids)


@pytest.mark.parametrize("place", [0, 4])
def test_an_endless_loop_meets_the_deadline(place):
    with open_pipeline(trapped("loop", place), gpipe(5, 3), timeout=1.0) as pipeline:
        started = time.monotonic()
        with pytest.raises(RankTimeout, match=f"rank {place} is in {place}F1") as caught:
            pipeline.step(X, Y)
        assert time.monotonic() - started < 4
    assert caught.value.rank == place


def test_what_ranks_print_comes_home_in_rank_order(capfd):
    layers = [Trap("print", at=0) for _ in range(3)] + [nn.Linear(16, 10)]
    with open_pipeline(nn.Sequential(*layers), gpipe(4, 2)) as pipeline:
        pipeline.step(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [f"[rank {r}] hello from forward {i}" for r in range(3) for i in (1, 2)]


def test_closing_from_another_thread_stops_a_step_at_once():
    with open_pipeline(trapped("loop", 1), gpipe(5, 3)) as pipeline:
        pids = pipeline.pids
        threading.Timer(0.3, pipeline.close).start()
        started = time.monotonic()
        with pytest.raises(PipelineClosed, match="closed during its work"):
            pipeline.step(X, Y)
        assert time.monotonic() - started < 1.5
    assert gone(pids)


def test_a_pipeline_shows_its_ranks_in_one_line():
    """As the last expression of a cell: an address in memory did not say that ranks are open."""
    with open_pipeline(schedule=gpipe(2, 2), replicas=2) as pipeline:
        assert repr(pipeline) == (
            "<Pipeline: 4 ranks are open, one process each; .close() ends them, as a with block "
            "does>"
        )
        with open_pipeline(schedule=gpipe(1, 1)) as other:
            assert repr(other).startswith("<Pipeline: 1 rank is open")
    assert repr(pipeline) == "<Pipeline: closed; open a new Pipeline to continue>"
    pipeline._ranks.why_closed = "it was not used for 60 s"
    assert repr(pipeline).startswith("<Pipeline: closed (it was not used for 60 s); open a new")
    assert repr(Pipeline.__new__(Pipeline)) == "<Pipeline: it was not opened>"  # in a debugger


SCRIPT = """
import os, sys, time
from functools import partial
import torch
from torch import nn
from pipelab.engine import Pipeline
from pipelab.schedules import one_f_one_b

class Twice(nn.Module):
    def forward(self, x):
        return 2 * x

def my_loss(output, target):
    return ((output - target) ** 2).mean()

model = nn.Sequential(nn.Linear(4, 4), Twice(), nn.Linear(4, 4), Twice())
pipeline = Pipeline(model, one_f_one_b(4, 2), loss=my_loss,
                    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01))
pipeline.step(torch.ones(4, 4), torch.ones(4, 4))
print("pids", *pipeline.pids, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGINT,
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),  # faults/test_interrupts does it, too
    ],
)
def test_ranks_follow_a_killed_parent(tmp_path, end):
    path = tmp_path / "script_without_guard.py"
    path.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("pids"):
            break
    pids = list(map(int, line.split()[1:]))
    assert all(map(psutil.pid_exists, pids))
    process.send_signal(end)
    try:
        # after SIGINT the interpreter says goodbye in its own time; after SIGKILL nobody waits
        assert gone(pids, seconds=2.0 if end == signal.SIGKILL else 20.0)
    finally:
        process.kill()
        process.communicate()


def test_cuda_is_untouched_and_classes_travel_by_value():
    seen = {}

    class Here(nn.Module):
        def forward(self, x):
            assert not torch.cuda.is_initialized()
            return x * seen.get("factor", 3)

    model = nn.Sequential(nn.Linear(16, 10), Here())
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        out = pipeline.predict(X)
    assert torch.allclose(out, 3 * model[0](X), atol=1e-6)


class Modules(nn.Module):
    """Adds the number of modules that this rank has loaded since its first forward."""

    def __init__(self):
        super().__init__()
        self.before = None

    def forward(self, x):
        names = set(sys.modules)
        self.before = self.before or names
        new = sorted(name for name in names - self.before if "pipelab" not in name)
        print("dynamo" if "torch._dynamo" in names else "no dynamo", new)
        return x


def test_the_fork_server_has_loaded_all_that_a_step_needs(capfd):
    # its imports were once removed as "unused": each launch then took seconds
    layers = [nn.Linear(16, 16), Modules(), nn.Linear(16, 10)]
    with open_pipeline(
        nn.Sequential(*layers), gpipe(2, 1), optimizer=torch.optim.AdamW
    ) as pipeline:
        for _ in range(3):
            pipeline.step(X, Y)
    assert capfd.readouterr().out.splitlines() == ["[rank 1] dynamo []"] * 3


class GoneGroup:
    """Gloo's, after the peer has closed the connection: to start a message fails already."""

    def send(self, *_):
        raise RuntimeError("Connection closed by peer")

    recv = send


def test_a_message_that_cannot_be_started_is_a_consequence_not_the_cause():
    """Reported as a failure of this rank, it sometimes hid the bug of the rank that had ended."""
    gloo = Tagged(GoneGroup(), torch.device("cpu"))
    messages = GroupMessages(gloo, gloo, num_stages=2, timeout=1.0)
    with pytest.raises(MessageError, match="1RECV_F0: the message with rank 0 failed") as caught:
        messages.post(Action(1, Kind.RECV_F, 0), peer=0, rows=4)
    assert caught.value.peer == 0
    value = flatten(torch.zeros(4, 2))
    with pytest.raises(MessageError, match="0SEND_F0: the message with rank 1 failed"):
        messages.send(Action(0, Kind.SEND_F, 0), value, peer=1, rows=4, stamp=0.0)


def test_two_threads_that_close_at_once_close_the_line_once():
    """They closed its file twice, which some other part of the program may have owned by then."""
    pipeline, errors = open_pipeline(), []
    line = pipeline._ranks._processes._lifeline
    close = line._close
    line._close = lambda: (time.sleep(0.1), close())  # long enough for the other thread

    def end():
        try:
            pipeline.close()
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=end) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


class InHeap(nn.Linear):
    """A block of 31 MB is part of the heap, which keeps it, and no mapping that comes and goes."""

    def forward(self, x):
        block = torch.empty(31 << 20, dtype=torch.uint8).data_ptr()
        maps = Path("/proc/self/maps").read_text().splitlines()
        heap = [line.split()[0].split("-") for line in maps if line.endswith("[heap]")]
        assert any(int(begin, 16) <= block < int(end, 16) for begin, end in heap)
        return super().forward(x)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_rank_keeps_the_memory_that_it_frees():
    with open_pipeline(nn.Sequential(InHeap(16, 16), nn.Linear(16, 10)), gpipe(2, 2)) as pipeline:
        assert pipeline.step(X, Y).loss > 0

"""Who waits for whom when a deadline passes; what a NaN does; an idle pipeline; output in order."""

import gc
import os
import signal
import time
import warnings

import psutil
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline
from pipelab.engine.failures.cause import timed_out
from pipelab.engine.failures.findings import Absent, Findings, State
from pipelab.engine.protocol.commands import Done
from pipelab.engine.protocol.progress import Progress, Wanted
from pipelab.errors import PipelabError, PipelineClosed, RankError, RankTimeout
from pipelab.schedules import gpipe
from pipelab.schedules.walk import cycle
from tests.faults import trap
from tests.faults.leftovers import Held, nothing_more
from tests.faults.trap import SCHEDULES, Spot

X, Y = torch.randn(12, 8), torch.randint(8, (12,))


def pipeline(where=None, layers=None, schedule=None, **options):
    schedule = schedule or SCHEDULES["gpipe"]
    layers = layers or trap.model(schedule.num_stages, where)
    return Pipeline(layers, schedule, loss=cross_entropy, **options)


def test_the_error_shows_each_rank_and_the_message_it_waits_for():
    with (
        pipeline(Spot("loop", 1, "F", 2, 0), timeout=1.0) as ranks,
        pytest.raises(RankTimeout) as caught,
    ):
        ranks.step(X, Y)
    lines = str(caught.value).splitlines()
    assert lines[0] == "no answer for 1 s (timeout=1):"
    assert lines[1].startswith(
        "  rank 0 waits for a message, 1SEND_B0 from rank 1, for stage 0, mi"
    )
    assert lines[2] == "  rank 1 is in 1F2 (stage 1, forward, microbatch 2)"
    assert lines[3].startswith(
        "  rank 2 waits for a message, 1SEND_F2 from rank 1, for stage 2, mi"
    )
    assert "endless loop on rank 1" in lines[4]
    assert (caught.value.rank, caught.value.action) == (1, "1F2")


def test_a_ring_of_waits_is_drawn(tmp_path):
    page = Progress(tmp_path, 3)
    page.write(0, Action(0, Kind.WAIT, 1), Wanted(Action(1, Kind.SEND_B, 1), 1))
    page.write(1, Action(1, Kind.WAIT, 2), Wanted(Action(0, Kind.SEND_F, 2), 0))
    page.write(2, Action(2, Kind.STEP))
    alive = Absent(State.ALIVE)
    error = timed_out(
        Findings([None] * 3, {2: Done()}, {0: alive, 1: alive}, page.begun(), timeout=5.0)
    )
    assert "in a ring: rank 0 -> rank 1 -> rank 0" in str(error)
    assert "rank 2 has finished" in str(error)
    assert "rank 1 waits for a message, 0SEND_F2 from rank 0" in str(error)
    assert cycle({0: 1, 1: 2}) == []


def test_a_rank_that_waits_until_its_last_message_is_taken_is_not_blamed():
    with pipeline(timeout=1.0) as ranks:
        ranks.predict(X)
        os.kill(ranks.pids[1], signal.SIGSTOP)
        with pytest.raises(RankTimeout, match=r"rank 1 .*: its process is stopped") as caught:
            ranks.predict(torch.randn(600, 8))
    assert caught.value.rank == 1
    assert "Rank 1 was stopped from outside" in str(caught.value)


class Wide(nn.Linear):
    def forward(self, x):
        return super().forward(x).repeat(1, 1_200_000)  # more than a ring holds


class Sleeps(nn.Module):
    def forward(self, x):
        while True:
            time.sleep(0.01)


def test_a_rank_that_cannot_send_is_said_to_wait():
    """It was said to be in its SEND, as if it were busy; so no ring of sends was ever found."""
    with pipeline(layers=[Wide(8, 8), Sleeps()], schedule=gpipe(2, 3), timeout=1.0) as ranks:
        with pytest.raises(RankTimeout) as caught:
            ranks.step(X[:3], Y[:3])
        assert caught.value.rank == 1, str(caught.value)
    assert "rank 0 waits until rank 1 takes its message 0SEND_F" in str(caught.value)
    assert "endless loop on rank 1" in str(caught.value)


@pytest.mark.parametrize("kind", ["F", "B"])
def test_a_nan_is_a_result_without_stop_at_nan(kind):
    where = Spot("nan", 1, kind, 2, 0)
    with pipeline(where) as ranks:
        loss = ranks.step(X, Y).loss
        assert (loss != loss) == (kind == "F")
        assert any(g.isnan().any() for g in ranks.gradients().values())
    with pipeline(where, stop_at_nan=True) as ranks, pytest.raises(RankError) as caught:
        ranks.step(X, Y)
    assert (caught.value.stage, caught.value.microbatch) == (1, 2)
    assert "holds NaN: 16 of 16 values are not finite" in str(caught.value)


def test_an_idle_pipeline_ends_its_processes_and_says_so():
    before = Held.now()
    with pipeline(idle_timeout=0.8) as ranks:
        pids = ranks.pids
        for _ in range(4):  # busy, though longer than the idle time in all
            ranks.step(X, Y)
            time.sleep(0.3)
        assert ranks.pids == pids
        until = time.monotonic() + 20.0
        while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
            time.sleep(0.05)
        assert ranks.pids == ()
        assert nothing_more(before) is None
        with pytest.raises(PipelineClosed, match=r"for 0.8 s \(idle_timeout=0.8\).*open a new"):
            ranks.step(X, Y)


def test_a_forgotten_pipeline_with_an_idle_time_ends_at_once():
    ranks = pipeline(idle_timeout=600.0)
    pids = ranks.pids
    del ranks
    gc.collect()
    until = time.monotonic() + 10.0
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(seconds):
    for name in ("timeout", "idle_timeout"):
        with pytest.raises(PipelabError, match=f"{name}="):
            pipeline(**{name: seconds})


class Speaks(nn.Module):
    def __init__(self, times=1, warns=False):
        super().__init__()
        self.times, self.warns = times, warns

    def forward(self, x):
        for i in range(self.times):
            print("line", i)
        if self.warns:
            warnings.warn("careful", stacklevel=1)
        return x


def test_warnings_come_home_too_and_a_flood_is_bounded(capsys):
    layers = [Speaks(warns=True), Speaks(times=20_000), nn.Linear(8, 8)]
    with pipeline(layers=layers, schedule=gpipe(3, 1)) as ranks:
        ranks.step(X, Y)
        lines = capsys.readouterr().out.splitlines()
        ranks.predict(X)  # and the next call brings its own alone
        more = capsys.readouterr().out.splitlines()
    assert lines[0] == "[rank 0] line 0"
    assert any("UserWarning: careful" in line for line in lines if line.startswith("[rank 0]"))
    assert [int(line[6]) for line in lines] == sorted(int(line[6]) for line in lines)
    assert lines[-1].endswith("bytes left out") and len("".join(lines)) < 60_000
    assert more[0] == "[rank 0] line 0"


def test_a_flood_that_nobody_reads_does_not_fill_the_disk(monkeypatch, capsys):
    monkeypatch.setattr("pipelab.engine.protocol.logs._LARGE", 200_000)

    class Endless(nn.Module):
        def forward(self, x):
            while True:
                print("x" * 1000)
                time.sleep(0.0001)

    with pipeline(layers=[Endless(), nn.Linear(8, 8)], schedule=gpipe(2, 1), timeout=2.5) as ranks:
        sizes = []
        bound = ranks._ranks._processes.logs.bound

        def look():
            bound()
            sizes.append(os.fstat(ranks._ranks._processes.logs.files[0]).st_size)

        monkeypatch.setattr(ranks._ranks._processes.logs, "bound", look)
        with pytest.raises(RankTimeout):
            ranks.step(X, Y)
    words = capsys.readouterr().out.splitlines()[-1]
    left_out = int(words.split("... ")[1].split()[0].replace(",", ""))
    assert left_out > 200_000 > min(sizes[1:])  # the file was cut, and all is counted

"""A rank is killed while it, or its peer, waits in shared memory: the ring full, or empty."""

import os
import signal
import threading
import time

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.errors import RankDied
from pipelab.schedules import gpipe
from tests.faults.leftovers import Held, nothing_more

WIDTH = 6_000_000  # floats of one row: two microbatches of a row fill the ring
LONG = 30.0  # seconds


class Spread(nn.Module):
    """Sends much more than a ring holds; slow: only after a while."""

    def __init__(self, slow):
        super().__init__()
        self.scale, self.slow = nn.Parameter(torch.ones(1)), slow

    def forward(self, x):
        if self.slow:
            time.sleep(LONG)
        return (x * self.scale).expand(-1, WIDTH).contiguous()


class Gather(nn.Module):
    def __init__(self, slow):
        super().__init__()
        self.shift, self.slow = nn.Parameter(torch.zeros(1)), slow

    def forward(self, x):
        if self.slow:
            time.sleep(LONG)
        return x.mean(1, keepdim=True) + self.shift


def is_sending(begun):
    """Rank 0 has filled the ring: rank 1 works on the first microbatch, and takes nothing."""
    action = begun[0].action
    return action is not None and action.kind is Kind.SEND_F and action.microbatch >= 2


def is_receiving(begun):
    """Rank 1 waits for the first microbatch, on which rank 0 works."""
    return begun[1].wanted is not None


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("waits", [is_sending, is_receiving], ids=["ring full", "ring empty"])
def test_a_rank_killed_at_either_end_is_named_at_once(waits, victim):
    Pipeline([nn.Linear(1, 1)], gpipe(1, 1), loss=mse_loss).close()  # the fork server is up
    before = Held.now()
    model = nn.Sequential(Spread(waits is is_receiving), Gather(waits is is_sending))
    killed = []

    def kill(pipeline):
        until = time.monotonic() + LONG / 2
        while not waits(pipeline.begun) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)  # into the wait
        killed.append(time.monotonic())
        os.kill(pipeline.pids[victim], signal.SIGKILL)

    with (
        pytest.raises(RankDied, match="killed by signal 9") as caught,
        Pipeline(model, gpipe(2, 4), loss=mse_loss, timeout=LONG) as pipeline,
    ):
        threading.Thread(target=kill, args=(pipeline,), daemon=True).start()
        pipeline.step(torch.randn(4, 1), torch.randn(4, 1))
    assert time.monotonic() - killed[0] < LONG / 3
    assert caught.value.rank == victim
    left = nothing_more(before, 5.0)
    assert left is None, left

"""How far this machine's clock is from rank 0's, and how well that is known.

``time.monotonic`` counts from each machine's start. A rank asks rank 0 for the time, several
times in a row. Rank 0 read its clock at some moment between question and answer, so half of the
round trip bounds the error; the shortest round trip gives the best bound (Mills, RFC 5905, section
8; rank 0 sends one timestamp where NTP sends two).

    asked ──────▶ rank 0 reads its clock ──────▶ heard        offset = read - (asked + heard) / 2
"""

import time
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

ROUNDS = 16
DRIFT = 50e-6  # seconds a second: how fast two quartz clocks may drift apart


class Clock(NamedTuple):
    """``offset``: seconds to add to this clock for rank 0's. ``error``: how wrong that may be."""

    offset: float = 0.0
    error: float = 0.0
    measured: float = 0.0  # when, on this clock

    def error_now(self) -> float:
        """The error with what the clocks may have drifted apart since; 0.0 on one machine."""
        return self.error and self.error + DRIFT * (time.monotonic() - self.measured)


def measure(group: dist.ProcessGroup, rank: int, num_ranks: int, timeout: float) -> Clock:
    """This rank's clock against rank 0's. All ranks call it at once, and ask in turn."""
    clock = Clock()
    limit = timedelta(seconds=timeout)
    for other in range(1, num_ranks):
        if rank == other:
            rounds = [_ask(group, limit) for _ in range(ROUNDS)]
            clock = min(rounds, key=lambda c: c.error)
        elif rank == 0:
            for _ in range(ROUNDS):
                _answer(group, other, limit)
    return clock


def _ask(group: dist.ProcessGroup, limit: timedelta) -> Clock:
    answer = torch.empty(1, dtype=torch.float64)
    coming = group.recv(
        [answer], 0, 1
    )  # opened before the question, so that it costs no time of the round trip
    asked = time.monotonic()
    group.send([torch.zeros(1, dtype=torch.float64)], 0, 0).wait(limit)
    coming.wait(limit)
    heard = time.monotonic()
    return Clock(answer.item() - (asked + heard) / 2, (heard - asked) / 2, heard)


def _answer(group: dist.ProcessGroup, other: int, limit: timedelta) -> None:
    group.recv([torch.empty(1, dtype=torch.float64)], other, 0).wait(limit)
    now = torch.tensor([time.monotonic()], dtype=torch.float64)
    group.send([now], other, 1).wait(limit)

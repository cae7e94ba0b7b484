"""What the demo records, on real ranks: the training, a few paced steps, and one process.

    train        as fast as this machine goes
    paced        the same processes, tensors and messages; each action padded to a set time
    one_process  the same batch on a pipeline of one rank: the yardstick for bytes

The parameters that one recording has learnt, the next one starts with.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.models import batches, next_byte_loss, tiny_gpt
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.simulator import Cost
from pipelab.trace import Trace

CONTEXT = 64  # bytes that the model sees
ROWS_PER_MICROBATCH = 4
PACED_STEPS = 5
SHORTEST, LONGEST = 0.010, 0.050  # seconds of a paced F

_open = partial(
    Pipeline, loss=next_byte_loss, optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.0)
)


class Training(NamedTuple):
    """The losses of all steps, and the trace of the last one."""

    losses: list[float]
    trace: Trace


class Lesson:
    """A model, its text and its schedule."""

    def __init__(self, num_ranks: int, num_microbatches: int):
        torch.manual_seed(0)
        self.model: nn.Sequential = tiny_gpt(blocks=max(4, num_ranks), context=CONTEXT)
        self.schedule: Schedule = one_f_one_b(num_ranks, num_microbatches)
        rows = num_microbatches * ROWS_PER_MICROBATCH
        self.batches: Iterator[tuple[Tensor, Tensor]] = batches(rows, CONTEXT)

    @property
    def num_parameters(self) -> int:
        """All numbers that training changes."""
        return sum(p.numel() for p in self.model.parameters())

    def train(
        self,
        steps: int,
        launched: Callable[[float], None],
        progress: Callable[[int, float, float], None],
    ) -> Training:
        """Train on the ranks, and bring the parameters home.

        Args:
            launched: called with the seconds that the ranks took to start.
            progress: called after each step with its number, its loss, and the seconds so far.
        """
        losses = []
        start = time.monotonic()
        with _open(self.model, self.schedule) as pipeline:
            launched(time.monotonic() - start)
            start = time.monotonic()
            for step in range(1, steps + 1):
                result = pipeline.step(*next(self.batches))
                losses.append(result.loss)
                progress(step, result.loss, time.monotonic() - start)
            self.model.load_state_dict(pipeline.state_dict())
        return Training(losses, result.trace)

    def paced(self, cost: Cost) -> Trace:
        """The step of median duration among a few paced ones; the very first only warms up."""
        with _open(self.model, self.schedule, pace=cost) as pipeline:
            pipeline.step(*next(self.batches))
            traces = [pipeline.step(*next(self.batches)).trace for _ in range(PACED_STEPS)]
        return sorted(traces, key=lambda trace: trace.duration)[PACED_STEPS // 2]

    def one_process(self) -> Trace:
        """One step on a single rank that takes the whole batch at once."""
        with _open(self.model, gpipe(1, 1)) as pipeline:
            return pipeline.step(*next(self.batches)).trace


def pace_above(trace: Trace) -> Cost:
    """A cost that pads every action: F = I = W, well above what F and B took, in whole ms."""
    forward, backward = (_slow_seconds(trace, kind) for kind in (Kind.F, Kind.B))
    unit = math.ceil(1000 * max(2 * forward, backward)) / 1000
    unit = min(max(unit, SHORTEST), LONGEST)
    return Cost(forward=unit, backward_input=unit, backward_weight=unit)


def _slow_seconds(trace: Trace, kind: Kind) -> float:
    """What three of four actions of a kind stay below, on the rank that takes longest for it."""
    seconds: dict[int, list[float]] = {}
    for event in trace.events:
        if event.kind is kind:
            seconds.setdefault(event.rank, []).append(event.end - event.start)
    return max(sorted(row)[len(row) * 3 // 4] for row in seconds.values())

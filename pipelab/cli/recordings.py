"""What ``demo``, ``compare`` and ``run`` record, on real ranks: a tiny GPT that learns English.

Training     as fast as this machine goes, then a few paced steps, then one step in one process;
             the parameters that one recording has learnt, the next one starts with
paced        any schedule with a small model, each action as long as its cost
record       any schedule for ``run``: paced, or as fast as this machine goes
take_turns   pipelab's engine and PyTorch's, step by step in turns
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.action import Kind
from pipelab.cli.console import ProgressLine
from pipelab.engine import Pipeline
from pipelab.models import batches, next_byte_loss, tiny_gpt
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.simulator import Cost
from pipelab.trace import Trace, least_disturbed

CONTEXT = 64  # bytes that the model sees
ROWS_PER_MICROBATCH = 4
PACED_STEPS = 5
WARMUP = 3  # turns of both engines that do not count
SHORTEST, LONGEST = 0.010, 0.050  # seconds of a paced F

_open = partial(
    Pipeline, loss=next_byte_loss, optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.0)
)


def typical(traces: Sequence[Trace]) -> Trace:
    """The one of median duration."""
    return sorted(traces, key=lambda trace: trace.duration)[len(traces) // 2]


def _tiny_gpt(schedule: Schedule) -> tuple[nn.Sequential, Iterator[tuple[Tensor, Tensor]]]:
    """A model with a block for each stage, and its batches; the same every time."""
    torch.manual_seed(0)
    model = tiny_gpt(blocks=max(4, schedule.num_stages), context=CONTEXT)
    return model, batches(schedule.num_microbatches * ROWS_PER_MICROBATCH, CONTEXT)


class Training:
    """A model, its text and its schedule."""

    def __init__(self, num_ranks: int, num_microbatches: int):
        self.schedule: Schedule = one_f_one_b(num_ranks, num_microbatches)
        self.model, self.batches = _tiny_gpt(self.schedule)

    @property
    def num_parameters(self) -> int:
        """All numbers that training changes."""
        return sum(p.numel() for p in self.model.parameters())

    @contextmanager
    def unpaced(self) -> Iterator[Pipeline]:
        """A pipeline, as fast as this machine goes; at the end its parameters come home."""
        with _open(self.model, self.schedule) as pipeline:
            yield pipeline
            self.model.load_state_dict(pipeline.state_dict())

    def paced(self, cost: Cost) -> Trace:
        """The step of median duration among a few paced ones; the very first only warms up."""
        with _open(self.model, self.schedule) as pipeline:
            pipeline.step(*next(self.batches))
            pipeline.pace = cost
            pipeline.use(self.schedule)
            return typical([pipeline.step(*next(self.batches)).trace for _ in range(PACED_STEPS)])

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


def paced(schedule: Schedule, cost: Cost, steps: int = 3) -> Trace:
    """The step of median duration of a small model that is paced to ``cost``."""
    return typical(_paced_steps(schedule, cost, steps))


def _paced_steps(schedule: Schedule, cost: Cost, steps: int) -> list[Trace]:
    """Steps of a model so small that its actions end before their set time; one more warms up."""
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(schedule.num_stages)))
    batch = torch.ones(2 * schedule.num_microbatches, 8)
    with Pipeline(
        model, schedule, loss=nn.functional.mse_loss, pace=cost, device="cpu"
    ) as pipeline:
        pipeline.step(batch, batch)
        return [pipeline.step(batch, batch).trace for _ in range(steps)]


def record(schedule: Schedule, cost: Cost | None, steps: int) -> Trace:
    """One step of a few on the CPU: the least disturbed paced one, or the median of unpaced ones.

    Unpaced, the tiny GPT trains; it has a block for each stage.
    """
    if cost:
        return least_disturbed(_paced_steps(schedule, cost, steps))
    model, stream = _tiny_gpt(schedule)
    with _open(model, schedule, device="cpu") as pipeline:
        for _ in range(WARMUP):
            pipeline.step(*next(stream))
        return typical([pipeline.step(*next(stream)).trace for _ in range(steps)])


class Turns(NamedTuple):
    """The traces of all counted steps, of both engines, in the order in which they ran."""

    ours: list[Trace]
    torchs: list[Trace]

    @property
    def ratios(self) -> list[float]:
        """Torch's duration over ours, turn by turn."""
        return [b.duration / a.duration for a, b in zip(self.ours, self.torchs, strict=True)]


def take_turns(schedule: Schedule, steps: int, pace: Cost | None = None) -> Turns:
    """Let both engines train, step by step in turns, so that other programs slow both alike."""
    model, stream = _tiny_gpt(schedule)
    line, turns = ProgressLine(WARMUP + steps), Turns([], [])
    with (
        Pipeline(model, schedule, loss=next_byte_loss, pace=pace) as ours,
        Pipeline(model, schedule, loss=next_byte_loss, pace=pace, worker="torch") as torchs,
    ):
        pairs: list[tuple[Pipeline, list[Trace]]] = [(ours, turns.ours), (torchs, turns.torchs)]
        for step in range(1, WARMUP + steps + 1):
            batch = next(stream)
            for pipeline, traces in pairs if step % 2 else pairs[::-1]:
                trace = pipeline.step(*batch).trace
                if step > WARMUP:
                    traces.append(trace)
            line.show(step, f"turn {step}/{WARMUP + steps}")
    return turns

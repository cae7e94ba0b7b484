"""Plans for a training on a grid of replicas and stages: what each rank holds, how long it takes.

    4 ranks     1 x 4              2 x 2              4 x 1        replicas x stages
                0 ─ 1 ─ 2 ─ 3      0 ─ 1   pipeline   0  1  2  3
                                   2 ─ 3

All of it is on paper, from a machine and a model that are numbers: nothing runs here. ``plan_run``
runs a plan; a test compares both for every plan of the lesson's model.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from pipelab.action import COMPUTE, Kind
from pipelab.errors import LessonError
from pipelab.partition import balance
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import build
from pipelab.schedules.communication import Lowered, lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

__all__ = [
    "SCHEDULES",
    "Layer",
    "Machine",
    "Model",
    "Plan",
    "memory",
    "par",
    "plans",
    "predicted",
    "price",
    "schedule_of",
    "seconds",
    "stages_of",
    "step_seconds",
]

SCHEDULES = ("gpipe", "1f1b", "zero_bubble_h1", "zero_bubble_h2")


class Machine(NamedTuple):
    """What runs the training.

    Attributes:
        ranks: processes, each with a device; a plan uses all of them.
        start: seconds that an F, I or W takes in addition, however few its rows are.
        latency: seconds of a message, however small it is.
        bandwidth: bytes per second between two ranks.
    """

    ranks: int
    start: float
    latency: float
    bandwidth: float


class Layer(NamedTuple):
    """One layer.

    Attributes:
        seconds: of its F for one row; its I and its W take as long.
        weights: bytes.
        kept: bytes that the F of one row keeps for the backward.
        output: bytes that leave it for one row.
    """

    seconds: float
    weights: int
    kept: float
    output: float


class Model(NamedTuple):
    """Layers, and the rows of a batch."""

    rows: int
    layers: list[Layer]


class Plan(NamedTuple):
    """How a model is trained on a machine.

    Attributes:
        replicas: copies of the pipeline.
        sizes: how many layers each stage has; the stages of one replica.
        schedule: one of ``SCHEDULES``.
        microbatches: of each replica.
    """

    replicas: int
    sizes: list[int]
    schedule: str
    microbatches: int

    def __str__(self) -> str:
        grid = f"{self.replicas} x {len(self.sizes)}"
        return f"{grid}, layers {self.sizes}, {self.schedule}, m = {self.microbatches}"


def stages_of(model: Model, plan: Plan) -> list[list[Layer]]:
    """The layers of each stage."""
    ends = accumulate(plan.sizes, initial=0)
    return [model.layers[a:b] for a, b in pairwise(ends)]


def schedule_of(plan: Plan) -> Schedule:
    """What the ranks of one replica run."""
    return _built(plan.schedule, len(plan.sizes), plan.microbatches, 1).schedule


def memory(model: Model, plan: Plan) -> list[float]:
    """The most bytes on each rank of a replica, for SGD with momentum."""
    rows = model.rows / plan.replicas / plan.microbatches  # of one microbatch
    held = _held(plan.schedule, len(plan.sizes), plan.microbatches)
    result: list[float] = []
    before = 0.0
    for stage, microbatches in zip(stages_of(model, plan), held, strict=True):
        after = stage[-1].output if len(result) + 1 < len(held) else 0.0
        weights = sum(layer.weights for layer in stage)
        kept = microbatches * rows * (sum(layer.kept for layer in stage) + after)
        messages = 2 * rows * max(before, after)
        working = 3 * weights + kept + messages  # weights, gradients, momentum, and what F keeps
        averaging = 4 * weights if plan.replicas > 1 else 0  # the gradients of all replicas
        result.append(max(working, averaging))
        before = after
    return result


def price(machine: Machine, model: Model, plan: Plan) -> Cost:
    """What actions, messages and the average over replicas cost."""
    rows = model.rows / plan.replicas / plan.microbatches
    stages = stages_of(model, plan)
    work = [machine.start + rows * sum(layer.seconds for layer in stage) for stage in stages]
    travels = 2 * (plan.replicas - 1) / plan.replicas  # of the gradients, in a ring of replicas
    reduced = [travels * sum(layer.weights for layer in stage) for stage in stages]
    return Cost(
        work, work, work, latency=machine.latency, bandwidth=machine.bandwidth,
        message_bytes=[rows * stage[-1].output for stage in stages],
        reduce=[size / machine.bandwidth for size in reduced],
    )  # fmt: skip


def predicted(machine: Machine, model: Model, plan: Plan) -> Trace:
    """One replica's step on paper, with the average of its gradients over the replicas."""
    lowered = _built(plan.schedule, len(plan.sizes), plan.microbatches, plan.replicas)
    return simulate(lowered, price(machine, model, plan))


def seconds(machine: Machine, model: Model, plan: Plan) -> float:
    """The time of a step on paper."""
    layers, sizes = tuple(model.layers), tuple(plan.sizes)
    return _seconds(machine, model.rows, layers, plan._replace(sizes=sizes))  # type: ignore[arg-type]


@lru_cache(10_000)  # a search and the check of what it found ask for the same plans
def _seconds(machine: Machine, rows: int, layers: tuple[Layer, ...], plan: Plan) -> float:
    return step_seconds(predicted(machine, Model(rows, [*layers]), plan))


def step_seconds(trace: Trace) -> float:
    """From the first computation to the end of the last one, or of the last REDUCE_GRAD."""
    ends = (e.end for e in trace.events if e.kind in COMPUTE or e.kind is Kind.REDUCE_GRAD)
    return max(ends) - min(e.start for e in trace.events if e.kind in COMPUTE)


def plans(machine: Machine, model: Model) -> Iterator[Plan]:
    """All plans that use every rank, with cuts that balance seconds or bytes.

    Rows are shared out equally: replicas times microbatches divide them.
    """
    for replicas in _divisors(machine.ranks):
        p = machine.ranks // replicas
        if p > len(model.layers) or model.rows % replicas:
            continue
        for m in _divisors(model.rows // replicas):
            for sizes in _cuts(model, p, model.rows // replicas // m):
                for schedule in SCHEDULES if p > 1 else SCHEDULES[:2]:
                    yield Plan(replicas, sizes, schedule, m)


def par(machine: Machine, model: Model, budget: float) -> Plan:
    """The fastest plan whose ranks hold at most ``budget`` bytes each.

    Raises:
        LessonError: none fits.
    """
    fits = [plan for plan in plans(machine, model) if max(memory(model, plan)) <= budget]
    if not fits:
        least = min(max(memory(model, plan)) for plan in plans(machine, model))
        raise LessonError(
            f"no plan fits into {budget:,.0f} bytes on each rank: the smallest needs {least:,.0f}"
        )
    return min(fits, key=lambda plan: seconds(machine, model, plan))


def _cuts(model: Model, p: int, rows: int) -> list[list[int]]:
    """Balanced by seconds, and by bytes of weights and of what a microbatch keeps."""
    by = (
        [layer.seconds for layer in model.layers],
        [3 * layer.weights + rows * layer.kept for layer in model.layers],
    )
    found = [balance(costs, p) for costs in by]
    return found if found[0] != found[1] else found[:1]


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@cache
def _built(schedule: str, p: int, m: int, replicas: int) -> Lowered:
    return lower(build(schedule, p, m), replicas)


@cache
def _held(schedule: str, p: int, m: int) -> tuple[float, ...]:
    """Microbatches whose activations each rank holds at once, at the most."""
    return tuple(peak_activations(build(schedule, p, m)))

"""What a trace's actions and messages took: the ``Cost`` with which it is explained and changed."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from pipelab.simulator import Cost
from pipelab.trace import Trace
from pipelab.trace.links import link

PER_STAGE = ("forward", "backward_input", "backward_weight")


def cost_of(trace: Trace) -> Cost:
    """Medians per stage, and of what passed from a result to the start of who waited for it.

    That is the message and what the rank does between two actions. Steps of the optimizer and
    reductions are left out: they come after the computation that is explained.

    Raises:
        TraceError: nothing was computed in it.
    """
    delays = [
        node.event.start - node.producer.event.end
        for row in link(trace)
        for node in row
        if node.producer is not None
        and node.event.start > node.producer.event.end
        and (node.previous is None or node.previous.event.end < node.producer.event.end)
    ]
    latency = median(delays) if delays else 0.0
    return replace(Cost.from_trace(trace), latency=latency, step=0.0, reduce=0.0)


def stage_costs(cost: Cost, num_stages: int) -> list[tuple[float, ...]]:
    """For each stage its F, I and W in seconds."""
    columns = [_column(getattr(cost, name), num_stages) for name in PER_STAGE]
    return [*zip(*columns, strict=True)]


def with_stages(cost: Cost, rows: Sequence[Sequence[float]]) -> Cost:
    """The same cost with F, I and W of these stages."""
    columns = dict(zip(PER_STAGE, (tuple(c) for c in zip(*rows, strict=True)), strict=True))
    return replace(cost, **columns, message_bytes=0, activation_bytes=0)  # type: ignore[arg-type]


def typical(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The median of each column."""
    return tuple(median(column) for column in zip(*rows, strict=True))


def spread_evenly(rows: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """As many stages with the same work in all, each with the same share."""
    mean = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
    return [mean] * len(rows)


def cut_into(rows: Sequence[Sequence[float]], num_stages: int) -> list[tuple[float, ...]]:
    """The same model cut into another number of stages, its work spread evenly within each.

    >>> cut_into([(1.0, 2.0, 2.0), (3.0, 4.0, 4.0)], 4)[1:3]
    [(0.5, 1.0, 1.0), (1.5, 2.0, 2.0)]
    """
    scale = len(rows) / num_stages

    def until(place: float, column: int) -> float:
        whole = min(int(place), len(rows))
        part = (place - whole) * rows[whole][column] if whole < len(rows) else 0.0
        return sum(row[column] for row in rows[:whole]) + part

    return [
        tuple(until((i + 1) * scale, c) - until(i * scale, c) for c in range(len(PER_STAGE)))
        for i in range(num_stages)
    ]


def _column(value: float | Sequence[float], num_stages: int) -> list[float]:
    return [*value] if isinstance(value, Sequence) else [value] * num_stages

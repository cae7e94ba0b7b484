"""What a trace's actions and messages took: the ``Cost`` with which it is explained and changed.

Medians of each stage, as long as they explain the step; where microbatches differ (sequences of
unequal lengths), the times of each microbatch; where messages differ much, their mean. A stage's
costs are one row of numbers, so that "like the others" and "spread evenly" are the same arithmetic
for both:

    F, I, W                    medians
    F0 F1 ..., I0 ..., W0 ...  by microbatch
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median

from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.trace.links import link

_NAMES = ("forward", "backward_input", "backward_weight")
_GOOD = 0.02  # medians that explain a step this well are taken

Row = tuple[float, ...]


def cost_of(trace: Trace, schedule: Schedule) -> Cost:
    """What its actions took, and what passed from a result to the start of who waited for it.

    That is the message and what the rank does between two actions. Steps of the optimizer and
    reductions are left out: they come after the computation that is explained.

    Raises:
        TraceError: nothing was computed in it.
        ScheduleError: it cannot be simulated.
    """
    found = []
    for latency in _latencies(trace):
        for by_microbatch in (False, True):
            cost = Cost.from_trace(trace, by_microbatch)
            cost = replace(cost, latency=latency, step=0.0, reduce=0.0)
            error = abs(simulate(schedule, cost).duration / trace.duration - 1)
            if error < _GOOD:
                return cost
            found.append((error, cost))
    return min(found, key=lambda row: row[0])[1]


def _latencies(trace: Trace) -> list[float]:
    """What passes from a result to the start of who waited for it: the median, and the mean."""
    delays = [
        node.event.start - node.producer.event.end
        for row in link(trace)
        for node in row
        if node.producer is not None
        and node.event.start > node.producer.event.end
        and (node.previous is None or node.previous.event.end < node.producer.event.end)
    ]
    return [median(delays), mean(delays)] if delays else [0.0]


def stage_costs(cost: Cost, schedule: Schedule) -> list[Row]:
    """For each stage its F, I and W in seconds, by microbatch if the cost is."""
    rows = []
    for stage in range(schedule.num_stages):
        values = [getattr(cost, name) for name in _NAMES]
        entries = [value[stage] if isinstance(value, Sequence) else value for value in values]
        if cost.varies_by_microbatch:
            wide = [
                e if isinstance(e, Sequence) else [e] * schedule.num_microbatches for e in entries
            ]
            rows.append(tuple(x for row in wide for x in row))
        else:
            rows.append(tuple(entries))
    return rows


def with_stages(cost: Cost, rows: Sequence[Row]) -> Cost:
    """The same cost with F, I and W of these stages."""
    length = len(rows[0]) // len(_NAMES)
    columns: dict[str, tuple[float | Row, ...]] = {}
    for i, name in enumerate(_NAMES):
        parts = [row[i * length : (i + 1) * length] for row in rows]
        columns[name] = tuple(part if length > 1 else part[0] for part in parts)
    return replace(cost, **columns, message_bytes=0, activation_bytes=0)  # type: ignore[arg-type]


def typical(rows: Sequence[Row]) -> Row:
    """The median of each column."""
    return tuple(median(column) for column in zip(*rows, strict=True))


def spread_evenly(rows: Sequence[Row]) -> list[Row]:
    """As many stages with the same work in all, each with the same share."""
    mean = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
    return [mean] * len(rows)


def cut_into(rows: Sequence[Row], num_stages: int) -> list[Row]:
    """The same model cut into another number of stages, its work spread evenly within each.

    >>> cut_into([(1.0, 2.0, 2.0), (3.0, 4.0, 4.0)], 4)[1:3]
    [(0.5, 1.0, 1.0), (1.5, 2.0, 2.0)]
    """
    scale, columns = len(rows) / num_stages, range(len(rows[0]))

    def until(place: float, column: int) -> float:
        whole = min(int(place + 1e-9), len(rows))
        part = (place - whole) * rows[whole][column] if whole < len(rows) else 0.0
        return sum(row[column] for row in rows[:whole]) + part

    return [
        tuple(max(0.0, until((i + 1) * scale, c) - until(i * scale, c)) for c in columns)
        for i in range(num_stages)
    ]

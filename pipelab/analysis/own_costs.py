"""What a trace's actions and messages took: the ``Cost`` with which it is explained and changed.

The simplest that explains the step is taken: medians of each stage; where microbatches differ
(sequences of unequal lengths), the times of each microbatch; where messages differ much, their
mean; where a rank pauses between two actions, each with the pause before it. A stage's costs are
one row of numbers, so that "like the others" and "spread evenly" are the same arithmetic for all:

    F, I, W                    medians
    F0 F1 ..., I0 ..., W0 ...  by microbatch
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median
from typing import NamedTuple

from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Trace
from pipelab.trace.links import Node, link
from pipelab.trace.metrics import busy

_NAMES = ("forward", "backward_input", "backward_weight")
_GOOD = 0.005  # costs that explain a step this well are taken

Row = tuple[float, ...]


class Priced(NamedTuple):
    """The cost of a trace, and how it was found.

    Attributes:
        cost: with which a simulation explains it.
        pauses: whether actions are priced with the pause before them.
        working: of the time that is priced as computation, the share that is; 1.0 without pauses.
    """

    cost: Cost
    pauses: bool = False
    working: float = 1.0


def priced(trace: Trace, schedule: Schedule) -> Priced:
    """What its actions took, and what passed from a result to the start of who waited for it.

    Steps of the optimizer and reductions are left out: they come after the computation that is
    explained.

    Raises:
        TraceError: nothing was computed in it.
        ScheduleError: it cannot be simulated.
    """
    nodes = [node for row in link(trace) for node in row]
    latencies = _latencies(nodes)
    found = []
    for pauses in (False, True):
        recorded, working = trace, 1.0
        if pauses:
            recorded = _with_pauses(trace, nodes)
            seconds = [sum(busy(t.events, t.num_ranks)) for t in (trace, recorded)]
            working = seconds[0] / seconds[1]
        for latency in latencies:
            for by_microbatch in (False, True):
                cost = Cost.from_trace(recorded, by_microbatch)
                cost = replace(cost, latency=latency, step=0.0, reduce=0.0)
                error = abs(simulate(schedule, cost).duration / trace.duration - 1)
                own = Priced(cost, pauses, working)
                if error < _GOOD:
                    return own
                found.append((error, own))
    return min(found, key=lambda row: row[0])[1]


def cost_of(trace: Trace, schedule: Schedule) -> Cost:
    """The cost of ``priced``, which raises the same."""
    return priced(trace, schedule).cost


def unpaused(trace: Trace, schedule: Schedule, own: Priced) -> list[Row]:
    """Each stage's costs without the pauses."""
    return stage_costs(Cost.from_trace(trace, own.cost.varies_by_microbatch), schedule)


def equal_microbatches(trace: Trace, schedule: Schedule, own: Priced) -> list[Row]:
    """Each stage's F, I and W as if every microbatch took what those of this step do on average."""
    if own.pauses:
        trace = _with_pauses(trace, [node for row in link(trace) for node in row])
    each = stage_costs(Cost.from_trace(trace, by_microbatch=True), schedule)
    length = len(each[0]) // len(_NAMES)
    parts = range(0, len(each[0]), length)
    return [tuple(mean(row[i : i + length]) for i in parts) for row in each]


def as_fast_as(
    rows: Sequence[Row], there: Sequence[Trace], here: Sequence[Trace], schedule: Schedule
) -> list[Row]:
    """``rows`` of a step from ``here`` as if its stages were as fast as ``there``.

    Medians of all steps are compared: what is long about this very step stays so.
    """
    length = len(rows[0]) // len(_NAMES)
    found = []
    goals, nows = _medians(there, schedule), _medians(here, schedule)
    for row, goal, now in zip(rows, goals, nows, strict=True):
        factors = [a / b if b else 1.0 for a, b in zip(goal, now, strict=True)]
        found.append(tuple(x * factors[i // length] for i, x in enumerate(row)))
    return found


def _medians(traces: Sequence[Trace], schedule: Schedule) -> list[Row]:
    """For each stage the medians of what all steps' F, I and W took."""
    rows = [stage_costs(Cost.from_trace(trace), schedule) for trace in traces]
    return [typical(stage) for stage in zip(*rows, strict=True)]


def latency_of(trace: Trace) -> float:
    """Seconds that passed from a result to the start of who waited for it; the median."""
    return _latencies([node for row in link(trace) for node in row])[0]


def _latencies(nodes: Sequence[Node]) -> list[float]:
    """What passes from a result to the start of who waited for it: the median, and the mean."""
    delays = [
        node.event.start - node.producer.event.end
        for node in nodes
        if node.producer is not None
        and node.event.start > node.producer.event.end
        and (node.previous is None or node.previous.event.end < node.producer.event.end)
    ]
    return [median(delays), mean(delays)] if delays else [0.0]


def _with_pauses(trace: Trace, nodes: Sequence[Node]) -> Trace:
    """Each computation from when its rank was free and its message there, not from its start."""
    latency = min(_latencies(nodes))
    ready: dict[Event, float] = {}
    for node in nodes:
        if node.beside is None and (node.previous or node.producer):
            free = node.previous.event.end if node.previous else 0.0
            came = node.producer.event.end + latency if node.producer else 0.0
            ready[node.event] = min(node.event.start, max(free, came))
    events = tuple(e._replace(start=ready.get(e, e.start)) for e in trace.events)
    return replace(trace, events=events)


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

"""What a picture shows in a rank's row beside its computations, so that no part of it is blank.

rank 0  │ B2 │ B3 │+ R +│        R: the average over replicas, while the rank computes nothing
rank 1  │ B3 │+ R +│░░░░│        ░: idle time, also what follows the last computation of all
                  └ here ends Trace.duration
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from math import inf

from pipelab.action import COMPUTE, PER_STAGE, Kind
from pipelab.trace.event import Event
from pipelab.trace.idle import Idle, explain_idle
from pipelab.trace.metrics import gaps, step_span
from pipelab.trace.trace import Trace

_ROUNDING = 1e-9  # seconds


def averages_alone(events: Iterable[Event]) -> list[Event]:
    """Each REDUCE_GRAD during which its rank computes nothing, in order of the events.

    It is what the rank does then, so it has a box in the rank's row. The others run beside the
    computation, as messages do.
    """
    events = list(events)
    found = {event.rank: list[Event]() for event in events if event.kind is Kind.REDUCE_GRAD}
    for event in events:
        if event.kind in COMPUTE and event.rank in found:
            found[event.rank].append(event)
    starts, reach = dict[int, list[float]](), dict[int, list[float]]()
    for rank, row in found.items():
        row.sort(key=lambda e: e.start)
        starts[rank] = [e.start for e in row]
        reach[rank] = list(accumulate((e.end for e in row), max, initial=-inf))
    return [
        e
        for e in events
        if e.kind is Kind.REDUCE_GRAD
        and e.start < e.end
        and reach[e.rank][bisect_left(starts[e.rank], e.end - _ROUNDING)] <= e.start + _ROUNDING
    ]


def drawn_idle(trace: Trace, pieces: Iterable[Idle] | None = None) -> list[Idle]:
    """The idle time that a picture draws, in order of rank and time.

    Without that under the boxes of ``averages_alone``; and beyond ``trace.duration``, up to the
    trace's last event: a rank is at the end of its step, then it has nothing left to compute.

    ``pieces``: of ``explain_idle``, where one has them already.
    """
    pieces = explain_idle(trace) if pieces is None else list(pieces)
    _, last = step_span(trace.events) or (0.0, 0.0)
    end = max((e.end for e in trace.events), default=last)
    rows: list[list[Idle]] = [[] for _ in range(trace.num_ranks)]
    for piece in pieces:
        rows[piece.rank].append(piece)
    closed = [last] * trace.num_ranks
    for event in trace.events:
        if event.kind in PER_STAGE:
            closed[event.rank] = max(closed[event.rank], event.end)
    for rank, row in enumerate(rows):
        if last < closed[rank]:
            row.append(Idle(rank, last, closed[rank], "cooldown", "step"))
        if closed[rank] < end:
            row.append(Idle(rank, closed[rank], end, "cooldown", "done"))
    boxes: list[list[Event]] = [[] for _ in rows]
    for event in averages_alone(trace.events):
        boxes[event.rank].append(event)
    return [
        piece._replace(start=start, end=stop)
        for row, averages in zip(rows, boxes, strict=True)
        for piece in row
        for start, stop in (gaps(averages, piece.start, piece.end) if averages else [piece[1:3]])
    ]

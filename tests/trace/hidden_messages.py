"""How much of the time of messages is hidden behind computation."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate

from pipelab.action import COMPUTE, Kind
from pipelab.trace.event import Event
from pipelab.trace.trace import Trace


def hidden_message_share(trace: Trace) -> float:
    """Of the time that messages are in transit in the steady state, the share that is hidden.

    Hidden: the time in which the receiving rank computes. A rank is in its steady state from its
    first backward to its last forward; 0.0 without a message then. A recording knows how long a
    message is in transit only if it is paced.
    """
    rows: dict[int, list[Event]] = defaultdict(list)
    for e in trace.events:
        if e.kind in COMPUTE:
            rows[e.rank].append(e)
    steady = {rank: _steady(row) for rank, row in rows.items()}
    busy_until = {rank: _busy_until(row) for rank, row in rows.items()}
    total = hidden = 0.0
    for e in trace.events:
        if e.kind in (Kind.SEND_F, Kind.SEND_B) and e.peer in rows:
            first, last = steady[e.peer]
            if first <= e.start and e.end <= last:
                total += e.end - e.start
                hidden += busy_until[e.peer](e.end) - busy_until[e.peer](e.start)
    return hidden / total if total else 0.0


def _steady(row: Sequence[Event]) -> tuple[float, float]:
    """From a rank's first backward to its last forward."""
    backward = [e.start for e in row if e.kind in (Kind.B, Kind.I)]
    forward = [e.end for e in row if e.kind is Kind.F]
    return min(backward, default=0.0), max(forward, default=0.0)


def _busy_until(row: Sequence[Event]) -> Callable[[float], float]:
    """For a moment, the seconds that a rank has computed until then."""
    events = sorted(row, key=lambda e: e.start)
    starts = [e.start for e in events]
    before = [0.0, *accumulate(e.end - e.start for e in events)]

    def until(moment: float) -> float:
        place = bisect_right(starts, moment)
        if place == 0:
            return 0.0
        last = events[place - 1]
        return before[place - 1] + min(moment, last.end) - last.start

    return until

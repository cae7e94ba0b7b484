"""Numbers read from any trace's events, recorded or predicted.

Bubble *fraction* (idle over the whole) and bubble *overhead* (idle over the computation) both
exist in the literature and get mixed: (p-1)/(m+p-1) and (p-1)/m for GPipe and 1F1B.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from pipelab.accounting import Accounts, Part
from pipelab.action import COMPUTE, Action, Kind

if TYPE_CHECKING:
    from pipelab.trace.trace import Event, Trace


class Channel(NamedTuple):
    """What goes one way between two ranks: all SEND_F, or all SEND_B."""

    kind: Kind
    source: int
    destination: int


class Count(NamedTuple):
    """So many messages, and their bytes in all."""

    number: int = 0
    bytes: int = 0


def duration(events: Sequence["Event"]) -> float:
    """Seconds from the first start to the last end of a computation; 0.0 without any."""
    computing = [e for e in events if e.kind in COMPUTE]
    if not computing:
        return 0.0
    return max(e.end for e in computing) - min(e.start for e in computing)


def busy(events: Iterable["Event"], num_ranks: int) -> tuple[float, ...]:
    """For each rank, the seconds that it computed (F, B, I, W); overlaps count once."""
    total = [0.0] * num_ranks
    until = [float("-inf")] * num_ranks
    for e in sorted((e for e in events if e.kind in COMPUTE), key=lambda e: e.start):
        total[e.rank] += max(0.0, e.end - max(e.start, until[e.rank]))
        until[e.rank] = max(until[e.rank], e.end)
    return tuple(total)


def gaps(events: Iterable["Event"], start: float, end: float) -> list[tuple[float, float]]:
    """The stretches between start and end that none of these events covers."""
    found = []
    for e in sorted(events, key=lambda e: e.start):
        if start < e.start:
            found.append((start, min(e.start, end)))
        start = max(start, e.end)
        if start >= end:
            break
    return [*found, (start, end)] if start < end else found


def utilisation(events: Sequence["Event"], num_ranks: int) -> tuple[float, ...]:
    """For each rank, the share of the duration in which it computed."""
    whole = duration(events)
    return tuple(seconds / whole if whole else 0.0 for seconds in busy(events, num_ranks))


def bubble_fraction(events: Sequence["Event"], num_ranks: int) -> float:
    """Idle rank-time over ranks x duration: 1 - mean utilisation."""
    return 1.0 - sum(utilisation(events, num_ranks)) / num_ranks if duration(events) else 0.0


def bubble_overhead(events: Sequence["Event"], num_ranks: int) -> float:
    """Idle rank-time over computing rank-time."""
    fraction = bubble_fraction(events, num_ranks)
    return fraction / (1.0 - fraction) if fraction < 1.0 else 0.0


def held_activations(events: Iterable["Event"], num_ranks: int) -> Iterator[tuple["Event", int]]:
    """Each F, B and W in order of its end, and the bytes of activations that its rank then holds.

    Who takes bytes and who gives them back is the table in accounting.py.
    """
    accounts = [Accounts() for _ in range(num_ranks)]
    for e in sorted(events, key=lambda e: (e.end, e.start)):
        if e.kind in (Kind.F, Kind.B, Kind.W):
            accounts[e.rank].count(Action(e.stage, e.kind, e.microbatch), e.bytes)
            yield e, accounts[e.rank].held[Part.ACTIVATIONS]


def peak_activation_bytes(events: Iterable["Event"], num_ranks: int) -> tuple[int, ...]:
    """For each rank, the most bytes of activations held at once."""
    peak = [0] * num_ranks
    for event, held in held_activations(events, num_ranks):
        peak[event.rank] = max(peak[event.rank], held)
    return tuple(peak)


def message_counts(trace: "Trace") -> dict[Channel, Count]:
    """For each channel its messages, in order of kind and ranks; those without a peer left out."""
    found: dict[Channel, Count] = defaultdict(Count)
    for e in trace.events:
        if e.kind in (Kind.SEND_F, Kind.SEND_B) and e.peer is not None:
            channel = Channel(e.kind, e.rank, e.peer)
            number, size = found[channel]
            found[channel] = Count(number + 1, size + e.bytes)
    return {channel: found[channel] for channel in sorted(found)}


def hidden_message_share(trace: "Trace") -> float:
    """Of the time that messages are under way in the steady state, the share that is hidden.

    Hidden is what passes while the rank that the message goes to computes. Steady is a rank from
    its first backward to its last forward; 0.0 if no message falls into it. A recording knows how
    long a message is under way only if it is paced.
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


def _steady(row: Sequence["Event"]) -> tuple[float, float]:
    """From a rank's first backward to its last forward."""
    backward = [e.start for e in row if e.kind in (Kind.B, Kind.I)]
    forward = [e.end for e in row if e.kind is Kind.F]
    return min(backward, default=0.0), max(forward, default=0.0)


def _busy_until(row: Sequence["Event"]) -> Callable[[float], float]:
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


def expected_bubble_fraction(num_ranks: int, num_microbatches: int) -> float:
    """(p-1)/(m+p-1): GPipe and 1F1B with equal stages and free messages (arXiv 2104.04473, 2.2).

    >>> round(expected_bubble_fraction(4, 8), 4)
    0.2727
    """
    return (num_ranks - 1) / (num_microbatches + num_ranks - 1)

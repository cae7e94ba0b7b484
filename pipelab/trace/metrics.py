"""Numbers read from any trace's events, recorded or predicted.

Bubble *fraction* (idle over the whole) and bubble *overhead* (idle over the computation) both
exist in the literature and get mixed: (p-1)/(m+p-1) and (p-1)/m for GPipe and 1F1B.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from pipelab.accounting import Accounts, Part
from pipelab.action import COMPUTE, Action, Kind
from pipelab.trace.event import Event


def step_span(events: Iterable[Event]) -> tuple[float, float] | None:
    """First start and last end of a computation, in seconds; None without any."""
    computing = [e for e in events if e.kind in COMPUTE]
    if not computing:
        return None
    return min(e.start for e in computing), max(e.end for e in computing)


def duration(events: Iterable[Event]) -> float:
    """Seconds from the first start to the last end of a computation; 0.0 without any."""
    first, last = step_span(events) or (0.0, 0.0)
    return last - first


def busy(events: Iterable[Event], num_ranks: int) -> tuple[float, ...]:
    """For each rank, the seconds that it computed (F, B, I, W); overlaps count once."""
    total = [0.0] * num_ranks
    until = [float("-inf")] * num_ranks
    for e in sorted((e for e in events if e.kind in COMPUTE), key=lambda e: e.start):
        total[e.rank] += max(0.0, e.end - max(e.start, until[e.rank]))
        until[e.rank] = max(until[e.rank], e.end)
    return tuple(total)


def gaps(events: Iterable[Event], start: float, end: float) -> list[tuple[float, float]]:
    """The stretches between start and end that none of these events covers."""
    found = []
    for e in sorted(events, key=lambda e: e.start):
        if start < e.start:
            found.append((start, min(e.start, end)))
        start = max(start, e.end)
        if start >= end:
            break
    return [*found, (start, end)] if start < end else found


def idle_gaps(
    events: Sequence[Event], num_ranks: int, covering: Collection[Kind] = COMPUTE
) -> list[list[tuple[float, float]]]:
    """For each rank, the stretches of the step in which it does nothing of ``covering``.

    The step is ``step_span``. Why a rank is idle then: ``pipelab.trace.idle``.
    """
    span = step_span(events)
    if span is None:
        return [[] for _ in range(num_ranks)]
    rows: list[list[Event]] = [[] for _ in range(num_ranks)]
    for event in events:
        if event.kind in covering:
            rows[event.rank].append(event)
    return [gaps(row, *span) for row in rows]


def stages_of(events: Sequence[Event]) -> dict[int, list[int]]:
    """The stages of each rank, in order."""
    stages: dict[int, set[int]] = defaultdict(set)
    for event in events:
        stages[event.rank].add(event.stage)
    return {rank: sorted(numbers) for rank, numbers in stages.items()}


def utilisation(events: Sequence[Event], num_ranks: int) -> tuple[float, ...]:
    """For each rank, the share of the duration in which it computed."""
    whole = duration(events)
    return tuple(seconds / whole if whole else 0.0 for seconds in busy(events, num_ranks))


def bubble_fraction(events: Sequence[Event], num_ranks: int) -> float:
    """Idle rank-time over ranks x duration: 1 - mean utilisation."""
    return 1.0 - sum(utilisation(events, num_ranks)) / num_ranks if duration(events) else 0.0


def bubble_overhead(events: Sequence[Event], num_ranks: int) -> float:
    """Idle rank-time over computing rank-time."""
    fraction = bubble_fraction(events, num_ranks)
    return fraction / (1.0 - fraction) if fraction < 1.0 else 0.0


def held_activations(events: Iterable[Event], num_ranks: int) -> Iterator[tuple[Event, int]]:
    """Each F, B and W in order of its end, and the bytes of activations that its rank then holds.

    Who takes bytes and who gives them back is the table in accounting.py.
    """
    accounts = [Accounts() for _ in range(num_ranks)]
    for e in sorted(events, key=lambda e: (e.end, e.start)):
        if e.kind in (Kind.F, Kind.B, Kind.W):
            accounts[e.rank].count(Action(e.stage, e.kind, e.microbatch), e.bytes)
            yield e, accounts[e.rank].held[Part.ACTIVATIONS]


def peak_activation_bytes(events: Iterable[Event], num_ranks: int) -> tuple[int, ...]:
    """For each rank, the most bytes of activations held at once."""
    peak = [0] * num_ranks
    for event, held in held_activations(events, num_ranks):
        peak[event.rank] = max(peak[event.rank], held)
    return tuple(peak)


def expected_bubble_fraction(num_ranks: int, num_microbatches: int) -> float:
    """(p-1)/(m+p-1): GPipe and 1F1B with equal stages and free messages (arXiv 2104.04473, 2.2).

    >>> round(expected_bubble_fraction(4, 8), 4)
    0.2727
    """
    return (num_ranks - 1) / (num_microbatches + num_ranks - 1)

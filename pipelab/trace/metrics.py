"""What ``Trace``'s numbers are made of: times and bytes read from events."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import inf

from pipelab.accounting import Accounts, Part
from pipelab.action import COMPUTE, Action, Kind
from pipelab.trace.event import Event


def step_span(events: Iterable[Event]) -> tuple[float, float] | None:
    """First start and last end of a computation, in seconds; None without any."""
    computing = [e for e in events if e.kind in COMPUTE]
    if not computing:
        return None
    return min(e.start for e in computing), max(e.end for e in computing)


def busy(events: Iterable[Event], num_ranks: int) -> tuple[float, ...]:
    """For each rank, the seconds that it computed (F, B, I, W); overlaps count once."""
    total = [0.0] * num_ranks
    until = [float("-inf")] * num_ranks
    for e in sorted((e for e in events if e.kind in COMPUTE), key=lambda e: e.start):
        total[e.rank] += max(0.0, e.end - max(e.start, until[e.rank]))
        until[e.rank] = max(until[e.rank], e.end)
    return tuple(total)


def step_windows(
    events: Iterable[Event], num_ranks: int, first: int, after: int
) -> list[tuple[float, float]]:
    """For each rank, the time that some microbatches take it; ``first`` is the first of them.

    It ends when the rank begins to compute on microbatch ``after`` or a later one; where there is
    none, at its last end of a computation. In seconds; (0.0, 0.0) for a rank without any.
    """
    starts, ends = [inf] * num_ranks, [inf] * num_ranks
    last = [-inf] * num_ranks
    for e in events:
        if e.kind in COMPUTE and e.microbatch is not None:
            bounds = ends if e.microbatch >= after else starts
            if e.microbatch >= first:
                bounds[e.rank] = min(bounds[e.rank], e.start)
                last[e.rank] = max(last[e.rank], e.end)
    return [
        (start, min(end, until)) if start < inf else (0.0, 0.0)
        for start, end, until in zip(starts, ends, last, strict=True)
    ]


def bubble_within(events: Iterable[Event], windows: Sequence[tuple[float, float]]) -> float:
    """The share of these windows, one for each rank, in which their ranks do not compute."""
    clipped = [
        e._replace(start=max(e.start, windows[e.rank][0]), end=min(e.end, windows[e.rank][1]))
        for e in events
        if e.kind in COMPUTE
    ]
    computed = sum(busy((e for e in clipped if e.start < e.end), len(windows)))
    total = sum(end - start for start, end in windows)
    return 1.0 - computed / total if total else 0.0


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


def held_activations(events: Iterable[Event], num_ranks: int) -> Iterator[tuple[Event, int]]:
    """Each F, B and W in order of its end, and the bytes of activations that its rank then holds.

    Who takes bytes and who gives them back is the table in accounting.py.
    """
    accounts = [Accounts() for _ in range(num_ranks)]
    for e in sorted(events, key=lambda e: (e.end, e.start)):
        if e.kind in (Kind.F, Kind.B, Kind.W):
            accounts[e.rank].count(Action(e.stage, e.kind, e.microbatch), e.bytes)
            yield e, accounts[e.rank].held[Part.ACTIVATIONS]


def expected_bubble_fraction(num_ranks: int, num_microbatches: int) -> float:
    """(p-1)/(m+p-1): GPipe and 1F1B with equal stages and free messages (arXiv 2104.04473, 2.2).

    >>> round(expected_bubble_fraction(4, 8), 4)
    0.2727
    """
    return (num_ranks - 1) / (num_microbatches + num_ranks - 1)

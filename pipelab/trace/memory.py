"""How many bytes each rank holds, over time and at its worst.

Which event takes bytes, and which gives them back, is the table in accounting.py. A buffer counts
from the start of its RECV or REDUCE_GRAD, everything else from the end of its action.

``trace.memory`` is the state after the step; what was first made during the step is subtracted to
get the state before it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from operator import itemgetter
from typing import Literal, NamedTuple

from pipelab.accounting import IN_FLIGHT, TAKES, Accounts, Part
from pipelab.action import COMPUTE, Action, Kind
from pipelab.trace.event import Event, Memory
from pipelab.trace.trace import Trace

_each_part = itemgetter(*Part)


class MemoryPoint(NamedTuple):
    """Bytes that a rank holds from ``time`` (seconds) until the next point."""

    time: float
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return sum(self[1:])


def memory_curve(trace: Trace, rank: int) -> list[MemoryPoint]:
    """What one rank holds, one point at the start and one after each event that changes it.

    All zeros where nothing was measured, as in a prediction without a model.
    """
    return [*[*memory_curves(trace)][rank]]


def peak_bytes(trace: Trace) -> tuple[MemoryPoint, ...]:
    """For each rank, the (first) point at which it holds most: its ``total`` and its parts."""
    return tuple(max(curve, key=lambda point: point.total) for curve in memory_curves(trace))


class Held(NamedTuple):
    """What each rank holds over time.

    Attributes:
        unit: ``"bytes"``, or ``"activations"`` where no bytes are known: then ``activations`` of
            each point counts the microbatches that the rank's stages keep for their backward.
        curves: one for each rank, as ``memory_curve`` gives it.
    """

    unit: Literal["bytes", "activations"]
    curves: list[list[MemoryPoint]]

    @property
    def peaks(self) -> list[MemoryPoint]:
        """For each rank, the first point at which it holds most."""
        return [max(curve, key=lambda point: point.total) for curve in self.curves]


def held_over_time(trace: Trace) -> Held:
    """Bytes if any are known; else how many activations, which also a bare prediction knows."""
    if trace.memory or any(e.bytes for e in trace.events if e.kind in COMPUTE):
        return Held("bytes", [list(curve) for curve in memory_curves(trace)])
    computing = (e for e in trace.events if e.kind in COMPUTE)
    counted = tuple(e._replace(bytes=int(e.kind is Kind.F)) for e in computing)
    curves = memory_curves(replace(trace, events=counted))
    return Held("activations", [list(curve) for curve in curves])


def memory_curves(trace: Trace) -> Iterator[Iterator[MemoryPoint]]:
    """For each rank the points of ``memory_curve``, as they are asked for."""
    rows: list[list[Event]] = [[] for _ in range(trace.num_ranks)]
    for event in trace.events:
        rows[event.rank].append(event)
    return map(_curve, rows, chain(trace.memory, repeat(Memory())))


def _curve(events: Iterable[Event], after: Memory) -> Iterator[MemoryPoint]:
    """The points of one rank, from its events and from what it holds after them."""
    row = sorted((e for e in events if e.kind in TAKES), key=lambda e: (_time(e), e.start))
    before = {Part.GRADIENTS: after.gradients, Part.OPTIMIZER: after.optimizer}
    for e in row:
        if (part := TAKES[e.kind]) not in IN_FLIGHT:
            before[part] = max(0, before[part] - e.bytes)
    accounts = Accounts(after.parameters, before[Part.GRADIENTS], before[Part.OPTIMIZER])
    yield _point(min((e.start for e in row), default=0.0), accounts)
    for e in row:
        accounts.count(Action(e.stage, e.kind, e.microbatch), e.bytes)
        yield _point(_time(e), accounts)


def _point(time: float, accounts: Accounts) -> MemoryPoint:
    parameters, gradients, optimizer, activations, buffers, reduced = _each_part(accounts.held)
    return MemoryPoint(time, parameters, gradients, optimizer, activations, buffers + reduced)


def _time(event: Event) -> float:
    """When its bytes count: a buffer when it is opened, everything else when the action ends."""
    opens = TAKES[event.kind] in (Part.BUFFERS, Part.REDUCED)
    return event.start if opens else event.end

"""How many bytes each rank holds, over time and at its worst.

    activations   come at the end of F, go at the end of B, or of W where the backward is halved
    buffers       come with RECV, go at the end of the action that uses the message; those of an
                  all-reduce, as large as its gradients, come with REDUCE_GRAD and go with STEP
    gradients     come at the end of the B, I or W in which they are first made
    optimizer     its state comes at the end of the first STEP
    parameters    are there all the time

``trace.memory`` is the state after the step; what came into being during it is taken off again
for the time before.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.trace.event import Event, Memory
from pipelab.trace.trace import Trace

_OPENS = frozenset({Kind.RECV_F, Kind.RECV_B, Kind.REDUCE_GRAD})
_TAKES = {
    Kind.F: "activations",
    **dict.fromkeys(_OPENS, "buffers"),
    **dict.fromkeys((Kind.B, Kind.I, Kind.W), "gradients"),
    Kind.STEP: "optimizer",
}
# whose bytes an action gives back at its end
_GIVES_BACK = {
    Kind.F: (Kind.RECV_F,),
    Kind.B: (Kind.RECV_B, Kind.F),
    Kind.I: (Kind.RECV_B,),
    Kind.W: (Kind.F,),
    Kind.STEP: (Kind.REDUCE_GRAD,),
}


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
    return [*_curve((e for e in trace.events if e.rank == rank), _memory(trace, rank))]


def peak_bytes(trace: Trace) -> tuple[MemoryPoint, ...]:
    """For each rank, the (first) point at which it holds most: its ``total`` and its parts."""
    return tuple(max(curve, key=lambda point: point.total) for curve in memory_curves(trace))


def memory_curves(trace: Trace) -> Iterator[Iterator[MemoryPoint]]:
    """For each rank the points of ``memory_curve``, as they are asked for."""
    rows: list[list[Event]] = [[] for _ in range(trace.num_ranks)]
    for event in trace.events:
        rows[event.rank].append(event)
    return (_curve(row, _memory(trace, rank)) for rank, row in enumerate(rows))


def _memory(trace: Trace, rank: int) -> Memory:
    return trace.memory[rank] if rank < len(trace.memory) else Memory()


def _curve(events: Iterable[Event], after: Memory) -> Iterator[MemoryPoint]:
    """The points of one rank, from its events and from what it holds after them."""
    row = sorted((e for e in events if e.kind in _TAKES), key=lambda e: (_time(e), e.start))
    held = {"gradients": after.gradients, "optimizer": after.optimizer}
    for e in row:
        if (what := _TAKES[e.kind]) in held:
            held[what] = max(0, held[what] - e.bytes)
    held |= {"activations": 0, "buffers": 0}
    yield MemoryPoint(min((e.start for e in row), default=0.0), after.parameters, **held)
    kept: dict[tuple[Kind, int, int | None], int] = {}
    for e in row:
        for kind in _GIVES_BACK.get(e.kind, ()):
            held[_TAKES[kind]] -= kept.pop((kind, e.stage, e.microbatch), 0)
        held[_TAKES[e.kind]] += e.bytes
        kept[e.kind, e.stage, e.microbatch] = e.bytes
        yield MemoryPoint(_time(e), after.parameters, **held)


def _time(event: Event) -> float:
    """When its bytes count: an open buffer at once, all else when the action is through."""
    return event.start if event.kind in _OPENS else event.end

"""What messages without a number carry: the n-th sent is the n-th result that leaves a rank.

    rank 1     F0   F1   F2   B0          results that leave it: 1F0, 1F1, 1F2, then 1B0
    sent         S    S    S    S         forward-send x 3, backward-send x 1

Some recorders count a message with every computation, also where nothing leaves or comes (the first
stage receives no input), or messages before the first and after the last computation.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pipelab.action import RECEIVES, SENDS, Kind
from pipelab.trace.event import Event

_CARRIES = {
    Kind.SEND_F: (Kind.F,),
    Kind.RECV_F: (Kind.F,),
    Kind.SEND_B: (Kind.B, Kind.I),
    Kind.RECV_B: (Kind.B, Kind.I),
}


class Moved(NamedTuple):
    """A message as the file has it: seconds."""

    kind: Kind
    start: float
    end: float


class Layout(NamedTuple):
    """Which stages a rank holds: in a loop, or folded in a V."""

    num_ranks: int
    chunks: int
    is_v: bool

    def stage(self, rank: int, chunk: int) -> int:
        """The stage that is this chunk of a rank."""
        if self.is_v and chunk % 2:
            return (chunk + 1) * self.num_ranks - 1 - rank
        return chunk * self.num_ranks + rank

    def home(self, stage: int) -> int:
        """The rank of a stage."""
        chunk, place = divmod(stage, self.num_ranks)
        return self.num_ranks - 1 - place if self.is_v and chunk % 2 else place

    def peer(self, event: Event, toward: int) -> int | None:
        """The rank of the stage before or after; None if there is none, or it is the same."""
        other = event.stage + toward
        if not 0 <= other < self.chunks * self.num_ranks or self.home(other) == event.rank:
            return None
        return self.home(other)


def carried(
    computed: Sequence[Event], moved: Sequence[Moved], layout: Layout
) -> tuple[list[Event], int]:
    """One rank's messages, each with what it carries; and the number of those that fit nothing.

    Args:
        computed: the rank's computations, in order of their start.
        moved: its messages, in order of their start.
        layout: who has which stage.
    """
    events: list[Event] = []
    lost = 0
    for kind, what in _CARRIES.items():
        own = [message for message in moved if message.kind is kind]
        toward = 1 if kind in (Kind.SEND_F, Kind.RECV_B) else -1
        results = [e for e in computed if e.kind in what]
        if kind in SENDS:
            results.sort(key=lambda e: e.end)
        pairs = _paired(own, results, [layout.peer(e, toward) is not None for e in results])
        if pairs is None:
            lost += len(own)
            continue
        for message, e in pairs:
            if (peer := layout.peer(e, toward)) is not None:
                start, end = message.start, message.end
                events.append(Event(e.rank, kind, e.stage, e.microbatch, start, end, peer=peer))
    return events, lost


def _paired(
    own: Sequence[Moved], results: Sequence[Event], moves: Sequence[bool]
) -> list[tuple[Moved, Event]] | None:
    """Each message with its result; None if their numbers fit in no way. ``moves``: by result."""
    moving = [e for e, is_moved in zip(results, moves, strict=True) if is_moved]
    for messages in (own, _while_computing(own, results)):
        if len(messages) == len(moving):
            return [*zip(messages, moving, strict=True)]
        if len(messages) == len(results):
            return [*zip(messages, results, strict=True)]
        if results and not moves[0] and len(messages) == len(results) - 1:
            return [*zip(messages, results[1:], strict=True)]
    return None


def _while_computing(own: Sequence[Moved], results: Sequence[Event]) -> list[Moved]:
    """Without what was received after the last start, and sent before the first end."""
    if not results:
        return []
    first, last = min(e.end for e in results), max(e.start for e in results)
    return [m for m in own if (m.start <= last if m.kind in RECEIVES else m.end >= first)]

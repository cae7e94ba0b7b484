"""Which F and B of a rank ran as one action: those whose times overlap.

rank 0   │ 0F3 ────────────── │      a trace has two events for such a pair, with the same
│ 7B1 ────────────── │      start; pictures draw them one above the other
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from pipelab.action import Kind

_MOSTLY = 0.5  # of the shorter one: clocks alone make less than that look parallel


class Timed(Protocol):
    """What is needed of an event: where, what and when."""

    @property
    def rank(self) -> int:
        """Of the process that it ran on."""

    @property
    def kind(self) -> Kind:
        """F, B, I, W or another."""

    @property
    def stage(self) -> int:
        """Of the model."""

    @property
    def microbatch(self) -> int | None:
        """Of the batch."""

    @property
    def start(self) -> float:
        """In seconds."""

    @property
    def end(self) -> float:
        """In seconds."""


_T = TypeVar("_T", bound=Timed)


def overlapping_pairs(events: Iterable[_T]) -> list[tuple[_T, _T]]:
    """Each F with the B of its rank that it overlaps, in order of rank and start."""
    rows: dict[int, list[_T]] = defaultdict(list)
    for event in events:
        if event.kind in (Kind.F, Kind.B):
            rows[event.rank].append(event)
    return [pair for _, row in sorted(rows.items()) for pair in _pairs_of(row)]


def _pairs_of(row: Sequence[_T]) -> list[tuple[_T, _T]]:
    found = []
    forwards = sorted((e for e in row if e.kind is Kind.F), key=lambda e: e.start)
    backwards = sorted((e for e in row if e.kind is Kind.B), key=lambda e: e.start)
    at = 0
    for forward in forwards:
        while at < len(backwards) and backwards[at].end <= forward.start:
            at += 1
        if at == len(backwards) or backwards[at].start >= forward.end:
            continue  # nearly all: two that follow each other
        if _overlap(forward, backwards[at]):
            found.append((forward, backwards[at]))
            at += 1
    return found


def _overlap(a: Timed, b: Timed) -> bool:
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared > _MOSTLY * min(a.end - a.start, b.end - b.start)

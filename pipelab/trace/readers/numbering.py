"""Steps, chunks and microbatches by their order, where a file does not number them.

    F0 F1 B0 F2 B1 B2  optimizer  F0 F1 B0 ...     a step begins after the optimizer's, or where
    └──── step 0 ──────────────┘  └── step 1       there is none with a forward that comes again

Within a step, an action of the same microbatch that comes again is the next chunk's: of a forward
the next one up, of a backward the next one down.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipelab.action import COMPUTE, Kind
from pipelab.trace.readers.gathered import StepKey


class Row(NamedTuple):
    """One event as the file has it; seconds. Numbers that it does not say are -1."""

    key: StepKey
    tid: int
    kind: Kind
    chunk: int
    microbatch: int
    start: float
    end: float

    @property
    def lane(self) -> tuple[int, int]:
        """What runs one after the other."""
        return self.key.replica, self.tid


def numbered(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """All rows with a step and a chunk; the number of those without a step where others have one.

    Those are left out.
    """
    without = sum(row.key.step < 0 for row in rows)
    if without == len(rows):
        rows, without = _with_steps(rows), 0
    return _with_chunks([row for row in rows if row.key.step >= 0]), without


def _with_steps(rows: Sequence[Row]) -> list[Row]:
    lanes: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        lanes[row.lane].append(row)
    found: list[Row] = []
    others: list[Row] = []
    for lane in lanes.values():
        if any(row.kind in COMPUTE for row in lane):
            found += _in_order(sorted(lane, key=lambda row: row.start))
        else:
            others += lane
    begun: dict[StepKey, float] = {}
    for row in found:
        begun[row.key] = min(row.start, begun.get(row.key, row.start))
    starts: dict[int, list[float]] = defaultdict(list)
    for key in sorted(begun):
        starts[key.replica].append(begun[key])
    for row in others:  # a message may be waited for since before the step, but ends within it
        step = max(0, bisect_right(starts[row.key.replica], row.end) - 1)
        found.append(row._replace(key=row.key._replace(step=step)))
    return found


def _in_order(lane: Iterable[Row]) -> Iterable[Row]:
    """One lane's rows with their step."""
    lane = [*lane]
    has_steps = any(row.kind is Kind.STEP for row in lane)
    seen: dict[tuple[int, int], float] = {}
    step, is_over = 0, False
    for row in lane:
        what = row.chunk, row.microbatch
        if row.kind is Kind.F:
            comes_again = row.microbatch >= 0 and seen.get(what, row.start) != row.start
            if is_over or (comes_again and not has_steps):
                step, seen = step + 1, {}
            seen[what] = row.start
        is_over = row.kind is Kind.STEP or (is_over and row.kind is not Kind.F)
        yield row._replace(key=row.key._replace(step=step))


def _with_chunks(rows: list[Row]) -> list[Row]:
    """Chunks by order where none is named; a microbatch that comes twice at one time is a copy."""
    starts: dict[tuple[object, ...], set[float]] = defaultdict(set)
    for row in rows:
        if row.kind in COMPUTE and row.microbatch >= 0:
            starts[_what(row)].add(row.start)
    times = {what: sorted(found) for what, found in starts.items()}
    return [_with_chunk(row, times.get(_what(row), [])) for row in rows]


def _with_chunk(row: Row, times: Sequence[float]) -> Row:
    """``times``: when the same action began in this step, a chunk after the other."""
    if row.chunk >= 0:
        return row
    if row.kind not in COMPUTE or not times:
        return row._replace(chunk=0)
    place = times.index(row.start)
    return row._replace(chunk=place if row.kind is Kind.F else len(times) - 1 - place)


def _what(row: Row) -> tuple[object, ...]:
    return row.key, row.tid, row.kind, row.microbatch

"""A schedule as a grid of tokens, for reading, and with the failing cells marked, for mending."""

from collections.abc import Collection, Sequence
from functools import partial

from pipelab.action import COMPUTE, Action, needs
from pipelab.errors import ScheduleError
from pipelab.schedules.walk import walk

_AROUND = 4  # cells shown on each side of a marked one
_MANY_ROWS = 12

Rows = Sequence[Sequence[Action]]


def grid(rows: Rows, num_stages: int) -> str:
    """One row per rank, one column per slot in which every action takes 1; ``·`` is idle."""
    try:
        slots = _slots(rows, num_stages)
    except ScheduleError:  # a broken schedule must still print, or nobody can mend it
        slots = [{i: a.token for i, a in enumerate(row)} for row in rows]
    width = max((len(t) for row in slots for t in row.values()), default=1)
    length = max((max(row, default=-1) + 1 for row in slots), default=0)
    return "\n".join(
        f"rank {rank}  " + " ".join(row.get(i, "·").ljust(width) for i in range(length)).rstrip()
        for rank, row in enumerate(slots)
    )


def marked(rows: Rows, cells: Collection[tuple[int, int]]) -> str:
    """The rows as they stand, ``>2F0<`` at each (rank, position); long rows are cut around it."""
    ranks = sorted({rank for rank, _ in cells}) if len(rows) > _MANY_ROWS else range(len(rows))
    lines = []
    for rank in ranks:
        row, here = rows[rank], [i for r, i in cells if r == rank]
        first = max(0, min(here, default=0) - _AROUND)
        last = min(len(row), max(here, default=_AROUND) + _AROUND + 1)
        tokens = [
            f">{row[i].token}<" if i in here else f" {row[i].token} " for i in range(first, last)
        ]
        dots = " ..." * (first > 0), " ..." * (last < len(row))
        lines.append(f"  rank {rank} {dots[0]}{''.join(tokens)}{dots[1]}".rstrip())
    return "\n".join(lines)


def _slots(rows: Rows, num_stages: int) -> list[dict[int, str]]:
    """For each rank, slot -> token, as the walk with unit times places them."""
    programs = [[a for a in row if a.kind in COMPUTE] for row in rows]
    slots: list[dict[int, str]] = [{} for _ in rows]
    for visit in walk(programs, partial(needs, num_stages=num_stages)):
        slots[visit.rank][int(visit.start)] = visit.action.token
    return slots

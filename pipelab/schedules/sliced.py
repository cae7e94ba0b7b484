"""Seq1F1B: each microbatch's sequence is cut in slices, which flow through the stages like 1F1B.

    rank 0  0F0.0 0F0.1 0F1.0 ·     0B0.1 0F1.1 0B0.0 ...     backwards: the last slice first
    rank 1  ·     1F0.0 1F0.1 1B0.1 1F1.0 1B0.0 ...

With causal attention a slice needs the keys and values of all slices before it, which its stage
keeps; their gradients come back with the later slices, so backwards run from the last slice to the
first. The bubble is that of k times as many microbatches; rank r holds (p-r+k-1)/k of them.
Sun et al. 2024, "Seq1F1B", arXiv 2406.03488, sections 3.1 to 3.3.

The trap: later slices attend to more keys, so slices of equal *tokens* are of unequal *work*.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from operator import itemgetter

from pipelab.action import Action, Kind, Slice
from pipelab.errors import ScheduleError
from pipelab.schedules.builders import check_sizes
from pipelab.schedules.schedule import Schedule, refusal

_HALVES = {Kind.F: (Kind.F,), Kind.B: (Kind.I, Kind.W), Kind.I: (Kind.I,), Kind.W: (Kind.W,)}
_WHY = {
    Kind.F: "it attends to the keys and values of that slice",
    Kind.I: "whose backward brings the gradients of its keys and values",
    Kind.W: "on a first stage, W brings the gradients of its keys and values",
}


def seq1f1b(
    num_ranks: int,
    num_microbatches: int,
    slices: int | Sequence[float] = 2,
    *,
    halves: bool = False,
) -> Schedule:
    """1F1B over slices of sequences. Bubble (p-1)(F+B)/k for k slices of equal work.

    Rank r runs p-1-r + k-1 forwards of slices before its first backward.

    Args:
        slices: how many, of equal tokens; or the share of the tokens in each, such as
            ``equal_work(2, attention=0.5)``.
        halves: each backward as I and W; as in ZB-H1, rank r runs a W r slices later than its I.
            Then the bubble is (p-1)(F+I-W)/k, and each rank holds (p+k-1)/k microbatches.

    >>> print(seq1f1b(2, 2))
    seq1f1b: 2 ranks, 2 microbatches of 2 slices
    rank 0  0F0.0 0F0.1 0F1.0 ·     0B0.1 0F1.1 0B0.0 ·     0B1.1 0B1.0
    rank 1  ·     1F0.0 1F0.1 1B0.1 1F1.0 1B0.0 1F1.1 1B1.1 1B1.0 ·
    """
    check_sizes(num_ranks, num_microbatches)
    shares = () if isinstance(slices, int) else tuple(slices)
    k = slices if isinstance(slices, int) else len(shares)
    if k < 1:
        raise ScheduleError(f"slices is {k}: a sequence is cut into at least 1")
    rows = [_rank(rank, num_ranks - 1 - rank, num_microbatches, k) for rank in range(num_ranks)]
    if halves:
        rows = [_in_halves(row, late=rank) for rank, row in enumerate(rows)]
    schedule = Schedule(tuple(rows), "seq1f1b", shares=shares)
    _check_shares(schedule)
    return schedule


def _rank(stage: int, later: int, m: int, k: int) -> tuple[Action, ...]:
    """``later``: how many ranks come after this one."""
    numbers = [[Slice(i, j, k) if k > 1 else i for j in range(k)] for i in range(m)]
    forward = [Action(stage, Kind.F, number) for row in numbers for number in row]
    backward = [Action(stage, Kind.B, number) for row in numbers for number in reversed(row)]
    ahead = min(m * k, later + k - 1)
    warmup = forward[:ahead]
    steady = [a for pair in zip(forward[ahead:], backward, strict=False) for a in pair]
    cooldown = backward[m * k - ahead :]
    return (*warmup, *steady, *cooldown)


def _in_halves(row: Iterable[Action], late: int) -> tuple[Action, ...]:
    """The same row with I and W for each B, each W behind ``late`` more I."""
    found: list[Action] = []
    waiting: list[Action] = []
    for action in row:
        if action.kind is not Kind.B:
            found.append(action)
            continue
        found.append(action._replace(kind=Kind.I))
        waiting.append(action._replace(kind=Kind.W))
        if len(waiting) > late:
            found.append(waiting.pop(0))
    return (*found, *waiting)


def slice_work(shares: Sequence[float], attention: float) -> list[float]:
    """The work of each slice, of 1 in all, for causal attention.

    Args:
        shares: of the tokens in each slice; 1 in all.
        attention: the share of the work that goes into attention, which grows with the square of
            the sequence; the rest grows with its length.

    >>> slice_work([0.5, 0.5], attention=0.5)
    [0.375, 0.625]
    """
    ends = [sum(shares[: j + 1]) for j in range(len(shares))]
    done = [0.0, *((1 - attention) * x + attention * x * x for x in ends)]
    return [b - a for a, b in pairwise(done)]


def equal_work(slices: int, attention: float) -> tuple[float, ...]:
    """The share of the tokens in each slice so that all cost the same; see ``slice_work``.

    >>> [round(share, 3) for share in equal_work(2, attention=0.5)]
    [0.618, 0.382]
    """
    if not 0 <= attention <= 1:
        raise ScheduleError(f"attention is {attention}: a share of the work, from 0 to 1")
    a, b = attention, 1 - attention  # an end x has a x^2 + b x = j/k of the work before it
    parts = [j / slices for j in range(1, slices + 1)]
    ends = [0.0, *(2 * part / (b + sqrt(b * b + 4 * a * part)) for part in parts)]
    return tuple(end - start for start, end in pairwise(ends))


def whole_microbatches(row: Iterable[Action]) -> tuple[Action, ...]:
    """A row of forwards in which each microbatch is whole: an evaluation keeps nothing anyway."""
    found = []
    for action in row:
        number = action.microbatch
        if not isinstance(number, Slice):
            found.append(action)
        elif number.place == 0:
            found.append(action._replace(microbatch=number.microbatch))
    return tuple(found)


def check_slices(schedule: Schedule) -> None:
    """Raise ScheduleError for slices out of order, or of which some are missing or split."""
    k = schedule.slices
    kinds = {kind for row in schedule.ranks for kind in set(map(type, map(itemgetter(2), row)))}
    for rank, row in enumerate(schedule.ranks if Slice in kinds else ()):
        numbers = {i: a.microbatch for i, a in enumerate(row) if a.microbatch is not None}
        found = {n.of if isinstance(n, Slice) else 1 for n in numbers.values()}
        if found - {k}:
            odd = next(i for i, n in numbers.items() if (n.of if isinstance(n, Slice) else 1) != k)
            raise refusal(
                f"rank {rank} has {row[odd].token}, others have {k} slices a microbatch: cut "
                f"each microbatch into the same slices, 0F0.0 0F0.1",
                schedule.ranks,
                [(rank, odd)],
            )
        if k > 1:
            _check_order(schedule, rank)
    _check_shares(schedule)


def _check_order(schedule: Schedule, rank: int) -> None:
    """Forwards from the first slice to the last; B, and each of I and W, from the last one."""
    done: dict[tuple[int, Kind, int], int] = defaultdict(int)
    for i, action in enumerate(schedule.ranks[rank]):
        stage, kind, number = action
        if not isinstance(number, Slice):
            continue
        for half in _HALVES.get(kind, ()):
            count = done[stage, half, number.microbatch]
            wanted = count if kind is Kind.F else number.of - 1 - count
            done[stage, half, number.microbatch] += 1
            if number.place != wanted and wanted in range(number.of):
                first = Action(stage, kind, Slice(number.microbatch, wanted, number.of)).token
                raise refusal(
                    f"rank {rank} runs {action.token} (place {i + 1}) before {first}: {_WHY[half]}",
                    schedule.ranks,
                    [(rank, i)],
                )


def _check_shares(schedule: Schedule) -> None:
    shares = schedule.shares
    if not shares:
        return
    if len(shares) != schedule.slices:
        raise ScheduleError(
            f"shares has {len(shares)} numbers, microbatches have {schedule.slices} slices"
        )
    if not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ScheduleError(
            f"shares {shares}: the share of the tokens in each slice, above 0 and 1 in all"
        )

"""Building blocks: the pattern of one microbatch, repeated with a period (Qi et al. 2024).

    slot      0   1   2   3   4   5   6   7   8  ...      rank 0 of p = 2, V-Min, period 6
    pattern   0F0 ·   ·   3F0 3I0 ·   ·   0I0 ·
    repeat    0F0 ·   ·   3F0 3I0 ·   0F1 0I0 ·   3F1 ... each microbatch a period later
    fill      0F0 ·   ·   3F0 3I0 3W0 0F1 0I0 0W0 3F1 ... W in free slots, the oldest first
    squeeze   the order of each rank stays, free slots go

How long a microbatch's activations stay on a rank, its lifespan, is in the pattern already. So are
the peak, which is the sum of the lifespans over the period, and collisions: two actions of a rank
whose slots differ by a multiple of the period.

(arXiv 2405.15362, sections 3 and 4; the paper writes B for our I. All of its blocks fold the model
in a V: rank r owns stages r and 2p-1-r.)
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipelab.action import Action, Kind, needs, produces
from pipelab.errors import ScheduleError
from pipelab.schedules import rules
from pipelab.schedules.builders import check_sizes
from pipelab.schedules.ends import fill_ends
from pipelab.schedules.schedule import Schedule, refusal

__all__ = [
    "Slots",
    "from_block",
    "lifespan_peaks",
    "lifespans",
    "v_half",
    "v_half_block",
    "v_min",
    "v_min_block",
    "zero_bubble_v_block",
]

Slots = Mapping[str, int]
"""For each token of microbatch 0 the slot in which it starts: ``{"0F0": 0, "0I0": 3}``."""

_Row = dict[Action, int]  # when one microbatch's actions start, in order of the slots


def from_block(
    pattern: Callable[[int], Slots] | Sequence[Slots],
    period: int,
    num_ranks: int,
    num_microbatches: int,
    *,
    fill: bool = False,
    name: str = "block",
) -> Schedule:
    """Repeat one microbatch's pattern, let W fill free slots, then squeeze.

    Args:
        pattern: for each rank, when its actions of microbatch 0 start, in slots: a function of the
            rank, or one mapping for each rank. F, I and W take one slot, B takes two. A W that is
            not named runs in the first free slot after its I, the oldest first.
        period: slots from one microbatch to the next.
        fill: in warmup, run forwards earlier where a rank would be idle, as long as its peak stays
            as it is; in cooldown, let W wait for I.

    Raises:
        ScheduleError: two actions collide, or one starts before what it needs has ended, which
            names the two; a period that is too short; a stage or an action missing.

    >>> there_and_back = [{"0F0": 0, "0B0": 4}, {"1F0": 1, "1B0": 2}]  # 1F1B of two ranks
    >>> print(from_block(there_and_back, period=3, num_ranks=2, num_microbatches=2))
    block: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 ·   0B0 ·   0B1
    rank 1  ·   1F0 1B0 1F1 1B1 ·
    """
    check_sizes(num_ranks, num_microbatches)
    block = _parsed(pattern, num_ranks)
    _check(block, period)
    rows = tuple(
        tuple(action for _, action in _repeated(row, period, num_microbatches)) for row in block
    )
    schedule = Schedule(rows, name)
    return fill_ends(schedule) if fill else schedule


def lifespan_peaks(
    pattern: Callable[[int], Slots] | Sequence[Slots], period: int, num_ranks: int
) -> tuple[float, ...]:
    """For each rank, the sum of its stages' lifespans over the period (section 3.1).

    It is what a rank holds on average once the pattern repeats, from the start of an F to the end
    of its W or B, in units of a rank's whole slice of the model. The peak is less than one
    activation of each of its stages above it.

    >>> lifespan_peaks([{"0F0": 0, "0B0": 4}, {"1F0": 1, "1B0": 2}], period=3, num_ranks=2)
    (2.0, 1.0)
    """
    found = lifespans(pattern, period, num_ranks)
    return tuple(sum(end - start for start, end in row) / period / len(row) for row in found)


def lifespans(
    pattern: Callable[[int], Slots] | Sequence[Slots], period: int, num_ranks: int
) -> list[list[tuple[int, int]]]:
    """For each rank and each of its stages, how long it holds one microbatch's activations.

    From the slot in which its F starts to the one in which its W, or B, has ended, once the pattern
    repeats; a later microbatch's are so many periods later.

    >>> lifespans([{"0F0": 0, "0B0": 4}, {"1F0": 1, "1B0": 2}], period=3, num_ranks=2)
    [[(0, 6)], [(1, 4)]]
    """
    block = _parsed(pattern, num_ranks)
    _check(block, period)
    return [_lifespans(row, period) for row in block]


def v_min(num_ranks: int, num_microbatches: int) -> Schedule:
    """V-Min (section 4.1): the least memory that a V allows, (p+4)//3 of a rank's slices.

    It has no slack: where I, F and W do not take equally long, its bubble grows with m.

    >>> print(v_min(2, 2))
    v_min: 2 ranks, 2 microbatches
    rank 0  0F0 ·   ·   3F0 3I0 3W0 0F1 0I0 0W0 3F1 3I1 3W1 ·   0I1 0W1
    rank 1  ·   1F0 2F0 ·   ·   2I0 1I0 1F1 2F1 2W0 1W0 2I1 1I1 2W1 1W1
    """
    check_sizes(num_ranks, num_microbatches)
    return from_block(*v_min_block(num_ranks), num_ranks, num_microbatches, name="v_min")


def v_half(num_ranks: int, num_microbatches: int) -> Schedule:
    """V-Half (section 4.1): half the memory of 1F1B's first rank, (p+2)//2 of a rank's slices.

    Its steady state has no idle slot as long as W + 2I >= 2F and W + 2F >= 2I.

    >>> print(v_half(2, 2))
    v_half: 2 ranks, 2 microbatches
    rank 0  0F0 ·   ·   3F0 0F1 3I0 3W0 3F1 ·   ·   0I0 3I1 0W0 3W1 ·   0I1 0W1
    rank 1  ·   1F0 2F0 ·   ·   1F1 2F1 2I0 2W0 1I0 1W0 ·   2I1 2W1 1I1 1W1 ·
    """
    check_sizes(num_ranks, num_microbatches)
    return from_block(*v_half_block(num_ranks), num_ranks, num_microbatches, name="v_half")


def v_min_block(num_ranks: int) -> tuple[list[Slots], int]:
    """The pattern of V-Min and its period."""
    p, gap = num_ranks, 2 if num_ranks % 3 == 0 else 0
    return _folded(p, lambda i: (i, 2 * p - 1 - i, 2 * p + gap + i, 4 * p + gap - 1 - i)), 6


def v_half_block(num_ranks: int) -> tuple[list[Slots], int]:
    """The pattern of V-Half and its period."""
    p, gap = num_ranks, 3 if num_ranks % 2 == 0 else 0
    starts = lambda i: (2 * i, 3 * p - 2 - i, 3 * p + gap - 1 + 2 * i, 6 * p + gap - 2 - i)  # noqa: E731
    return _folded(p, starts), 6


def zero_bubble_v_block(num_ranks: int) -> tuple[list[Slots], int]:
    """The pattern that ``zero_bubble_v`` repeats in its steady state, and its period.

    With ``fill=True``, ``from_block`` makes of it a schedule that takes as long and holds as much
    as ``zero_bubble_v``, which writes the same order by hand.
    """
    p = num_ranks
    starts = lambda i: (4 * i, 6 * p - 3 - 2 * i, 6 * p - 2 + 4 * i, 12 * p - 5 - 2 * i)  # noqa: E731
    return _folded(p, starts), 6


def _folded(p: int, starts: Callable[[int], tuple[int, int, int, int]]) -> list[Slots]:
    """Starts of F on a rank's first and second stage, then of I on its second and first one."""
    rows: list[Slots] = []
    for rank in range(p):
        there, back = rank, 2 * p - 1 - rank
        tokens = f"{there}F0", f"{back}F0", f"{back}I0", f"{there}I0"
        rows.append(dict(zip(tokens, starts(rank), strict=True)))
    return rows


def _parsed(pattern: Callable[[int], Slots] | Sequence[Slots], p: int) -> list[_Row]:
    """For each rank, action -> slot, in order of the slots."""
    slots = [pattern(rank) for rank in range(p)] if callable(pattern) else list(pattern)
    if len(slots) != p:
        raise ScheduleError(f"the pattern has {len(slots)} rows, but num_ranks is {p}")
    rows = []
    for rank, row in enumerate(slots):
        for token, slot in row.items():
            if type(slot) is not int or slot < 0:
                raise ScheduleError(f"rank {rank}, {token}: a slot is a whole number, not {slot!r}")
        rows.append({Action.parse(t): slot for t, slot in sorted(row.items(), key=lambda x: x[1])})
        if wrong := [action.token for action in rows[-1] if action.microbatch != 0]:
            raise ScheduleError(
                f"rank {rank}, {wrong[0]}: a pattern is that of microbatch 0, such as 0F0"
            )
    return rows


def _check(block: Sequence[_Row], period: int) -> None:
    """One microbatch's pattern is a schedule, and can be repeated with this period."""
    rows = [[*row, *_missing_weights(row)] for row in block]
    one = Schedule(tuple(map(tuple, rows)))
    rules.check_stages(one)
    rules.check_complete(one)
    check_room(one, period)
    _check_needs(block, one)
    for rank, slots in enumerate(block):
        _check_collisions(rank, slots, period, one)


def check_room(one: Schedule, period: int) -> None:
    """Raise ScheduleError if a rank has more to do for one microbatch than a period has slots."""
    for rank, row in enumerate(one.ranks):
        work = sum(map(slots_of, row))
        if work > period:
            raise ScheduleError(
                f"rank {rank}: one microbatch takes {work} slots ({' '.join(a.token for a in row)})"
                f",\nbut the period is {period}: the next one would come before there is room"
            )


def slots_of(action: Action) -> int:
    """How many: a full backward is an I and a W, so it takes two; everything else takes one."""
    return 2 if action.kind is Kind.B else 1


def _missing_weights(row: _Row) -> list[Action]:
    """The W that the pattern leaves to the free slots, in order of their I."""
    weights = (a._replace(kind=Kind.W) for a in row if a.kind is Kind.I)
    return [weight for weight in weights if weight not in row]


def _check_needs(block: Sequence[_Row], one: Schedule) -> None:
    """Nothing starts before what it needs has ended, on whatever rank."""
    place = {produces(a): (r, i) for r, row in enumerate(block) for i, a in enumerate(row)}
    for rank, row in enumerate(block):
        for position, (action, slot) in enumerate(row.items()):
            for result in needs(action, one.num_stages):
                peer, there = place[result]
                needed = one.ranks[peer][there]
                end = block[peer][needed] + slots_of(needed)
                if slot < end:
                    raise refusal(
                        f"{action.token} of rank {rank} starts in slot {slot}, but {needed.token} "
                        f"of rank {peer}, which it needs, ends with slot {end - 1}:\n"
                        f"start {action.token} in slot {end} or later",
                        one.ranks,
                        [(rank, position), (peer, there)],
                    )


def _check_collisions(rank: int, row: _Row, period: int, one: Schedule) -> None:
    """No two actions of a rank fall on the same slot when the pattern is repeated."""
    taken: dict[int, int] = {}  # the position of the action that has a slot of the period
    for position, (action, start) in enumerate(row.items()):
        for slot in range(start, start + slots_of(action)):
            there = taken.setdefault(slot % period, position)
            if there != position:
                text = _collision(row, action, [*row][there], slot, period)
                cells = [(rank, position), (rank, there)]
                raise refusal(f"rank {rank}: {text}", one.ranks, cells)


def _collision(row: _Row, action: Action, other: Action, slot: int, period: int) -> str:
    """What collides with what, why, and which slots of the period are free."""
    later = other._replace(microbatch=(slot - row[other]) // period)
    used = {s % period for a, start in row.items() for s in range(start, start + slots_of(a))}
    free = ", ".join(str(s) for s in range(period) if s not in used)
    return (
        f"{action.token} and {later.token} collide in slot {slot}:\n"
        f"{other.token} starts in slot {row[other]}, and each microbatch comes {period} slots "
        f"after the one before;\n"
        f"move one of the two to a slot whose remainder by {period} is free: {free}"
    )


def _repeated(row: _Row, period: int, m: int) -> Iterator[tuple[int, Action]]:
    """A rank's slots and actions of all microbatches; each W that is left open in a free slot."""
    starts = {
        slot + i * period: a._replace(microbatch=i) for a, slot in row.items() for i in range(m)
    }
    left_open = {weight.stage for weight in _missing_weights(row)}
    waiting: deque[Action] = deque()
    slot, last = 0, max(starts)
    while slot <= last or waiting:
        action = starts.get(slot)
        if action is None and waiting:
            action = waiting.popleft()
        elif action is not None and action.kind is Kind.I and action.stage in left_open:
            waiting.append(action._replace(kind=Kind.W))
        if action is not None:
            yield slot, action
        slot += slots_of(action) if action else 1


def _lifespans(row: _Row, period: int) -> list[tuple[int, int]]:
    """Of each stage, in order of their F, for the microbatch of slot 0 once the pattern repeats."""
    settled = 2 * (2 + max(row.values()) // period)
    starts, ends = dict[int, int](), dict[int, int]()
    for slot, action in _repeated(row, period, 2 * settled):
        if action.microbatch == settled and action.kind is not Kind.I:
            known = starts if action.kind is Kind.F else ends
            known[action.stage] = slot - settled * period
            known[action.stage] += 0 if action.kind is Kind.F else slots_of(action)
    return [(start, ends[stage]) for stage, start in starts.items()]

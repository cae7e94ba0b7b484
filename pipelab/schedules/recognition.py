"""Recognise a schedule by its order: 1F1B, interleaved with v = 2, or "your own: 1F1B with ...".

A name proves nothing, and a CSV file, a learner's edit or a trace from another engine may have
none. So the order of the computing actions on each rank is compared with that of every builder of
the catalogue, in this turn:

    the same order                          1F1B
    the same, but for two actions           your own: 1F1B with two swapped: 0F2 and 0B1 on rank 0
    the same, but for microbatch numbers    1F1B, its microbatches in another order
    the same with B for each I, no W        1F1B, its backwards in two halves
    the same, but for places of W           your own: zero bubble H1 with 3 of its W moved
    nearly the same                         your own: 1F1B with 3 of 64 actions moved
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from operator import itemgetter
from typing import NamedTuple, Protocol

from pipelab.action import COMPUTE, Action, Kind, Overlap
from pipelab.errors import ScheduleError
from pipelab.overlapping import Timed, overlapping_pairs
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.sliced import seq1f1b

_SMALL = 1024  # stages x microbatches of a schedule that is kept: some 200 kB
_NEAR = 0.25  # of all actions may be moved, and it is still called by a builder's name

_Row = tuple[Action, ...]
_Rows = tuple[_Row, ...]


class Traced(Protocol):
    """What is needed of a trace: its events."""

    @property
    def events(self) -> Sequence[Timed]:
        """In any order."""


class Recognised(NamedTuple):
    """What an order of actions is; ``str`` of it is for people.

    Attributes:
        name: in the catalogue, of what it is or is nearest to; None if nothing has its stages.
        stages_per_rank: v of that.
        difference: from that, in words; empty if the order is the same.
        moved: how many actions stand elsewhere than there.
        also: others of the catalogue that have the same order in these sizes.
        is_own: whether it is no schedule of the catalogue.
        is_near: whether few enough actions are moved to call it by the other's name.
    """

    name: str | None
    stages_per_rank: int = 1
    difference: str = ""
    moved: int = 0
    also: tuple[str, ...] = ()
    is_own: bool = False
    is_near: bool = True

    @property
    def title(self) -> str:
        """The name for people, with v where it can be chosen; empty without a name."""
        return _title(self.name, self.stages_per_rank) if self.name else ""

    def __str__(self) -> str:
        """One line, without a full stop."""
        if not self.name:
            return "your own"
        if self.is_own:
            near = f"your own: {self.title} with {self.difference}"
            return near if self.is_near else f"your own; nearest: {self.title}, {self.difference}"
        titles = [_title(name, self.stages_per_rank) for name in self.also]
        same = f" (in these sizes also {', '.join(titles)})" if titles else ""
        return self.title + same + (f", {self.difference}" if self.difference else "")


def recognise(what: Schedule | Traced) -> Recognised:
    """What a schedule, or what a trace shows, is: by the order of its computing actions alone.

    Of several replicas in a trace, the first is taken; of several steps, the first.

    >>> from pipelab.schedules import one_f_one_b
    >>> str(recognise(one_f_one_b(4, 8)))
    '1F1B'
    >>> rows = [[a.token for a in row] for row in one_f_one_b(4, 8).ranks]
    >>> rows[0][3:5] = ["0B0", "0F3"]
    >>> str(recognise(Schedule.from_tokens(rows)))
    'your own: 1F1B with two swapped: 0F3 and 0B0 on rank 0'
    """
    schedule = what.compute if isinstance(what, Schedule) else order_of(what)
    rows = _sorted(schedule.ranks)
    candidates = [*_candidates(schedule, _name_of(what))]
    if (found := _same(rows, candidates)) and (words := _not_overlapped(found, schedule)):
        return found._replace(difference=words)
    return (
        _same(rows, candidates)
        or _two_swapped(rows, candidates)
        or _same(rows, candidates, _renumbered, "its microbatches in another order")
        or _other_backwards(rows, candidates)
        or _nearest(rows, candidates)
    )


def order_of(trace: Traced) -> Schedule:
    """The schedule that a trace shows: for each rank, what it computed, in order of the starts.

    Of several replicas and of several steps, the first.

    Raises:
        ScheduleError: nothing was computed in it.
    """
    rows: dict[int, dict[Action, None]] = {}
    computing = [e for e in trace.events if e.kind in COMPUTE]
    for e in sorted(computing, key=lambda e: (e.start, e.kind != Kind.F)):
        rows.setdefault(e.rank, {}).setdefault(Action(e.stage, e.kind, e.microbatch))
    if not rows:
        raise ScheduleError("nothing was computed in this trace, so it shows no schedule")
    taken: set[int] = set()
    kept = []
    for _, row in sorted(rows.items()):
        if stages := {action.stage for action in row} - taken:
            taken |= stages
            kept.append(tuple(action for action in row if action.stage in stages))
    pairs = (Overlap(_action(a), _action(b)) for a, b in overlapping_pairs(computing))
    here = {action for row in kept for action in row}
    overlaps = frozenset(pair for pair in pairs if here.issuperset(pair))
    return Schedule(tuple(kept), "recognised", overlaps=overlaps)


def _action(event: Timed) -> Action:
    return Action(event.stage, event.kind, event.microbatch)


class _Candidate(NamedTuple):
    name: str
    stages_per_rank: int
    rows: _Rows


def _name_of(what: Schedule | Traced) -> str:
    """What it is called: of several with one order, that one comes first."""
    return (
        what.name
        if isinstance(what, Schedule)
        else str(getattr(getattr(what, "setting", None), "schedule", ""))
    )


def _candidates(schedule: Schedule, named: str) -> Iterator[_Candidate]:
    """Every schedule of the catalogue that has these stages; the one of this name first."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    v, rest = divmod(schedule.num_stages, max(1, p))
    if rest or not m or not _is_dense(schedule):
        return
    if schedule.slices > 1 and v == 1:
        yield _Candidate("seq1f1b", v, seq1f1b(p, m, schedule.slices).ranks)
    places = _places(_sorted(schedule.ranks))
    build = _kept if schedule.num_stages * m <= _SMALL else _built
    for name, builder in sorted(BUILDERS.items(), key=lambda item: item[0] != named):
        if builder.stages_per_rank != v and (builder.stages_per_rank or v == 1):
            continue  # with v = 1 the looped ones are those of one stage per rank
        try:
            rows, there = build(name, p, m, v)
        except ScheduleError:
            continue  # it refuses these sizes
        if there == places:
            yield _Candidate(name, v, rows)


def _built(name: str, p: int, m: int, v: int) -> tuple[_Rows, list[set[int]]]:
    """The rows of a schedule of the catalogue, and the stages of each."""
    rows = BUILDERS[name].build(p, m, v).ranks
    return rows, _places(rows)


# An editor asks after each edit, and the catalogue's schedules of its sizes stay the same.
_kept = lru_cache(maxsize=32)(_built)


def _is_dense(schedule: Schedule) -> bool:
    """Whether each stage has a forward for each microbatch, as all of the catalogue's have."""
    forwards = sum(action.kind is Kind.F for row in schedule.ranks for action in row)
    return forwards == schedule.num_stages * schedule.num_microbatches * schedule.slices


def _same(
    rows: _Rows,
    candidates: Sequence[_Candidate],
    form: Callable[[_Row], _Row] = lambda row: row,
    difference: str = "",
) -> Recognised | None:
    """The candidates that are like ``rows`` when all rows have this form, if any is."""
    found = _alike(rows, candidates, form)
    if not found:
        return None
    (name, v, _), *others = found
    return Recognised(name, v, difference, also=tuple(other.name for other in others))


def _alike(
    rows: _Rows, candidates: Sequence[_Candidate], form: Callable[[_Row], _Row]
) -> list[_Candidate]:
    ours = [form(row) for row in rows]
    # rank by rank: most candidates differ on the first one
    return [c for c in candidates if all(map(lambda a, b: a == form(b), ours, c.rows))]


def _other_backwards(rows: _Rows, candidates: Sequence[_Candidate]) -> Recognised | None:
    """What has the same F and backwards in the same order; but W elsewhere, or other halves."""
    alike = _alike(rows, candidates, _whole)
    whole = [c for c in alike if not _has(Kind.W, c.rows)]
    split = [c for c in alike if _counts(c.rows) == _counts(rows)]
    if not _has(Kind.W, rows):
        return _same(rows, alike, _whole, "its backwards whole")
    if whole and (_weights_follow(rows) or not split):
        how = "some of its backwards" if _has(Kind.B, rows) else "its backwards"
        return _same(rows, whole, _whole, f"{how} in two halves")
    if not split:
        return None
    moved, nearest = min(((_moved(rows, c.rows), c) for c in split), key=itemgetter(0))
    is_near = moved <= _NEAR * sum(map(len, rows))
    words = f"{moved} of its W moved"
    return Recognised(*nearest[:2], words, moved, is_own=True, is_near=is_near)


def _two_swapped(rows: _Rows, candidates: Sequence[_Candidate]) -> Recognised | None:
    """The first candidate in which two actions of a rank stand in each other's place."""
    for name, v, theirs in candidates:
        cells = _cells_that_differ(rows, theirs)
        if len(cells) == 2 and cells[0] == (cells[1][0], cells[1][2], cells[1][1]):
            rank, later, earlier = cells[0]
            words = f"two swapped: {earlier.token} and {later.token} on rank {rank}"
            return Recognised(name, v, words, 1, is_own=True)
    return None


def _cells_that_differ(rows: _Rows, theirs: _Rows) -> list[tuple[int, Action, Action]]:
    """The first three at most."""
    if [*map(len, rows)] != [*map(len, theirs)]:
        return []
    cells = (
        (rank, a, b)
        for rank, (row, other) in enumerate(zip(rows, theirs, strict=True))
        if row != other
        for a, b in zip(row, other, strict=True)
        if a != b
    )
    return [*islice(cells, 3)]


def _not_overlapped(found: Recognised, schedule: Schedule) -> str:
    """In words, if pairs that run as one action there do not here."""
    if found.name not in BUILDERS:
        return ""
    there = BUILDERS[found.name].build(
        schedule.num_ranks, schedule.num_microbatches, found.stages_per_rank
    )
    missing = len(there.overlaps - schedule.overlaps)
    if not missing:
        return ""
    return "nothing overlapped" if not schedule.overlaps else f"{missing} pairs not overlapped"


def _nearest(rows: _Rows, candidates: Sequence[_Candidate]) -> Recognised:
    """The one from which the fewest actions are moved; W too, if it has as many."""
    counts, whole = _counts(rows), tuple(map(_whole, rows))
    found: list[tuple[int, bool, bool, _Candidate]] = []
    for c in candidates:
        # in small sizes several are as near, and nobody starts from the sequential one
        if _counts(c.rows) == counts:
            found.append((_moved(rows, c.rows), False, c.name == "sequential", c))
        elif _counts(theirs := tuple(map(_whole, c.rows))) == _counts(whole):
            found.append((_moved(whole, theirs), True, c.name == "sequential", c))
    if not found:
        return Recognised(None, is_own=True, is_near=False)
    moved, is_cut, _, (name, v, _) = min(found, key=lambda f: f[:3])
    total = sum(map(len, whole if is_cut else rows))
    words = f"{moved} of {total} actions moved"
    if is_cut:
        halves = "in two halves" if _has(Kind.W, rows) else "whole"
        words = f"its backwards {halves} and {words}"
    return Recognised(name, v, words, moved, is_own=True, is_near=moved <= _NEAR * total)


def _moved(ours: _Rows, theirs: _Rows) -> int:
    """How many actions have to be taken out and put back elsewhere, on all ranks."""
    total = 0
    for row, other in zip(ours, theirs, strict=True):
        place = {action: i for i, action in enumerate(other)}
        ends: list[int] = []  # of the best increasing runs of each length: those stay
        for i in (place[action] for action in row):
            at = bisect_left(ends, i)
            ends[at : at + 1] = [i]
        total += len(row) - len(ends)
    return total


def _renumbered(row: _Row) -> _Row:
    """Each action's microbatch replaced by how many of its stage and kind ran before it."""
    seen: Counter[tuple[int, Kind]] = Counter()
    new = []
    for stage, kind, _ in row:
        new.append(Action(stage, kind, seen[stage, kind]))
        seen[stage, kind] += 1
    return tuple(new)


def _whole(row: _Row) -> _Row:
    """B for each I, and no W."""
    return tuple(
        a._replace(kind=Kind.B) if a.kind is Kind.I else a for a in row if a.kind != Kind.W
    )


def _has(kind: Kind, rows: _Rows) -> bool:
    return any(action.kind is kind for row in rows for action in row)


def _weights_follow(rows: _Rows) -> bool:
    """Whether each W stands directly behind its I."""
    pairs = (pair for row in rows for pair in pairwise(row))
    behind = sum(b == a._replace(kind=Kind.W) for a, b in pairs if a.kind is Kind.I)
    return behind == sum(a.kind is Kind.I for row in rows for a in row)


def _sorted(rows: _Rows) -> _Rows:
    """Ranks in order of their first stages: which rank has which number is no matter of order."""
    return tuple(sorted(rows, key=lambda row: min((a.stage for a in row), default=0)))


def _places(rows: _Rows) -> list[set[int]]:
    return [{action.stage for action in row} for row in rows]


def _counts(rows: _Rows) -> list[Counter[Action]]:
    return [Counter(row) for row in rows]


def _title(name: str, v: int) -> str:
    if name not in BUILDERS:  # seq1f1b, which cuts sequences and is in no catalogue
        return name
    builder = BUILDERS[name]
    return (builder.title or name) + (f", v = {v}" if builder.stages_per_rank is None else "")

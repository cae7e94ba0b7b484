"""Lesson 10, when it hangs: the learner repairs four programs, and reads a wait-for graph.

Two ranks that both send first run as long as something keeps their messages; a send that waits for
its receive (MPI's synchronous mode, and what NCCL may do) makes them wait for each other for good.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from pipelab.errors import ScheduleError
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch10_questions import QUESTIONS
from pipelab.lessons.exercise import Cases, Draws, Exercise, Idea, each, equal
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import refused, rows_of, schedule_of
from pipelab.lessons.unproven import BROKEN, exchange
from pipelab.schedules import Schedule, validate
from pipelab.words import number

_REPAIR = "a function repair(name): the rows of that program, with one change"
_LOOK_AT = "a function look_at(waits): the ranks to look at first, such as [1, 2]"
LARGE = 40_000_000  # bytes of a message: more than a ring holds
_LONG = (
    30.0  # seconds: a repaired program cannot hang, so a busy machine gets all the time it needs
)
_Waits = list[int | None]


# ---------------------------------------------------------------------------- 10.1, repair


def _judge_repair(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {name: (name,) for name in BROKEN}
    tried = yield from each(function, cases, _compare_repair)
    if tried.right:
        repaired = {
            name: schedule_of(rows) for name, rows in zip(BROKEN, tried.values, strict=True)
        }
        runs = {
            name: exchange(schedule, 1000, timeout=_LONG) for name, schedule in repaired.items()
        }
        ran = [name for name, trace in runs.items() if trace.events]
        row = "on real ranks, messages of 1 kB"
        yield equal(row, f"{len(BROKEN)} of {len(BROKEN)} run", f"{len(ran)} of {len(BROKEN)} run")
        trace = exchange(repaired["both send first"], LARGE, timeout=_LONG)
        yield equal("both send first, messages of 40 MB", "runs", "runs")
        yield Shown("Both send first, repaired, with messages of 40 MB", trace)


def _compare_repair(name: str, value: object, broken: str) -> Result:
    expected = "it runs, after one change"
    before, rows = rows_of(list(BROKEN[broken])), rows_of(value)
    if rows == before:
        hint = "validate(Schedule.from_tokens(...)) says what is wrong with it, and where"
        return Result(name, expected, "as it was", False, hint)
    try:
        validate(Schedule.from_tokens(rows))
    except ScheduleError as error:
        return refused(name, expected, error)
    changes = _changes(before, rows)
    hint = "one token moved within its row, or one token added: the others stay where they are"
    got = f"it runs, after {number(changes, 'change')}"
    return Result(name, expected, got, changes == 1, hint)


def _changes(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> int:
    """Tokens moved within their row, added and removed; a new or missing row counts by tokens."""
    count = 0
    for i in range(max(len(before), len(after))):
        old = list(before[i]) if i < len(before) else []
        new = list(after[i]) if i < len(after) else []
        added, removed = Counter(new) - Counter(old), Counter(old) - Counter(new)
        count += added.total() + removed.total()
        count += len(old) - removed.total() - _in_same_order(old, new)  # those that were moved
    return count


def _in_same_order(old: Sequence[str], new: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(new) + 1)
    for token in old:
        corner = 0
        for i, other in enumerate(new, 1):
            corner, row[i] = row[i], corner + 1 if token == other else max(row[i], row[i - 1])
    return row[-1]


# -------------------------------------------------------------------------- 10.2, look at


def _judge_look_at(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "two ranks wait for each other": ([1, 0],),
        "a ring that others lead to": ([1, 2, 1, 2],),
        "no ring: rank 2 computes without end": ([1, 2, None],),
        "a ring of four": ([3, 0, 1, 2],),
        "nobody waits": ([None, None, None],),
        "two rings": ([1, 0, 3, 2, 1],),
    }
    yield from each(function, cases, _compare_look_at, _GRAPHS, seed)


def _ends(waits: _Waits) -> list[int]:
    """Where following the waits ends: in a ring, or at a rank that waits for nobody itself."""
    found: set[int] = set()
    for start, peer in enumerate(waits):
        if peer is None:
            continue
        path, at = [start], peer
        while (then := waits[at]) is not None and at not in path:
            path.append(at)
            at = then
        found |= {*path[path.index(at) :]} if at in path else {at}
    return sorted(found)


def _compare_look_at(name: str, value: object, waits: _Waits) -> Result:
    wanted = _ends(waits)
    hint = (
        "begin at each rank that waits, and go on to the one it waits for: where do you end, or "
        "which ranks do you meet again?"
    )
    if isinstance(value, list) and {*value} == {*wanted}:
        hint = "these are the ranks; return each of them once, the smallest first"
    return equal(name, wanted, value, hint)


def _draw_waits(random: Random) -> tuple[_Waits]:
    if random.random() < _CHAINS:
        return (_chain(random),)
    ranks = range(random.choice((2, 3, 4, 4, 5, 6, 8, 11)))
    none = random.choice((0.0, 0.2, 0.2, 0.5))
    waits: _Waits = []
    for rank in ranks:
        others = [other for other in ranks if other != rank]
        waits.append(None if random.random() < none else random.choice(others))
    return (waits,)


_CHAINS = 0.15  # of all graphs
_LONG_WAY = 6  # waits, one after another


def _chain(random: Random) -> _Waits:
    """All ranks in one chain, in any order; its end is a rank, or a ring of two."""
    ranks = range(_LONG_WAY + random.randrange(2, 5))
    order = random.sample(ranks, k=len(ranks))
    waits: _Waits = [None] * len(order)
    for rank, peer in pairwise(order):
        waits[rank] = peer
    waits[order[-1]] = random.choice((None, order[-2]))
    return waits


def _far(waits: _Waits) -> bool:
    """Whether somebody is so many waits away from the end."""
    at = {rank for rank, peer in enumerate(waits) if peer is not None} - {*_ends(waits)}
    for _ in range(_LONG_WAY - 1):
        at = {peer for rank in at if (peer := waits[rank]) is not None} - {*_ends(waits)}
    return bool(at)


def _rings(waits: _Waits) -> bool:
    return any(waits[rank] is not None for rank in _ends(waits))


def _loose(waits: _Waits) -> bool:
    return any(waits[rank] is None for rank in _ends(waits))


def _has_followers(waits: _Waits) -> bool:
    """Whether some rank waits for a ring that it is not in."""
    ends = _ends(waits)
    for rank, peer in enumerate(waits):
        if rank not in ends and peer is not None:
            while peer not in ends:
                peer = waits[peer]
                assert peer is not None
            if waits[peer] is not None:
                return True
    return False


def _allowed(waits: _Waits) -> bool:
    ranks = range(len(waits))
    return len(waits) > 1 and all(
        peer is None or (peer in ranks and peer != rank) for rank, peer in enumerate(waits)
    )


_GRAPHS = Draws(
    _draw_waits,
    (
        Idea(
            "nobody who waits",
            "then there is nothing to look at: an empty list",
            lambda waits: not _ends(waits),
        ),
        Idea(
            "a rank that neither waits nor is waited for",
            "it has finished, or never needed anything: it holds nobody up",
            lambda waits: any(
                peer is None and rank not in waits for rank, peer in enumerate(waits)
            ),
        ),
        Idea(
            "a long way to the end",
            "go on until you meet a rank again, or one that waits for nobody, however many waits",
            _far,
        ),
        Idea(
            "ranks that wait for a ring and are not in it",
            "nobody in the ring waits for such a rank, so no change there helps",
            _has_followers,
        ),
        Idea(
            "chains that end at a rank which waits for nobody",
            "it computes, or it is gone: look there",
            _loose,
        ),
        Idea(
            "chains and rings at once",
            "both are ends: begin at every rank, not at the first alone",
            lambda waits: _loose(waits) and _rings(waits),
        ),
        Idea(
            "ranks that wait in a ring",
            "follow one until you meet a rank again: from there on it is the ring",
            _rings,
        ),
        Idea("every graph", "all ends, each once, in order"),
    ),
    allowed=_allowed,
)


CHAPTER = Chapter(
    {
        "10.1": Exercise(
            "repair four programs",
            _REPAIR,
            _judge_repair,
            (
                "Give each of them to validate and read the message: it names the ranks and "
                "the tokens. Two of the four wait in a ring; in the others a message is at fault.",
                "In a ring it is enough to change one rank: let it do first what the other one "
                "waits for. A RECV opens a buffer and never waits, so it can always go up.",
                "One after the other: a RECV_B0 goes up, two RECVs change places, a SEND_B1 is "
                "missing behind its B1, and rank 2 can do a backward before its next forward.",
            ),
        ),
        "10.2": Exercise(
            "where to look first",
            _LOOK_AT,
            _judge_look_at,
            (
                "Draw the six named cases: a dot for each rank, an arrow to the one it waits for. "
                "Where do the arrows lead?",
                "From each rank that waits, follow the arrows and note where you have been. Either "
                "you reach a rank without an arrow, or one where you have been before.",
                "In the first case that last rank belongs to the answer; in the second all ranks "
                "from the one that you have met again to the end of your notes. Use a set, and "
                "return it sorted.",
            ),
            _GRAPHS,
        ),
    },
    QUESTIONS,
)

"""Lesson 10, when it hangs: the learner repairs four programs, and reads a wait-for graph.

Two ranks that both send first run as long as something keeps their messages; a send that waits for
its receive (MPI's synchronous mode, and what NCCL may do) makes them wait for each other for good.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from pipelab.errors import ScheduleError
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch10_draws import GRAPHS, Waits, ends
from pipelab.lessons.chapters.ch10_questions import QUESTIONS
from pipelab.lessons.exercise import Cases, Exercise, each, equal
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
    expected = f"it runs, after {number(1, 'change')}"
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
        "the first rank and the last one wait": ([1, None, None, 2],),
    }
    yield from each(function, cases, _compare_look_at, GRAPHS, seed)


def _compare_look_at(name: str, value: object, waits: Waits) -> Result:
    wanted = ends(waits)
    hint = (
        "begin at each rank that waits, and go on to the one it waits for: where do you end, or "
        "which ranks do you meet again?"
    )
    if isinstance(value, list) and {*value} == {*wanted}:
        hint = "these are the ranks; return each of them once, the smallest first"
    return equal(name, wanted, value, hint)


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
                "Draw the named cases: a dot for each rank, an arrow to the one it waits for. "
                "Where do the arrows lead?",
                "From each rank that waits, follow the arrows and note where you have been. Either "
                "you reach a rank without an arrow, or one where you have been before.",
                "In the first case that last rank belongs to the answer; in the second all ranks "
                "from the one that you have met again to the end of your notes. Use a set, and "
                "return it sorted.",
            ),
            GRAPHS,
        ),
    },
    QUESTIONS,
)

"""Answers that are schedules: rows of tokens, from a function of one rank or of all."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout

from pipelab.engine import verify_gradients
from pipelab.errors import ScheduleError
from pipelab.lessons.answer_process import Function
from pipelab.lessons.comparing import ask, equal, name_of
from pipelab.lessons.exercise import Cases
from pipelab.lessons.experiment import LOSS, Experiment
from pipelab.lessons.plain_data import encoded, plain
from pipelab.lessons.results import Result
from pipelab.schedules import Schedule
from pipelab.words import number

__all__ = [
    "NAMED_SIZES",
    "all_ranks",
    "gradients",
    "of_each_rank",
    "other_size",
    "refused",
    "rows_of",
    "schedule_of",
]

NAMED_SIZES: Cases = {
    "4 ranks, 8 microbatches": (4, 8),
    "a single microbatch": (4, 1),
    "fewer microbatches than ranks": (4, 2),
    "3 ranks, 7 microbatches": (3, 7),
    "one rank": (1, 4),
}
"""The p and m for which every answer that is a schedule is tried, with those that are drawn."""


def all_ranks(function: Function) -> Function:
    """The rows of all p ranks, from the learner's function of (rank, p, m)."""

    def rows(p: int, m: int) -> list[object]:
        return of_each_rank(lambda rank: function(rank, p, m), p)

    def as_written(p: int, m: int) -> str:
        return f"[{name_of(function)}(rank, {p}, {m}) for rank in range({p})]"

    setattr(rows, "as_written", as_written)  # noqa: B010 - a function has no such attribute
    return rows


def of_each_rank(ask: Callable[[int], object], p: int) -> list[object]:
    """What an answer returns for each of p ranks, as plain data; asked in order, and then back.

    A real rank asks for its own row alone: so the row cannot depend on what was asked before.

    Raises:
        ValueError: the second time something else came for a rank.
    """
    found = [plain(ask(rank)) for rank in range(p)]
    for rank in reversed(range(p)):
        with redirect_stdout(io.StringIO()):  # what it prints is shown once
            again = plain(ask(rank))
        if encoded(again) != encoded(found[rank]):
            raise ValueError(
                f"asked for rank {rank} a second time, it returned something else: does it count "
                f"its calls, or keep a list from one call to the next?"
            )
    return found


def schedule_of(rows: object) -> Schedule:
    """The schedule of a row for each rank, of tokens or of text with spaces between them.

    Raises OtherForm if it is none, ScheduleError for a token.
    """
    tokens = rows_of(rows)
    if blanks := [slot for row in tokens for slot in row if not slot.strip(" .·")]:
        raise ScheduleError(
            f"{blanks[0]!r} is no token: leave out what stands for waiting, a rank that has to "
            f"wait waits anyway"
        )
    if points := [slot for row in tokens for slot in row if "." in slot]:
        raise ScheduleError(
            f"{points[0]!r} is no token of this exercise: a microbatch has a whole number, without "
            f"a point; is yours a float?"
        )
    return Schedule.from_tokens(tokens, "yours")


def rows_of(rows: object) -> list[list[str]]:
    """The tokens of each rank, from rows of tokens or of text. Raises OtherForm."""
    if isinstance(rows, list):
        rows = [row.split() if isinstance(row, str) else _stripped(row) for row in rows]
    ask(rows, [[str]], "a list of tokens such as '0F0' for each rank")
    assert isinstance(rows, list)
    return rows


def _stripped(row: object) -> object:
    """The tokens of a row without the spaces around them; anything else as it is."""
    if not isinstance(row, list):
        return row
    return [slot.strip() if isinstance(slot, str) else slot for slot in row]


def other_size(schedule: Schedule, p: int, m: int) -> tuple[str, str] | None:
    """What a schedule has instead of p ranks, a stage each, and m microbatches; and a hint.

    None if it has these.
    """
    stages, microbatches = schedule.num_stages, schedule.num_microbatches
    if (schedule.num_ranks, stages, microbatches) == (p, p, m):
        return None
    got = f"{number(stages, 'stage')}, {number(microbatches, 'microbatch')}"
    if schedule.num_ranks != p:
        return f"rows for {number(schedule.num_ranks, 'rank')}", "a row of tokens for each rank"
    return got, "rank r runs stage r, for each of the m microbatches, numbered from 0"


def refused(name: str, expected: str, error: ScheduleError) -> Result:
    """The row of an answer that is no schedule: beside what was got, what the error says of it."""
    got, *more = str(error).splitlines()
    rule = "\n".join(more)
    if not more:
        got, _, rule = got.partition(": ")
    return Result(name, expected, got, False, rule)


def gradients(of: Experiment, schedule: Schedule, name: str) -> Result:
    """How many parameters get the gradient that one process computes."""
    report = verify_gradients(of.model, schedule, of.inputs, of.targets, LOSS)
    good, whole = sum(row.close for row in report.parameters), len(report.parameters)
    return equal(name, f"{whole} of {whole}", f"{good} of {whole}")

"""Answers that are schedules: rows of tokens, from a function of one rank or of all."""

from pipelab.engine import verify_gradients
from pipelab.errors import ScheduleError
from pipelab.lessons.answer_process import Function
from pipelab.lessons.comparing import ask, equal, name_of
from pipelab.lessons.exercise import Cases
from pipelab.lessons.experiment import LOSS, Experiment
from pipelab.lessons.results import Result
from pipelab.schedules import Schedule
from pipelab.words import number

__all__ = ["NAMED_SIZES", "all_ranks", "gradients", "other_size", "rows_of", "schedule_of"]

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
        return [function(rank, p, m) for rank in range(p)]

    def as_written(p: int, m: int) -> str:
        return f"[{name_of(function)}(rank, {p}, {m}) for rank in range({p})]"

    setattr(rows, "as_written", as_written)  # noqa: B010 - a function has no such attribute
    return rows


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
    return Schedule.from_tokens(tokens, "yours")


def rows_of(rows: object) -> list[list[str]]:
    """The tokens of each rank, from rows of tokens or of text. Raises OtherForm."""
    if isinstance(rows, list):
        rows = [row.split() if isinstance(row, str) else row for row in rows]
    ask(rows, [[str]], "a list of tokens such as '0F0' for each rank")
    assert isinstance(rows, list)
    return rows


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


def gradients(of: Experiment, schedule: Schedule, name: str) -> Result:
    """How many parameters get the gradient that one process computes."""
    report = verify_gradients(of.model, schedule, of.inputs, of.targets, LOSS)
    good, whole = sum(row.close for row in report.parameters), len(report.parameters)
    return equal(name, f"{whole} of {whole}", f"{good} of {whole}")

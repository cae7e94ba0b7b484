"""Answers that are schedules: rows of tokens, from a function of one rank or of all."""

from pipelab.engine import verify_gradients
from pipelab.lessons.answer_process import Function
from pipelab.lessons.comparing import equal, name_of
from pipelab.lessons.experiment import LOSS, Experiment
from pipelab.lessons.results import Result
from pipelab.schedules import Schedule

__all__ = ["all_ranks", "gradients", "schedule_of"]


def all_ranks(function: Function) -> Function:
    """The rows of all p ranks, from the learner's function of (rank, p, m)."""

    def rows(p: int, m: int) -> list[object]:
        return [function(rank, p, m) for rank in range(p)]

    def as_written(p: int, m: int) -> str:
        return f"[{name_of(function)}(rank, {p}, {m}) for rank in range({p})]"

    setattr(rows, "as_written", as_written)  # noqa: B010 - a function has no such attribute
    return rows


def schedule_of(rows: object) -> Schedule:
    """The schedule of a list of rows. Raises TypeError if it is none, ScheduleError for a token."""
    if not isinstance(rows, list):
        raise TypeError("not a list of tokens for each rank")
    return Schedule.from_tokens(rows, "yours")


def gradients(of: Experiment, schedule: Schedule, name: str) -> Result:
    """How many parameters get the gradient that one process computes."""
    report = verify_gradients(of.model, schedule, of.inputs, of.targets, LOSS)
    good, whole = sum(row.close for row in report.parameters), len(report.parameters)
    return equal(name, f"{whole} of {whole}", f"{good} of {whole}")

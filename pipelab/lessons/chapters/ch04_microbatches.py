"""Lesson 4, microbatches and overlap: the learner writes GPipe, and asks how many are enough."""

from collections.abc import Iterator

from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch04_draws import SHARES, SIZES, fewest
from pipelab.lessons.chapters.ch04_questions import QUESTIONS
from pipelab.lessons.exercise import Cases, Exercise, against, each
from pipelab.lessons.experiment import Experiment, experiment, in_turn, record, start
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import (
    NAMED_SIZES,
    all_ranks,
    gradients,
    other_size,
    refused,
    schedule_of,
)
from pipelab.schedules import Schedule, gpipe, recognise, validate
from pipelab.simulator import Cost, simulate
from pipelab.trace import expected_bubble_fraction

_GPIPE = "a function gpipe(rank, p, m): the tokens of one rank, in order"
_ENOUGH = "a function enough(p, share): a number of microbatches"
_PACE = Cost(0.006, 0.006, 0.006)


def _ragged() -> Experiment:
    """Thirty rows: eight microbatches of them are not all of one size."""
    return experiment(rows=30)


# ------------------------------------------------------------------------------- 04.1, GPipe


def _judge_gpipe(function: Function, seed: int) -> Iterator[Result | Shown]:
    tried = yield from each(all_ranks(function), NAMED_SIZES, _compare_rows, SIZES, seed)
    if tried.right:
        yield from _run(schedule_of(tried.values[0]))


def _compare_rows(name: str, rows: object, p: int, m: int) -> Result:
    slots = 2 * (m + p - 1)
    expected = f"{slots} slots, all forwards before all backwards"
    try:
        schedule = schedule_of(rows)
        if fault := _fault(schedule, p, m):
            return Result(name, expected, fault[0], False, fault[1])
        validate(schedule)
    except ScheduleError as error:
        return refused(name, expected, error)
    took = simulate(schedule, Cost(1.0, 0.5, 0.5)).duration
    hint = "the order of the microbatches has to be the same on all ranks"
    return Result(name, expected, f"{took:g} slots", abs(took - slots) < 1e-9, hint)


def _fault(schedule: Schedule, p: int, m: int) -> tuple[str, str] | None:
    """What is wrong with the rows, and where to look; None if nothing is."""
    for rank, row in enumerate(schedule.ranks):
        if elsewhere := [action.token for action in row if action.stage != rank]:
            return (
                f"rank {rank} runs {elsewhere[0]}",
                "rank r runs stage r: its tokens begin with r",
            )
        if halves := [action.token for action in row if action.kind not in (Kind.F, Kind.B)]:
            return f"rank {rank} runs {halves[0]}", "GPipe has forwards F and whole backwards B"
    if fault := other_size(schedule, p, m):
        return fault
    if any(action.kind is Kind.F for row in schedule.ranks for action in row[m:]):
        order = f"this order is {recognise(schedule)}; GPipe: first every F of the rank"
        return "a backward before the last forward", order
    return None


def _run(schedule: Schedule) -> Iterator[Result | Shown]:
    model, inputs, targets = _ragged()
    yield gradients(_ragged(), schedule, "gradients as in one process, ragged batch")
    with start(model, schedule) as pipeline:
        yours, reference = in_turn(pipeline, (inputs, targets), (schedule, gpipe(4, 8)), _PACE)
    yield Shown("Your schedule, recorded on four real ranks", yours)
    yield Shown("What the simulator predicts for GPipe", simulate(gpipe(4, 8), _PACE))
    yield from recorded.order(schedule, yours)
    yield recorded.timed("recorded, over the reference run", yours.duration, reference.duration)


# ------------------------------------------------------------------------------ 04.2, enough


def _judge_enough(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "4 ranks, at most 28 %": (4, 0.28),
        "4 ranks, at most 11 %": (4, 0.11),
        "8 ranks, at most 11 %": (8, 0.11),
        "2 ranks, at most 26 %": (2, 0.26),
        "4 ranks, at most 80 %": (4, 0.80),
        "one rank, at most 11 %": (1, 0.11),
    }
    tried = yield from each(function, cases, _compare_number, SHARES, seed)
    if tried.right:
        trace = record(_ragged(), gpipe(4, 8), _PACE)
        yield Shown("4 ranks with the 8 microbatches that you ask for", trace)
        yield from recorded.order(gpipe(4, 8), trace)
        share = trace.bubble_fraction, expected_bubble_fraction(4, 8)
        yield recorded.timed("recorded bubble, over the formula", *share, "number", (0.9, 1.6))


_FIRST = "put your number into the formula, and the number before it: is it the first that fits?"
_compare_number = against(fewest, _FIRST)


CHAPTER = Chapter(
    {
        "04.1": Exercise(
            "write GPipe",
            _GPIPE,
            _judge_gpipe,
            (
                "Print the schedule of 2 ranks and 3 microbatches, print(gpipe(2, 3)), and read a "
                "row without its dots.",
                "The row of a rank has two halves of m tokens each. The rank's number is "
                "also that of its stage; p is not needed at all.",
                "First the F tokens for microbatch 0 to m-1, then the B tokens in the same order. "
                "Leave the dots out: a rank waits anyway.",
            ),
            SIZES,
        ),
        "04.2": Exercise(
            "how many are enough",
            _ENOUGH,
            _judge_enough,
            (
                "The bubble fraction is (p - 1) / (m + p - 1). It falls as m grows.",
                "You can search: begin with m = 1, and increase it until the bubble is small.",
                "Or solve for m: m is at least (p - 1) / share - (p - 1); round up, and remember "
                "that a batch is cut into at least one microbatch.",
            ),
            SHARES,
        ),
    },
    QUESTIONS,
)

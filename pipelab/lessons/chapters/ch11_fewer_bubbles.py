"""Lesson 11, fewer bubbles: the learner places W, and chooses how many stages a rank has.

Interleaving is Narayanan et al. 2021 (arXiv 2104.04473), the backward in halves Qi et al. 2023
(arXiv 2401.10241).
"""

from collections.abc import Iterator
from functools import lru_cache

from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch11_draws import LINKS, ORDERS, given, numbers_of_stages, papers
from pipelab.lessons.chapters.ch11_questions import QUESTIONS
from pipelab.lessons.comparing import NUMBER, ask
from pipelab.lessons.exercise import Cases, Draws, Exercise, each
from pipelab.lessons.experiment import experiment, in_turn, record, start
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import gradients, refused, schedule_of
from pipelab.schedules import Schedule, interleaved, one_f_one_b, validate
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate

_PLACE = "a function place(rows, most): for each rank, its row with every W"
_STAGES = "a function stages(p, m, layers, latency): a number of stages on each rank"
_SLOTS = Cost(1.0, 1.0, 1.0)
_PACE = Cost(0.006, 0.006, 0.006)


# ------------------------------------------------------------------------------ 11.1, place W


def _judge_place(function: Function, seed: int) -> Iterator[Result | Shown]:
    sizes = {
        "1F1B, 4 ranks, 8 microbatches": ("1f1b", 4, 8),
        "more forwards ahead, 4 ranks, 8 microbatches": ("eager", 4, 8),
        "a single microbatch": ("1f1b", 4, 1),
        "fewer microbatches than ranks": ("1f1b", 4, 2),
        "3 ranks, 7 microbatches": ("1f1b", 3, 7),
        "one rank": ("1f1b", 1, 4),
    }

    def compare(name: str, value: object, rows: list[list[str]], most: int) -> Result:
        return _compare_place(name, value, *sizes[name])

    cases: Cases = {name: given(*size) for name, size in sizes.items()}
    tried = yield from each(function, cases, compare, _DRAWN, seed)
    if tried.right:
        yield from _record(schedule_of(tried.values[0]))


def _compare_place(name: str, rows: object, order: str, p: int, m: int) -> Result:
    before, most = given(order, p, m)
    slots = simulate(papers(order, p, m), _SLOTS).duration
    expected = f"{slots:g} slots, at most {most} held"
    try:
        schedule = schedule_of(rows)
        kept = [[a.token for a in row if a.kind is not Kind.W] for row in schedule.ranks]
        if kept != before:
            hint = "keep every F and I of the rows that you are given, in their order"
            return Result(name, expected, "another order of F and I", False, hint)
        validate(schedule)
    except ScheduleError as error:
        return refused(name, expected, error)
    for rank, held in enumerate(peak_activations(schedule)):
        if held > most:
            got = f"rank {rank} holds {held:g} microbatches at a time"
            hint = "a W gives its microbatch's activations back: do one before the next F"
            return Result(name, expected, got, False, hint)
    took = simulate(schedule, _SLOTS).duration
    hint = "somebody waits for an I behind a W, or waits where it could do a W: hold Ws back"
    got = f"{took:g} slots, at most {max(peak_activations(schedule)):g} held"
    return Result(name, expected, got, took <= slots + 1e-9, hint)


_DRAWN = Draws(ORDERS.draw, ORDERS.ideas, ORDERS.allowed, ORDERS.arguments, _compare_place)


def _record(schedule: Schedule) -> Iterator[Result | Shown]:
    """The learner's order on four real ranks, in turns with 1F1B."""
    of = experiment(rows=30)
    yield gradients(of, schedule, "gradients as in one process, ragged batch")
    with start(of.model, schedule) as pipeline:
        orders = [schedule, one_f_one_b(4, 8), papers("1f1b", 4, 8)]
        yours, usual, paper = in_turn(pipeline, (of.inputs, of.targets), orders, _PACE)
    yield from recorded.order(schedule, yours)
    yield recorded.timed("recorded, over ZB-H1", yours.duration, paper.duration)
    yield Shown("1F1B with your W, recorded on four real ranks", yours)
    yield Shown("1F1B, recorded in turn with it", usual)


# ---------------------------------------------------------------------- 11.2, stages on a rank


def _judge_stages(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "4 ranks, 8 layers, free messages": (4, 8, 8, 0.0),
        "4 ranks, 16 layers, free messages": (4, 8, 16, 0.0),
        "a message of F/20": (4, 8, 16, 0.05),
        "a message of F/10": (4, 8, 16, 0.1),
        "a message as long as F": (4, 8, 16, 1.0),
        "2 ranks, a message of F/20": (2, 8, 12, 0.05),
        "one layer on each rank": (4, 8, 4, 0.0),
        "one rank": (1, 4, 4, 0.1),
    }
    tried = yield from each(function, cases, _compare_stages, LINKS, seed)
    if tried.right:
        schedule = interleaved(4, 8, 2)
        trace = record(experiment(), schedule, Cost(0.003, 0.003, 0.003))
        yield from recorded.order(schedule, trace)
        yield Shown("Two stages on each of four real ranks", trace)


@lru_cache(2000)  # the best number and the learner's, of each input; and as it is made smaller
def _seconds(p: int, m: int, v: int, latency: float) -> float:
    return simulate(interleaved(p, m, v), Cost(1 / v, 1 / v, 1 / v, latency=latency)).duration


def _compare_stages(
    name: str, value: object, p: int, m: int, layers: int, latency: float
) -> Result:
    allowed = numbers_of_stages(p, layers)
    best = min(_seconds(p, m, v, latency) for v in allowed)
    expected = f"a step of {best:g}"
    ask(value, NUMBER, "a number of stages")
    if value not in allowed:
        hint = "all stages have equally many layers: layers / (p * v) is a whole number"
        return Result(name, expected, f"{value!r} stages on each rank", False, hint)
    assert isinstance(value, int | float)
    took = _seconds(p, m, int(value), latency)
    got = f"{value:g} on each rank: a step of {took:g}"
    hint = "simulate(interleaved(p, m, v), Cost(1/v, 1/v, 1/v, latency=latency)): try each v"
    return Result(name, expected, got, took <= best + 1e-9, hint)


CHAPTER = Chapter(
    {
        "11.1": Exercise(
            "place W under a memory limit",
            _PLACE,
            _judge_place,
            (
                "Write each W directly behind its I: that is right, and as slow as 1F1B. On which "
                "ranks does somebody wait for the next I, and on which one does nobody?",
                "A rank may hold more than it does: rank r of 1F1B holds p - r microbatches, and "
                "may hold `most`. So it can put off as many Ws as are missing to that.",
                "Count what the row holds at the most (F one more, I one less). Put off that many "
                "fewer than `most` Ws: behind each I comes the oldest W as soon as more are due.",
            ),
            _DRAWN,
        ),
        "11.2": Exercise(
            "how many stages on each rank",
            _STAGES,
            _judge_stages,
            (
                "Which numbers of stages are possible? Each rank has layers / p layers.",
                "With v stages on a rank each has 1/v of its F, I and W. The latency of a message "
                "stays what it is.",
                "For each possible v, simulate interleaved(p, m, v) with that cost, and return the "
                "v with the shortest duration.",
            ),
            LINKS,
            may_use_pipelab=True,
        ),
    },
    QUESTIONS,
)

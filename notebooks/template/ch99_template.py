"""Lesson 99, a template: replace its question, its two exercises, and this line."""

from collections.abc import Iterator

from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.exercise import TRY_AGAIN, Cases, Exercise, each, equal, ratio
from pipelab.lessons.experiment import experiment, record
from pipelab.lessons.questions import Choice, Choose
from pipelab.lessons.results import Result, Shown
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate

_IDLE = "a function idle_slots(p, m): the number of slots in which a rank has nothing to do"
_TIME = "a function step_time(p, m, forward, backward): seconds of one step"


# ----------------------------------------------------------------------- 99.1, structure: exact


def _judge_idle(function: Function) -> Iterator[Result | Shown]:
    cases: Cases = {  # always: m = 1, m < p, p = 1
        "2 ranks, 4 microbatches": (2, 4),
        "a single microbatch": (4, 1),
        "fewer microbatches than ranks": (4, 2),
        "3 ranks, 7 microbatches": (3, 7),
        "one rank": (1, 4),
    }
    yield from each(function, cases, _compare_idle)


def _compare_idle(name: str, value: object, p: int, m: int) -> Result:
    # From the simulator, never from a formula: the check must not contain the answer.
    trace = simulate(gpipe(p, m), Cost(1.0, 0.5, 0.5))
    hint = "print the schedule, and count the dots of one row"
    return equal(name, round(trace.duration * trace.bubble_fraction), value, hint)


# ----------------------------------------------------- 99.2, time: as a ratio, on a paced run


def _judge_time(function: Function) -> Iterator[Result | Shown]:
    cases: Cases = {
        "2 ranks, 4 microbatches": (2, 4, 0.01, 0.02),
        "a single microbatch": (4, 1, 0.01, 0.02),
        "a backward as short as a forward": (4, 8, 0.01, 0.01),
        "one rank": (1, 3, 0.02, 0.04),
    }
    tried = yield from each(function, cases, _compare_time)
    if tried.right:
        trace = record(experiment(), gpipe(2, 4), Cost(0.01, 0.01, 0.01))
        yield Shown("2 ranks, 4 microbatches, as two real processes ran it", trace)
        said = tried.values[0]
        assert isinstance(said, float)
        took = trace.duration / said
        yield ratio("recorded, over your formula", took, 0.95, 1.35, TRY_AGAIN)


def _compare_time(name: str, value: object, p: int, m: int, f: float, b: float) -> Result:
    hint = "how many slots has the longest row, and how long is each?"
    return equal(name, simulate(gpipe(p, m), Cost(f, b / 2, b / 2)).duration, value, hint)


CHAPTER = Chapter(
    {
        "99.1": Exercise(
            "count the idle slots",
            _IDLE,
            _judge_idle,
            (
                "Print gpipe(2, 4), and then gpipe(2, 8): what has changed in a row, what has not?",
                "The dots of a row are the way to the last rank and back.",
                "That way has as many steps, in each direction, as there are neighbours.",
            ),
        ),
        "99.2": Exercise(
            "how long is a step",
            _TIME,
            _judge_time,
            (
                "Follow one row: how many forwards, how many backwards, how much waiting?",
                "The waiting has two parts: one as long as some forwards, one as some backwards.",
                "Of each there are as many as there are other ranks; the microbatches come on top.",
            ),
        ),
    },
    {
        "99": Choose(
            "2 ranks, GPipe, 8 microbatches instead of 4. The bubble's share ...",
            {
                "a": Choice(
                    "stays",
                    "The idle time stays, in seconds; but the step becomes longer around it.",
                ),
                "b": Choice(
                    "becomes smaller",
                    "As much idle time as before, in a step that is longer: a smaller share.",
                ),
                "c": Choice(
                    "becomes larger",
                    "More microbatches mean more messages, but nothing waits for them here: only "
                    "the way to the last rank and back is idle.",
                ),
            },
            settle=lambda x: "b" if x < 0.9 else "a" if x < 1.1 else "c",
            unit=" times the bubble",
        ),
    },
)

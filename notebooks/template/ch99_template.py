"""Lesson 99, a template: replace its question, its two exercises, and this line."""

from collections.abc import Iterator
from random import Random

from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.exercise import Cases, Draws, Exercise, Idea, against, each, equal
from pipelab.lessons.experiment import experiment, record
from pipelab.lessons.questions import Choice, Choose
from pipelab.lessons.results import Result, Shown
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate

_IDLE = "a function idle_slots(p, m): the number of slots in which a rank has nothing to do"
_TIME = "a function step_time(p, m, forward, backward): seconds of one step"


# ----------------------------------------------------------------------- 99.1, structure: exact


def _judge_idle(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {  # always: m = 1, m < p, p = 1
        "2 ranks, 4 microbatches": (2, 4),
        "a single microbatch": (4, 1),
        "fewer microbatches than ranks": (4, 2),
        "3 ranks, 7 microbatches": (3, 7),
        "one rank": (1, 4),
    }
    yield from each(function, cases, _compare_idle, _SIZES, seed)


def _compare_idle(name: str, value: object, p: int, m: int) -> Result:
    # From the simulator, never from a formula: the check must not contain the answer.
    trace = simulate(gpipe(p, m), Cost(1.0, 0.5, 0.5))
    hint = "print the schedule, and count the dots of one row"
    return equal(name, round(trace.duration * trace.bubble_fraction), value, hint)


def _sizes(random: Random) -> tuple[int, int]:
    return random.choice((1, 2, 3, 4, 7, 12)), random.choice((1, 2, 3, 5, 8, 20))


_SIZES = Draws(  # from the most special idea to the most general, which is about all inputs
    _sizes,
    (
        Idea("one rank alone", "whom could it wait for?", lambda p, m: p == 1),
        Idea("a single microbatch", "it still goes to the last rank and back", lambda p, m: m == 1),
        Idea("fewer microbatches than ranks", "count the dots again", lambda p, m: 1 < m < p),
        Idea("more than two ranks", "each rank makes the way longer", lambda p, m: p > 2),
        Idea("the dots of one row", "print a schedule, and count them"),
    ),
    allowed=lambda p, m: p >= 1 and m >= 1,
)


# ---------------------------------- 99.2, time: exact on the simulator, then a run that shows it


def _judge_time(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "2 ranks, 4 microbatches": (2, 4, 0.01, 0.02),
        "a single microbatch": (4, 1, 0.01, 0.02),
        "a backward as short as a forward": (4, 8, 0.01, 0.01),
        "one rank": (1, 3, 0.02, 0.04),
    }
    compare = against(_seconds, "how many F and B follow one another, and how long is each?")
    tried = yield from each(function, cases, compare, _STEPS, seed)
    if tried.right:
        schedule, pace = gpipe(2, 4), Cost(0.01, 0.01, 0.01)
        trace = record(experiment(), schedule, pace)
        yield Shown("2 ranks, 4 microbatches, as two real processes ran it", trace)
        yield from recorded.order(schedule, trace)
        said = tried.values[0]
        assert isinstance(said, float)
        yield recorded.timed("recorded, over your formula", trace.duration, said, "formula")


def _seconds(p: int, m: int, f: float, b: float) -> float:
    return simulate(gpipe(p, m), Cost(f, b / 2, b / 2)).duration


def _step(random: Random) -> tuple[int, int, float, float]:
    forward, backward = (random.choice((0.01, 0.02, 0.5, 3.0)) for _ in "FB")
    return *_sizes(random), forward, backward


_STEPS = Draws(
    _step,
    (
        Idea("one rank alone", "it never waits", lambda p, m, f, b: p == 1),
        Idea("a single microbatch", "it passes all ranks, twice", lambda p, m, f, b: m == 1 < p),
        Idea("a backward that is not 2 × F", "it need not be 2 × F", lambda p, m, f, b: b != 2 * f),
        Idea("the F and B that follow one another", "how many are there, and how long is each?"),
    ),
    allowed=lambda p, m, f, b: p >= 1 and m >= 1 and f > 0 and b > 0,
)


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
            _SIZES,
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
            _STEPS,
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

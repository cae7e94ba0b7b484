"""Lesson 6, the payoff and its limits: what fits, how fast it is, and where the rest is lost.

The speed-up on paper follows from the bubble of lesson 4 (GPipe, Huang et al. 2019, arXiv
1811.06965, section 2.3): one rank works m slots for a batch, p ranks work m + p - 1 shorter ones.
"""

from collections.abc import Iterator

from pipelab.errors import RankOutOfMemory
from pipelab.lessons import trials
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch06_questions import QUESTIONS
from pipelab.lessons.exercise import TRY_AGAIN, Cases, Exercise, each, equal, ratio
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.trials import CANDIDATES, Candidate
from pipelab.schedules import gpipe
from pipelab.simulator import simulate
from pipelab.trace.memory import peak_bytes

BUDGETS = {"tight": 700_000, "roomy": 1_100_000}  # bytes on each rank

_CHOOSE = "a function choose(budget): schedule, ranks, microbatches, such as ('gpipe', 2, 4)"
_SPEEDUP = "a function speedup(p, m, message): how many times as fast as one rank"


# ------------------------------------------------------------------------------ 06.1, choose


def _judge_choose(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {f"{name}: a candidate": (budget,) for name, budget in BUDGETS.items()}
    tried = yield from each(function, cases, _compare_choice)
    if tried.right:
        for (name, budget), value in zip(BUDGETS.items(), tried.values, strict=True):
            assert isinstance(value, list)
            schedule, p, m = value
            yield from _measure(name, budget, (schedule, p, m))


def _compare_choice(name: str, value: list[object], budget: int) -> Result:
    hint = "in this order: 'gpipe' or '1f1b'; 1, 2 or 4 ranks; 2, 4 or 8 microbatches"
    got = tuple(value)
    expected = f"one of the {len(CANDIDATES)} candidates"
    return Result(name, expected, str(got), got in CANDIDATES, hint)


def _measure(name: str, budget: int, choice: Candidate) -> Iterator[Result | Shown]:
    """Does it fit, and how long does it take, over the best that fits?"""
    row, expected = f"{name}: fits", f"at most {budget:,} bytes on each rank"
    try:
        own = trials.trial(*choice, budget)
    except RankOutOfMemory as error:
        hint = "which candidates keep fewer activations at a time?"
        yield Result(row, expected, str(error).splitlines()[0], False, hint)
        return
    most = max(point.total for point in peak_bytes(own))
    yield Result(row, expected, f"{most:,} on the fullest", True)
    trials.again(choice, own)
    fitting = CANDIDATES
    for larger in sorted((b for b in BUDGETS.values() if b >= budget), reverse=True):
        fitting = trials.fitting(larger, fitting)  # what does not fit in more, does not in less
    best = trials.fastest(fitting)
    own = trials.again(choice, own)  # or an earlier run, or one that the search has made
    over = own.duration / best.duration
    hint = f"{len(fitting)} candidates fit, and one of them is faster: measure them"
    yield ratio(f"{name}: time over the best that fits", over, 0.9, 1.1, hint)
    yield Shown(f"{name}: yours, {own.duration * 1000:.0f} ms a step", own)
    if over > 1.1:
        yield Shown(f"{name}: the best that fits, {best.duration * 1000:.0f} ms a step", best)


# ---------------------------------------------------------------------------- 06.2, speed-up


def _judge_speedup(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "4 ranks, 16 microbatches, free messages": (4, 16, 0.0),
        "a single microbatch": (4, 1, 0.0),
        "fewer microbatches than ranks": (8, 3, 0.0),
        "one rank, which sends nothing": (1, 8, 0.05),
        "4 ranks, 8 microbatches, messages of 1 %": (4, 8, 0.01),
        "8 ranks, 4 microbatches, messages of 3 %": (8, 4, 0.03),
        "2 ranks, 2 microbatches, a message of 100 %": (2, 2, 1.0),
    }
    tried = yield from each(function, cases, _compare_speedup)
    if tried.right:
        for p, m, message in ((4, 8, 0.01), (2, 1, 0.0)):
            yield from _race(p, m, message)


def _compare_speedup(name: str, value: float, p: int, m: int, message: float) -> Result:
    if p == 1:
        hint = "one rank sends no messages: how long does it take, whatever a message costs?"
    elif message == 0.0:
        hint = (
            "p ranks share the layers, m microbatches the rows: how long is a slot then, and how "
            "many slots follow one another from the first start to the last end?"
        )
    else:
        hint = (
            "right without messages? Then add those that a rank can only wait for: how "
            "many does the first microbatch need in its forward, and the last one in its backward?"
        )
    return equal(name, _on_paper(p, m, message), float(value), hint)


def _on_paper(p: int, m: int, message: float) -> float:
    """What the simulator says, if one rank's step takes 1 s."""
    return 1 / simulate(gpipe(p, m), trials.share(1.0, p, m, message)).duration


def _race(p: int, m: int, message: float) -> Iterator[Result | Shown]:
    one, many = trials.race(p, m, message * trials.WORK)
    measured = one.duration / many.duration
    yield Shown(f"p = {p}, m = {m}, recorded: {measured:.2f} times as fast as one rank", many)
    name = f"p = {p}, m = {m}: recorded over yours"
    yield ratio(name, measured / _on_paper(p, m, message), 0.7, 1.05, TRY_AGAIN)


CHAPTER = Chapter(
    {
        "06.1": Exercise(
            "the fastest that fits",
            _CHOOSE,
            _judge_choose,
            (
                "Begin with the memory: bytes are the same in every run. Which of the two "
                "schedules has to keep all microbatches until the backwards begin, and which one "
                "at most as many as there are ranks from it to the end?",
                "Among those that fit: more ranks and more microbatches make a step shorter. And "
                "which one waits for a message between two actions, while the other computes?",
                "Let the machine decide, outside your function: a loop over the 18 candidates, "
                "trial(schedule, p, m, budget) in a try, .duration kept if there was no "
                "RankOutOfMemory. The smallest wins; write down what you find, for each budget.",
            ),
        ),
        "06.2": Exercise(
            "the speed-up on paper",
            _SPEEDUP,
            _judge_speedup,
            (
                "One rank's step has the length 1. How long is a slot, the forward and backward of "
                "one microbatch on a rank that holds a p-th of the layers? Without messages there "
                "are m + p - 1 of them.",
                "Now the messages. Most travel while both sides compute. Follow the first "
                "microbatch forward and the last one backward: how many messages are waited for?",
                "p - 1 messages are waited for in the forwards, and p - 1 in the backwards. Add "
                "their time to that of the slots, and divide 1 by the sum.",
            ),
        ),
    },
    QUESTIONS,
)

"""Lesson 6, the payoff and its limits: what fits, how fast it is, and where the rest is lost.

The speed-up on paper follows from the bubble of lesson 4 (GPipe, Huang et al. 2019, arXiv
1811.06965, section 2.3): one rank works for m F + B, p ranks for m + p - 1 shorter ones.
"""

from collections.abc import Iterator
from dataclasses import replace

from pipelab.errors import RankOutOfMemory
from pipelab.lessons import recorded, trials
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch06_draws import BUDGETS, PIPELINES, TIGHT_AND_ROOMY, speed
from pipelab.lessons.chapters.ch06_questions import QUESTIONS
from pipelab.lessons.comparing import ask, whole
from pipelab.lessons.exercise import Cases, Exercise, each, equal, ratio
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.trials import CANDIDATES, Candidate
from pipelab.lessons.written import short
from pipelab.schedules import gpipe
from pipelab.trace.memory import peak_bytes
from pipelab.words import number, percent

_SLOWER = 1.1  # how many times as long as the best is good enough
_CHOOSE = "a function choose(budget): schedule, ranks, microbatches, such as ('gpipe', 2, 4)"
_SPEEDUP = "a function speedup(p, m, message): how many times as fast as one rank"


# ------------------------------------------------------------------------------ 06.1, choose


def _judge_choose(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {f"{name}: a candidate": (budget,) for name, budget in BUDGETS.items()}
    draws = replace(TIGHT_AND_ROOMY, compare=_compare_budget)
    tried = yield from each(function, cases, _compare_choice, draws, seed)
    if tried.named:
        for (name, budget), value in zip(BUDGETS.items(), tried.values, strict=True):
            yield from _measure(name, budget, _candidate(value))


def _candidate(value: object) -> Candidate:
    assert isinstance(value, list)
    schedule, p, m = map(whole, value)
    return schedule, p, m  # type: ignore[return-value]  # the caller compares it with CANDIDATES


def _compare_choice(name: str, value: object, budget: int) -> Result:
    ask(value, list, "three things: schedule, ranks, microbatches, such as ('gpipe', 2, 4)")
    got = tuple(map(whole, value)) if isinstance(value, list) else value
    expected = f"one of the {len(CANDIDATES)} candidates"
    return Result(name, expected, short(got), got in CANDIDATES, _no_candidate(got))


def _no_candidate(got: object) -> str:
    """What is wrong with it: its order, or those parts that no candidate has."""
    if not isinstance(got, tuple) or [type(part) for part in got] != [str, int, int]:
        return "in this order: schedule, ranks, microbatches, such as ('gpipe', 2, 4)"
    rules = (
        "the schedule is 'gpipe' or '1f1b', in small letters",
        "there are 1, 2 or 4 ranks",
        "there are 2, 4 or 8 microbatches",
    )
    known = zip(*CANDIDATES, strict=True)
    parts = zip(rules, got, known, strict=True)
    return "; ".join(rule for rule, part, fine in parts if part not in fine)


def _compare_budget(name: str, value: object, budget: int) -> Result:
    """Without a run: bytes are known, and the simulator knows who is fastest."""
    expected = f"fits in {budget:,} bytes, within {percent(_SLOWER - 1)} of the best"
    choice = _compare_choice(name, value, budget)
    if not choice.ok:
        return choice._replace(expected=expected)
    if (need := trials.NEEDS[_candidate(value)]) > budget:
        return Result(name, expected, f"{choice.got} needs {need:,} bytes", False)
    times = trials.predicted(_candidate(value)) / trials.predicted(trials.best(budget))
    got = f"{choice.got} takes {times:.2f} times as long"
    return Result(name, expected, got, times <= _SLOWER)


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
    first = trials.best(budget)
    over = trials.predicted(choice) / trials.predicted(first)
    fitting = sum(need <= budget for need in trials.NEEDS.values())
    hint = f"{number(fitting, 'candidate')} fit, and one of them is faster: measure them"
    yield ratio(f"{name}: predicted time over the best that fits", over, 0.9, _SLOWER, hint)
    if over <= _SLOWER:
        seconds = own.duration, trials.predicted(choice)
        yield recorded.timed(f"{name}: recorded over predicted", *seconds, "choice")
    yield Shown(f"{name}: yours, {own.duration * 1000:.0f} ms a step", own)
    if over > _SLOWER:
        fast = trials.trial(*first, budget)
        yield Shown(f"{name}: the best that fits, {fast.duration * 1000:.0f} ms a step", fast)


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
    tried = yield from each(function, cases, _compare_speedup, PIPELINES, seed)
    if tried.right:
        for p, m, message in ((4, 8, 0.01), (2, 1, 0.0)):
            yield from _race(p, m, message)


def _compare_speedup(name: str, value: object, p: int, m: int, message: float) -> Result:
    if p == 1:
        hint = "one rank sends no messages: how long does it take, whatever a message costs?"
    elif message == 0.0:
        hint = (
            "p ranks share the layers, m microbatches the rows: how long is one F + B then, and "
            "how many follow one another from the first start to the last end?"
        )
    else:
        hint = (
            "right without messages? Then add those that a rank can only wait for: how "
            "many does the first microbatch need in its forward, and the last one in its backward?"
        )
    return equal(name, speed(p, m, message), value, hint)


def _race(p: int, m: int, message: float) -> Iterator[Result | Shown]:
    one, many = trials.race(p, m, message * trials.WORK)
    measured = one.duration / many.duration
    yield Shown(f"p = {p}, m = {m}, recorded: {measured:.2f} times as fast as one rank", many)
    name = f"p = {p}, m = {m}: recorded over yours"
    for row in recorded.order(gpipe(p, m), many):
        yield row._replace(name=f"{row.name}, p = {p}, m = {m}")
    yield recorded.timed(name, measured, speed(p, m, message), "formula", (0.7, 1.05))


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
            TIGHT_AND_ROOMY,
        ),
        "06.2": Exercise(
            "the speed-up on paper",
            _SPEEDUP,
            _judge_speedup,
            (
                "One rank's step has the length 1. How long is one F + B, the forward and backward "
                "of one microbatch on a rank that holds a p-th of the layers? Without messages "
                "there are m + p - 1 of them.",
                "Now the messages. Most travel while both sides compute. Follow the first "
                "microbatch forward and the last one backward: how many messages are waited for?",
                "p - 1 messages are waited for in the forwards, and p - 1 in the backwards. Add "
                "their time to that of all F + B, and divide 1 by the sum.",
            ),
            PIPELINES,
        ),
    },
    QUESTIONS,
)

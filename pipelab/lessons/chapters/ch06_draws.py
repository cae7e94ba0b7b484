"""What the checks of lesson 6 draw: budgets, tight and roomy, and pipelines with dear messages."""

from functools import cache
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.lessons.trials import NEEDS, share
from pipelab.schedules import gpipe
from pipelab.simulator import simulate

__all__ = ["BUDGETS", "PIPELINES", "TIGHT_AND_ROOMY", "speed"]

BUDGETS = {"tight": 700_000, "roomy": 1_100_000}  # bytes on each rank
_LEAST = 600_000  # in which something fits
_MOST = 100_000_000_000

# ------------------------------------------------------------------------------ 06.1, choose


def _fit(budget: int) -> int:
    return sum(need <= budget for need in NEEDS.values())


def _draw_budget(random: Random) -> tuple[int]:
    if random.random() < 0.2:
        return (random.choice([*BUDGETS.values()]),)
    if random.random() < 0.5:
        tight = BUDGETS["tight"]
        return (random.choice((random.randint(_LEAST, tight), tight - 1, _LEAST)),)
    roomy = BUDGETS["roomy"]
    much = far(random, roomy, _MOST), far(random, roomy, 4_000_000)
    like_tight = 10 * BUDGETS["tight"]  # for who looks at the first digits alone
    return (random.choice((*much, random.randint(roomy, 1_300_000), roomy + 1, like_tight)),)


TIGHT_AND_ROOMY = Draws(
    _draw_budget,
    (
        Idea(
            "a budget in which one candidate alone fits",
            "which schedule keeps the fewest microbatches, and on how many ranks?",
            lambda budget: _fit(budget) == 1,
        ),
        Idea(
            "a budget in which every candidate fits",
            "then it is time alone that decides: which one waits for the fewest messages?",
            lambda budget: _fit(budget) == len(NEEDS),
        ),
        Idea(
            "a budget of more than four million bytes",
            "it has no upper limit: what fits into less fits into more",
            lambda budget: budget > 4_000_000,
            lambda budget: budget,
        ),
        Idea(
            "a tight budget, up to 700,000 bytes",
            "first look at what fits: which candidates keep fewer activations at a time?",
            lambda budget: budget <= BUDGETS["tight"],
        ),
        Idea(
            "a roomy budget, from 1,100,000 bytes on",
            "more candidates fit, and one of them is faster: measure them",
            lambda budget: budget >= BUDGETS["roomy"],
        ),
        Idea(
            "budgets other than 700,000 and 1,100,000",
            "compare with a limit (<), so that every budget has an answer",
            lambda budget: budget not in BUDGETS.values(),
        ),
        Idea(
            "what is returned",
            "schedule, ranks, microbatches; they have to fit, and to be as fast as others that fit",
        ),
    ),
    allowed=lambda budget: (
        _LEAST <= budget <= BUDGETS["tight"] or BUDGETS["roomy"] <= budget <= _MOST
    ),
)

# ---------------------------------------------------------------------------- 06.2, speed-up


_MOST_ACTIONS = 1600  # forwards: the simulator is the reference


def _draw_pipeline(random: Random) -> tuple[int, int, float]:
    p = random.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, far(random, 9, 40)))
    m = random.choice((1, 2, 2, 3, 4, 6, 11, 16, p, far(random, 17, 60)))
    if random.random() < 0.1:
        p, m = random.choice((1, p)), far(random, 60, 400)
    message = random.choice((0.0, 0.0, 0.01, 0.03, 0.25, 1.0, 3.0, 8.5, far(random, 10, 1000)))
    if random.random() < 0.1:  # where many ranks are as fast as they can be
        p, m, message = far(random, 9, 40), far(random, 40, 160), 0.0
    return p, min(m, _MOST_ACTIONS // p), message


@cache
def speed(p: int, m: int, message: float) -> float:
    """What the simulator says, if one rank's step takes 1 s."""
    return 1 / simulate(gpipe(p, m), share(1.0, p, m, message)).duration


def _on_paper(p: int, m: int, message: float) -> float:
    """The same by the formula, which is faster: for what an input is about."""
    return 1 / ((m + p - 1) / (m * p) + 2 * (p - 1) * message)


_WAITED_FOR = "which messages does a rank only wait for? Those of the first forward, and ..."
PIPELINES = Draws(
    _draw_pipeline,
    (
        Idea(
            "one rank, however long a message takes",
            "it sends none",
            lambda p, m, message: p == 1 and message > 0,
        ),
        Idea(
            "one rank with more than forty microbatches",
            "it is as fast as itself, however many there are",
            lambda p, m, message: p == 1 and m > 40,
        ),
        Idea("one rank alone", "it is as fast as itself", lambda p, m, message: p == 1),
        Idea(
            "a single microbatch, with messages that take time",
            "it goes to the last rank and back, and waits for each message",
            lambda p, m, message: m == 1 < p and message > 0,
        ),
        Idea(
            "a single microbatch",
            "one rank works at a time",
            lambda p, m, message: m == 1 < p,
        ),
        Idea(
            "fewer microbatches than ranks",
            "the formula does not change there",
            lambda p, m, message: 1 < m < p,
        ),
        unlimited(
            "more than forty microbatches",
            lambda p, m, message: p > 1 and m > 40,
            lambda p, m, message: m,
        ),
        unlimited("more than eight ranks", lambda p, m, message: p > 8, lambda p, m, message: p),
        Idea(
            "as many microbatches as ranks",
            "the formula does not change there",
            lambda p, m, message: p == m > 1,
        ),
        Idea(
            "messages that take ten times as long as one rank's whole step",
            "their time counts in full, however long it is",
            lambda p, m, message: p > 1 and message >= 10,
            lambda p, m, message: message,
        ),
        Idea(
            "messages that take longer than one F + B",
            "a message still travels while others do: how many follow one another?",
            lambda p, m, message: p > 1 and message * m * p > 1,
        ),
        Idea(
            "messages so slow that one rank is faster",
            "a speed-up can be below 1",
            lambda p, m, message: p > 1 and _on_paper(p, m, message) < 1,
        ),
        Idea(
            "ranks that are more than eight times as fast as one",
            "a speed-up has no upper limit but p",
            lambda p, m, message: _on_paper(p, m, message) > 8,
            _on_paper,
        ),
        Idea(
            "ranks that are more than four times as fast as one",
            "a speed-up has no upper limit but p",
            lambda p, m, message: _on_paper(p, m, message) > 4,
        ),
        Idea(
            "messages between more than two ranks",
            _WAITED_FOR,
            lambda p, m, message: p > 2 and message > 0,
        ),
        Idea(
            "more than one microbatch, with messages that take time",
            "most messages travel while both sides compute",
            lambda p, m, message: p > 1 and m > 1 and message > 0,
        ),
        Idea(
            "messages that take time",
            _WAITED_FOR,
            lambda p, m, message: p > 1 and message > 0,
        ),
        Idea(
            "more than two ranks",
            "m + p - 1 times F + B follow one another: what does each further rank add?",
            lambda p, m, message: p > 2,
        ),
        Idea(
            "more than one microbatch on more than one rank",
            "how long is one F + B, and how many follow one another?",
            lambda p, m, message: p > 1 and m > 1,
        ),
        Idea(
            "more than one rank",
            "how long is one F + B, and how many follow one another?",
            lambda p, m, message: p > 1,
        ),
        Idea("one rank's step over that of p ranks", "one rank's step has the length 1"),
    ),
    allowed=lambda p, m, message: p >= 1 and m >= 1 and message >= 0 and p * m <= _MOST_ACTIONS,
)

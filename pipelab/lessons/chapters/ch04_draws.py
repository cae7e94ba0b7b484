"""What the checks of lesson 4 draw: sizes of a schedule, and shares that bubbles must meet."""

from fractions import Fraction
from functools import cache
from itertools import count
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.trace import expected_bubble_fraction as bubble

__all__ = ["SHARES", "SIZES", "fewest"]


@cache  # several ideas ask about one input
def fewest(p: int, share: float) -> int:
    """The first number of microbatches that is enough, found by trying them all."""
    return next(m for m in count(1) if bubble(p, m) <= share)


def _fewest_rounded(p: int, share: float) -> int:
    """The same with bubbles of two digits, which is wrong."""
    return next(m for m in count(1) if round(bubble(p, m), 2) <= round(share, 2))


# ------------------------------------------------------------------------------- 04.1, GPipe


_MOST_TOKENS = 1500  # of each half of a schedule: it is validated and simulated


def _draw_size(random: Random) -> tuple[int, int]:
    p = random.choice((1, 2, 2, 3, 4, 5, 6, 7, 8, 9, far(random, 10, 40)))
    m = random.choice((1, 2, 3, 4, 5, 6, 7, p, 2 * p, 3 * p + 1, random.randint(8, 30)))
    if random.random() < 0.1:
        m = far(random, 40, _MOST_TOKENS)
    return min(p, _MOST_TOKENS // m), m


SIZES = Draws(
    _draw_size,
    (
        Idea(
            "one rank alone",
            "it has the same two halves as any other",
            lambda p, m: p == 1,
        ),
        Idea(
            "a single microbatch",
            "one forward, one backward on each rank",
            lambda p, m: m == 1,
        ),
        Idea(
            "fewer microbatches than ranks",
            "the rank still runs each of them, and no more",
            lambda p, m: 1 < m < p,
        ),
        Idea(
            "a number of microbatches that is no multiple of p",
            "nothing in a row depends on p: there is no rest to leave out",
            lambda p, m: m > p > 1 and m % p > 0,
        ),
        Idea(
            "more microbatches than ranks",
            "all forwards come first, however many there are",
            lambda p, m: m > p,
        ),
        unlimited("more than forty microbatches", lambda p, m: m > 40, lambda p, m: m),
        Idea(
            "as many microbatches as ranks",
            "all forwards come first there, too",
            lambda p, m: m == p > 1,
        ),
        Idea(
            "ten microbatches and more",
            "their numbers have two digits: after 0F9 comes 0F10",
            lambda p, m: m > 10,
        ),
        Idea(
            "ten ranks and more",
            "their numbers have two digits: rank 10 runs 10F0",
            lambda p, m: p > 10,
            much=lambda p, m: p,
        ),
        Idea(
            "more than one rank, and more than one microbatch",
            "all ranks run the microbatches in the same order, forwards first",
            lambda p, m: p > 1 and m > 1,
        ),
        Idea(
            "more than one microbatch",
            "first all forwards, then all backwards",
            lambda p, m: m > 1,
        ),
        Idea(
            "more than one rank",
            "each rank runs its stage, which has its number",
            lambda p, m: p > 1,
        ),
        Idea("the row of each rank", "m forwards and m backwards of stage r, numbered from 0"),
    ),
    allowed=lambda p, m: p >= 1 and m >= 1 and p * m <= _MOST_TOKENS,
)

# ------------------------------------------------------------------------------ 04.2, enough


_MOST = 30_000  # microbatches: who tries them all from 1 on is not kept waiting


def _draw_share(random: Random) -> tuple[int, float]:
    p = random.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 16, far(random, 17, 200)))
    if random.random() < 0.3:
        return p, random.choice((0.5, 0.25, 0.125, 0.0625))
    m = random.choice((1, 2, 3, 4, 5, 7, 10, 20, 60, far(random, 100, 1000)))
    if random.random() < 0.15:
        m = far(random, 1000, _MOST)
    low = bubble(p, m)
    high = bubble(p, m - 1) if m > 1 else 1.0
    if p == 1:
        return p, random.choice((0.1, 0.25, 0.37, 0.9, 0.003))
    digits = 4 if m < 100 else 6 if m < 1000 else 9
    if random.random() < 0.3:  # where what is added before rounding is seen
        little = 0.0003
        if random.random() < 0.6:  # the less is added, the fewer there must be
            little, p, m = random.choice(((3e-5, 4, 4), (3e-5, 2, 5), (6e-6, 2, 3), (6e-6, 3, 2)))
            low, high = bubble(p, m), bubble(p, m - 1)
        part = random.choice((little, 1 - little))
        return p, round(low + part * (high - low), max(9, digits))
    return p, round(low + random.choice((0.15, 0.5, 0.85)) * (high - low), digits)


def _is_a_bubble(p: int, share: float) -> bool:
    """Whether the share is exactly the bubble of some m. Then 1/share is exact, too."""
    return p > 1 and share < 1 and bubble(p, fewest(p, share)) == share


def _nearly_more(p: int, share: float) -> float:
    """By how much the exact number is above a whole one: below 0 if it is not quite that one.

    A bubble itself counts as half, which is far from both.
    """
    if p == 1 or share >= 1 or _is_a_bubble(p, share):
        return 0.5
    exact = (p - 1) / share - (p - 1)
    return exact - round(exact)


def _is_clear(p: int, share: float) -> bool:
    """Whether rounding cannot change the answer: no bubble is near, or one is exactly equal."""
    if p < 1 or not 0.0001 < share < 1:
        return False
    if p == 1:
        return True
    m = fewest(p, share)
    if m > _MOST:
        return False
    near = [n for n in (m, m - 1) if n > 0 and abs(bubble(p, n) - share) < 1e-6 * share]
    power_of_two = Fraction(share).numerator == 1
    return not near or (power_of_two and Fraction(share) == Fraction(p - 1, near[0] + p - 1))


SHARES = Draws(
    lambda random: next(one for _ in count() if _is_clear(*(one := _draw_share(random)))),
    (
        Idea(
            "one rank alone", "it has no bubble: the smallest number is 1", lambda p, share: p == 1
        ),
        Idea(
            "a share that equals a bubble",
            "the bubble may be at most the share: equal is enough",
            _is_a_bubble,
        ),
        Idea(
            "a share very close to a bubble, and a little smaller",
            "compare, or round up, exactly: nothing is added or taken off before",
            lambda p, share: 0 < _nearly_more(p, share) < 0.001,
        ),
        Idea(
            "a share very close to a bubble, and a little larger",
            "compare, or round up, exactly: nothing is added or taken off before",
            lambda p, share: -0.001 < _nearly_more(p, share) < 0,
        ),
        Idea(
            "a share that a single microbatch meets",
            "a batch is cut into at least one microbatch, and one may be enough",
            lambda p, share: p > 1 and fewest(p, share) == 1,
        ),
        Idea(
            "shares that the rounded bubble of a smaller number meets",
            "compare the bubble as it is with the share as it is: nothing is rounded",
            lambda p, share: p > 1 and _fewest_rounded(p, share) < fewest(p, share),
        ),
        Idea(
            "more than a hundred microbatches, and even a thousand",
            "the number has no upper limit; and a search one by one is a loop, not a function that "
            "calls itself",
            lambda p, share: fewest(p, share) > 1000,
            fewest,
        ),
        unlimited("more than sixteen ranks", lambda p, share: p > 16, lambda p, share: p),
        unlimited("more than a hundred microbatches", lambda p, share: fewest(p, share) > 100),
        Idea(
            "fewer microbatches than ranks",
            "m may be smaller than p",
            lambda p, share: fewest(p, share) < p,
        ),
        Idea(
            "more than two ranks",
            "the bubble grows with p - 1",
            lambda p, share: p > 2,
        ),
        Idea(
            "shares that no bubble equals exactly",
            "is your number whole, and rounded up? Put it into the formula, and the one before it",
            lambda p, share: p > 1 and not _is_a_bubble(p, share),
        ),
        Idea(
            "more than one rank",
            "put your number into the formula, and the one before it: is it the first that fits?",
            lambda p, share: p > 1,
        ),
        Idea(
            "the smallest number that is enough",
            "put your number into the formula, and the one before it: is it the first that fits?",
        ),
    ),
    allowed=_is_clear,
)

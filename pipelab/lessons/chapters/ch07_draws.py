"""What is drawn for the exercises of lesson 7: sizes of a pipeline, and lifespans to add up."""

from collections.abc import Sequence
from functools import cache, partial
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited

__all__ = ["LIFESPANS", "SIZES", "most_held"]

_LATE = 5000  # a slot: nobody looks that far by chance
_Span = tuple[int, int]  # slots: where the activations of microbatch 0 begin, and have gone


def _draw_size(random: Random) -> tuple[int, int]:
    p = random.choice((1, 2, 3, 4, 5, 6, 7, 8, far(random, 9, 20), random.randint(21, 36)))
    if p > 8:  # enough for all ranks: those with fewer are small
        return p, random.choice((p, p + 1, far(random, p, 2 * p if p <= 20 else p + 9)))
    few, many = random.randint(8, 30), far(random, 40, 100)
    m = random.choice((*range(1, 8), p, p, p + 1, max(1, p - 1), 2 * p, few, few, many))
    return (min(p, 4), random.randint(130, 300)) if random.random() < 0.06 else (p, m)


SIZES = Draws(
    _draw_size,
    (
        Idea("one rank", "it is the last one, too: F and B in turns", lambda p, m: p == 1),
        Idea(
            "fewer microbatches than ranks",
            "no rank can run more forwards than there are microbatches",
            lambda p, m: m < p,
        ),
        unlimited("more than a hundred microbatches", lambda p, m: m > 100),
        unlimited("more than forty microbatches", lambda p, m: m > 40),
        unlimited("more than twenty ranks", lambda p, m: p > 20),
        Idea(
            "as many microbatches as ranks",
            "rank 0 runs all forwards first there, and the others not",
            lambda p, m: m == p > 1,
        ),
        Idea("ten microbatches and more", "after 0F9 comes 0F10", lambda p, m: m > 10),
        Idea("ten ranks and more", "rank 10 runs 10F0", lambda p, m: p > 10),
        Idea("another number of ranks than four", "it depends on p", lambda p, m: p != 4),
        Idea(
            "more than one rank",
            "some forwards ahead, then one F and one B in turns, then the backwards that are left",
            lambda p, m: p > 1,
        ),
        Idea("every size", "m forwards and m backwards of stage r, numbered from 0"),
    ),
    allowed=lambda p, m: p >= 1 and m >= 1 and p * m <= 1800,
)


def most_held(spans: Sequence[_Span], period: int, m: int) -> int:
    """Counted in each slot in which something begins: only there can it become more."""
    return _most_held(tuple(spans), period, m)


@cache  # several ideas ask about one input
def _most_held(spans: tuple[_Span, ...], period: int, m: int) -> int:
    slots = {start + i * period for start, _ in spans for i in range(m)}
    return max(sum(_count(span, slot, period, m) for span in spans) for slot in slots)


def _count(span: _Span, slot: int, period: int, m: int) -> int:
    """How many of m microbatches one stage holds in a slot."""
    begun, ended = ((slot - edge) // period + 1 for edge in span)
    return max(0, min(m, begun) - max(0, ended))


def _draw_lifespans(random: Random) -> tuple[list[_Span], int, int]:
    if random.random() < 0.07:
        return _draw_many(random)
    period = random.choice((1, 2, 3, 3, 4, 6, 6, far(random, 7, 40)))
    spans = []
    first = random.choice((0, 0, 0, 0, _LATE))
    for _ in range(random.choice((1, 1, 2, 2, 3, far(random, 4, 8) if not first else 4))):
        start = first + random.randrange(12)
        length = random.choice((random.randint(1, 20), period * random.randint(1, 4)))
        if random.random() < 0.1:
            length = far(random, 40, 300)
        spans.append((start, start + length))
    m = random.choice((1, 2, 3, 4, 5, 8, 13, 20, far(random, 21, 60)))
    return spans, period, m


def _draw_many(random: Random) -> tuple[list[_Span], int, int]:
    """One stage, or two, that hold more than a hundred microbatches."""
    period, m = random.choice((1, 2, 3)), random.randint(130, 300)
    starts = random.sample(range(9), random.choice((1, 2)))
    spans = [
        (start, start + period * random.randint(130, m) - random.randrange(2)) for start in starts
    ]
    return spans, period, m


def _apart(spans: Sequence[_Span], period: int, m: int) -> bool:
    """Whether the stages are fullest at different times."""
    return most_held(spans, period, m) < sum(most_held([span], period, m) for span in spans)


def _holds_more(limit: int, spans: Sequence[_Span], period: int, m: int) -> bool:
    return most_held(spans, period, m) > limit


def _meet(spans: Sequence[_Span], period: int, m: int) -> bool:
    """Whether the peak would be larger if they still counted in that slot."""
    longer = [(start, end + 1) for start, end in spans]
    return most_held(longer, period, m) > most_held(spans, period, m)


LIFESPANS = Draws(
    _draw_lifespans,
    (
        Idea(
            "a single microbatch",
            "it is not repeated: only its own activations meet",
            lambda spans, period, m: m == 1,
        ),
        Idea(
            "stages that are fullest at different times",
            "count all stages in the same slot; do not add up their peaks",
            _apart,
        ),
        Idea(
            "activations that begin in a late slot",
            "look at the slots in which something begins, wherever they are",
            lambda spans, period, m: min(start for start, _ in spans) >= _LATE,
        ),
        *(
            Idea(
                f"more than {words} microbatches held",
                "the peak has no upper limit but what is there",
                partial(_holds_more, limit),
            )
            for words, limit in (("a hundred", 100), ("twenty", 20))
        ),
        Idea(
            "more than three stages",
            "the activations of all of them count, however many there are",
            lambda spans, period, m: len(spans) > 3,
        ),
        unlimited("a period of more than six slots", lambda spans, period, m: period > 6),
        Idea(
            "more than twenty microbatches",
            "they come one period after another, however many there are",
            lambda spans, period, m: m > 20,
        ),
        Idea(
            "fewer microbatches than could be held",
            "there are only m of each",
            lambda spans, period, m: most_held(spans, period, m) < most_held(spans, period, 400),
        ),
        Idea(
            "activations that go in the slot in which others begin",
            "what ends in a slot has gone when the next one begins in it",
            _meet,
        ),
        Idea(
            "two stages and more",
            "the activations of all stages of the rank count",
            lambda spans, period, m: len(spans) > 1,
        ),
        Idea(
            "a lifespan that is no multiple of the period",
            "one that has begun counts until its end",
            lambda spans, period, m: any((end - start) % period for start, end in spans),
        ),
        Idea("every pattern", "in each slot, count those that have begun and not ended"),
    ),
    allowed=lambda spans, period, m: (
        len(spans) >= 1 and period >= 1 and m >= 1 and all(0 <= start < end for start, end in spans)
    ),
)

"""What is drawn for the exercises of lesson 9: sizes of a pipeline, and orders to complete."""

from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.schedules import Schedule, gpipe, one_f_one_b, sequential

__all__ = ["ORDERS", "SIZES", "tokens"]


def _newest_first(p: int, m: int) -> Schedule:
    """GPipe, but the last forward's backward is the first: numbers do not only count up."""
    rows = gpipe(p, m).ranks
    return Schedule.from_tokens(
        [action.token for action in (*row[:m], *reversed(row[m:]))] for row in rows
    )


def _last_first(p: int, m: int) -> Schedule:
    """1F1B that begins with the last microbatch."""
    return Schedule.from_tokens(
        [f"{action.stage}{action.kind}{m - 1 - int(action.microbatch or 0)}" for action in row]
        for row in one_f_one_b(p, m).ranks
    )


_BUILDERS = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "sequential": sequential,
    "newest first": _newest_first,
    "last first": _last_first,
}


def tokens(name: str, p: int, m: int) -> tuple[list[list[str]]]:
    """The argument of a call: the order of a schedule that the learner is to complete."""
    return ([[action.token for action in row] for row in _BUILDERS[name](p, m).ranks],)


_MOST_TOKENS = 500  # forwards: each input is simulated


def _draw_size(random: Random) -> tuple[int, int]:
    match random.randrange(20):
        case 0:
            return random.choice((2, 2, 3)), random.randint(101, 166)
        case 1:
            return random.randint(17, 20), random.randint(20, 25)
    p = random.choice((1, 2, 3, 4, 5, 6, 7, 8, far(random, 9, 16)))
    m = random.choice((1, *range(1, 14), p, 2 * p - 2, 2 * p - 1, 20, far(random, 21, 80)))
    return p, max(1, min(m, _MOST_TOKENS // p))


SIZES = Draws(
    _draw_size,
    (
        Idea("one rank", "nobody answers: F and B in turns", lambda p, m: p == 1),
        Idea(
            "fewer microbatches than a rank could run ahead",
            "no rank can run more forwards than there are microbatches",
            lambda p, m: m < 2 * (p - 1),
        ),
        Idea(
            "as many microbatches as ranks",
            "a rank can run ahead by more than p forwards, if there are so many",
            lambda p, m: m == p > 1,
        ),
        unlimited("more than a hundred microbatches", lambda p, m: m > 100),
        unlimited("more than twenty microbatches", lambda p, m: m > 20),
        unlimited("more than sixteen ranks", lambda p, m: p > 16),
        Idea(
            "many microbatches on more than two ranks",
            "with one forward more than 1F1B a rank still waits, a little for each of them",
            lambda p, m: m > p + 1 and m * (p - 2) >= 24,
        ),
        unlimited("more than six ranks", lambda p, m: p > 6),
        Idea("ten microbatches and more", "numbers may have two digits", lambda p, m: m > 10),
        Idea("another number of ranks than four", "it depends on p", lambda p, m: p != 4),
        Idea("every size", "forwards ahead, then in turns, then the backwards that are left"),
    ),
    allowed=lambda p, m: p >= 1 and m >= 1 and p * m <= _MOST_TOKENS,
)


def _draw_order(random: Random) -> tuple[str, int, int]:
    return random.choice((*_BUILDERS, "1f1b")), *_draw_size(random)


ORDERS = Draws(
    _draw_order,
    (
        Idea(
            "one rank",
            "it has no neighbour, so nothing is sent or received",
            lambda s, p, m: p == 1,
        ),
        Idea("a single microbatch", "one message each way", lambda s, p, m: m == 1 < p),
        Idea(
            "microbatches that do not come in the order 0, 1, 2",
            "read the number from each token, do not count: the order is what you are given",
            lambda s, p, m: s in ("newest first", "last first") and min(p, m) > 1,
        ),
        Idea(
            "more than a hundred microbatches",
            "numbers may have three digits, and more",
            lambda s, p, m: m > 100 and p > 1,
        ),
        Idea(
            "more than twenty microbatches",
            "a message for each of them, however many there are",
            lambda s, p, m: m > 20 and p > 1,
        ),
        Idea(
            "ten ranks and more",
            "numbers may have two digits, of ranks too: rank 10 runs 10F0",
            lambda s, p, m: p > 10,
        ),
        Idea(
            "ten microbatches and more",
            "numbers may have two digits",
            lambda s, p, m: m > 10 and p > 1,
        ),
        Idea(
            "two ranks",
            "each of them is a first or a last one: it has one neighbour",
            lambda s, p, m: p == 2,
        ),
        Idea(
            "1F1B on two ranks and more",
            "both neighbours send between two receives: post each receive one action earlier",
            lambda s, p, m: s == "1f1b" and p > 1,
        ),
        Idea(
            "ranks in the middle",
            "they receive and send in both directions",
            lambda s, p, m: p > 2,
        ),
        Idea("every order", "a SEND behind each result, a RECV ahead of each need"),
    ),
    allowed=lambda s, p, m: s in _BUILDERS and p >= 1 <= m and p * m <= _MOST_TOKENS,
    arguments=tokens,
)

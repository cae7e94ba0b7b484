"""What is drawn for the exercises of lesson 11: orders without W, and links between ranks."""

from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.schedules import Schedule, zero_bubble_h1
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.zero_bubble import zero_bubble_h2

__all__ = ["LINKS", "ORDERS", "given", "numbers_of_stages", "papers"]


def _one_at_a_time(p: int, m: int) -> Schedule:
    """F, I and W of a microbatch before the next one: all that can be done with room for one."""
    kinds = "FIW"
    return Schedule.from_tokens(
        [f"{rank}{kind}{i}" for i in range(m) for kind in kinds] for rank in range(p)
    )


_BUILDERS = {"1f1b": zero_bubble_h1, "eager": zero_bubble_h2, "one at a time": _one_at_a_time}


def papers(order: str, p: int, m: int) -> Schedule:
    """The fastest schedule with this order of F and I: ZB-H1 has that of 1F1B, ZB-H2 the eager."""
    return _BUILDERS[order](p, m)


def given(order: str, p: int, m: int) -> tuple[list[list[str]], int]:
    """The arguments of a call: the rows without any W, and what a rank may hold."""
    schedule = papers(order, p, m)
    rows = [[a.token for a in row if a.kind != "W"] for row in schedule.ranks]
    return rows, int(max(peak_activations(schedule)))


_MANY = 50  # microbatches
_MOST_TOKENS = 300  # forwards: each input is simulated


def _draw_order(random: Random) -> tuple[str, int, int]:
    p = random.choice((1, 2, 3, 4, 5, 6, 7, 8, far(random, 9, 24)))
    m = random.choice((1, 2, 3, 4, 5, 6, 8, 11, 13, p, 2 * p, 20, far(random, 21, 150)))
    if m > _MANY:
        p = min(p, 3)
    order = random.choice((*_BUILDERS, "1f1b", "eager"))
    return order, p, max(1, min(m, _MOST_TOKENS // p))


ORDERS = Draws(
    _draw_order,
    (
        Idea("one rank", "it never waits: any place behind its I will do", lambda o, p, m: p == 1),
        Idea("a single microbatch", "its W comes behind its I", lambda o, p, m: m == 1),
        unlimited("more than fifty microbatches", lambda o, p, m: m > _MANY),
        unlimited("more than ten ranks", lambda o, p, m: p > 10),
        Idea("ten microbatches and more", "numbers may have two digits", lambda o, p, m: m > 10),
        Idea(
            "fewer microbatches than ranks",
            "the limit is what the given order needs anyway: hold nothing back on rank 0",
            lambda o, p, m: m < p,
        ),
        Idea(
            "ranks with room for one microbatch",
            "the limit is an argument: with room for one, each W comes before the next F",
            lambda o, p, m: o == "one at a time" and m > 1,
        ),
        Idea(
            "orders with more forwards ahead than 1F1B has",
            "ranks may hold more here: the limit is an argument, and no fixed number",
            lambda o, p, m: o == "eager" and p > 1 and m > p,
        ),
        Idea(
            "two ranks and more",
            "do a W where the rank would wait, or where it must: not where it holds up an I",
            lambda o, p, m: p > 1,
        ),
        Idea("every order", "each I has a W behind it, on the same rank"),
    ),
    allowed=lambda order, p, m: order in _BUILDERS and p >= 1 <= m and p * m <= _MOST_TOKENS,
    arguments=given,
)


def numbers_of_stages(p: int, layers: int) -> list[int]:
    """How many stages a rank can have, if all have equally many layers."""
    return [v for v in range(1, layers // p + 1) if layers // p % v == 0]


def _draw_link(random: Random) -> tuple[int, int, int, float]:
    p = random.choice((1, 2, 3, 4, 6))
    latency = random.choice((0.0, 0.02, 0.05, 0.1, 0.3, 1.0))
    return p, random.choice((1, 2, 4, 5, 8, 12)), p * random.choice((1, 2, 3, 4, 6, 9)), latency


LINKS = Draws(
    _draw_link,
    (
        Idea("one layer on each rank", "it cannot be cut: one stage", lambda p, m, n, t: n == p),
        Idea(
            "free messages",
            "nothing speaks against as many stages as there are layers",
            lambda p, m, n, t: t == 0 and n > p,
        ),
        Idea(
            "slow messages",
            "each cut costs messages: one stage may be best",
            lambda p, m, n, t: t >= 0.3,
        ),
        Idea(
            "layers in threes",
            "v can be any number by which layers / p can be divided, and no other",
            lambda p, m, n, t: n // p % 3 == 0,
        ),
        Idea(
            "few microbatches",
            "the idle time is a larger part of the step",
            lambda p, m, n, t: m < p,
        ),
        Idea("every link", "try all numbers of stages that the layers allow, and compare"),
    ),
    allowed=lambda p, m, layers, latency: (
        p >= 1 and m >= 1 and layers >= p and layers % p == 0 and 0 <= latency <= 4
    ),
)

"""What is drawn for lesson 10: graphs of who waits for whom."""

from functools import lru_cache
from itertools import pairwise
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited

__all__ = ["GRAPHS", "Waits", "ends"]

Waits = list[int | None]  # for each rank the one that it waits for

_CHAINS, _ENDS_FIRST = 0.15, 0.3  # of all graphs
_LARGE, _MANY = 8, 3  # ranks of a ring; rings, and ranks at which chains end
_LONG_WAY = 6  # waits, one after another


def ends(waits: Waits) -> list[int]:
    """Where following the waits ends: in a ring, or at a rank that waits for nobody itself."""
    return [*_ends(tuple(waits))]


@lru_cache(1000)  # each idea asks for those of the same graphs
def _ends(waits: tuple[int | None, ...]) -> tuple[int, ...]:
    found: set[int] = set()
    for start, peer in enumerate(waits):
        if peer is None or peer in found:
            continue
        path, at = [start], peer
        while (then := waits[at]) is not None and at not in path:
            path.append(at)
            at = then
        found |= {*path[path.index(at) :]} if at in path else {at}
    return tuple(sorted(found))


def _draw_waits(random: Random) -> tuple[Waits]:
    kind = random.random()
    if kind < _CHAINS + _ENDS_FIRST:
        return (_chain(random) if kind < _CHAINS else _ends_first(random),)
    ranks = range(random.choice((2, 3, 4, 4, 5, 6, 7, 8, 11, far(random, 12, 64))))
    none = random.choice((0.0, 0.2, 0.2, 0.5))
    waits: Waits = []
    for rank in ranks:
        others = [other for other in ranks if other != rank]
        waits.append(None if random.random() < none else random.choice(others))
    return (waits,)


def _chain(random: Random) -> Waits:
    """All ranks in one chain, in any order; its end is a rank, or a ring of two."""
    ranks = range(_LONG_WAY + far(random, 8, 60))
    order = random.sample(ranks, k=len(ranks))
    waits: Waits = [None] * len(order)
    for rank, peer in pairwise(order):
        waits[rank] = peer
    waits[order[-1]] = random.choice((None, order[-2]))
    return waits


def _ends_first(random: Random) -> Waits:
    """Rings and ranks at which chains end, then who waits for one of them; in any order.

    Where each rank waits for any other, there are hardly ever many rings, or large ones.
    """
    waits: Waits = []
    for _ in range(random.choice((0, 1, 2, far(random, 1, 8)))):
        size, first = far(random, 2, 24), len(waits)
        waits += [*range(first + 1, first + size), first]
    for _ in range(random.choice((0, 1, 2, far(random, 1, 12)))):
        waits += [None, len(waits)]  # one that is waited for
    waits += [random.randrange(len(waits)) for _ in range(far(random, 1, 12) - 1) if waits]
    waits += [None] * random.choice((0, 0, 1, 3))
    if len(waits) < 2:
        return [1, 0]
    name = random.sample(range(len(waits)), k=len(waits))
    named: Waits = [None] * len(waits)
    for rank, peer in enumerate(waits):
        named[name[rank]] = None if peer is None else name[peer]
    return named


def _far(waits: Waits) -> bool:
    """Whether somebody is so many waits away from the end."""
    stop = {*ends(waits)}
    at = {rank for rank, peer in enumerate(waits) if peer is not None} - stop
    for _ in range(_LONG_WAY - 1):
        at = {peer for rank in at if (peer := waits[rank]) is not None} - stop
    return bool(at)


def _rings(waits: Waits) -> bool:
    return any(waits[rank] is not None for rank in ends(waits))


def _sizes(waits: Waits) -> list[int]:
    """How many ranks each ring has."""
    sizes, seen = [], set[int]()
    for rank in ends(waits):
        before, at = len(seen), waits[rank]
        while at is not None and at not in seen:
            seen.add(at)
            at = waits[at]
        if len(seen) > before:
            sizes.append(len(seen) - before)
    return sizes


def _loose(waits: Waits) -> int:
    """How many ranks there are at which a chain ends."""
    return sum(waits[rank] is None for rank in ends(waits))


def _has_followers(waits: Waits) -> bool:
    """Whether some rank waits for a ring that it is not in."""
    found = ends(waits)
    for rank, peer in enumerate(waits):
        if rank not in found and peer is not None:
            while peer not in found:
                peer = waits[peer]
                assert peer is not None
            if waits[peer] is not None:
                return True
    return False


def _allowed(waits: Waits) -> bool:
    ranks = range(len(waits))
    return len(waits) > 1 and all(
        peer is None or (peer in ranks and peer != rank) for rank, peer in enumerate(waits)
    )


GRAPHS = Draws(
    _draw_waits,
    (
        Idea(
            "nobody who waits",
            "then there is nothing to look at: an empty list",
            lambda waits: not ends(waits),
        ),
        Idea(
            "a rank that neither waits nor is waited for",
            "it has finished, or never needed anything: it holds nobody up",
            lambda waits: any(
                peer is None and rank not in waits for rank, peer in enumerate(waits)
            ),
        ),
        Idea(
            "more than eleven ranks",
            "begin at each of them, however many there are",
            lambda waits: len(waits) > 11,
        ),
        unlimited("more than three rings", lambda waits: len(_sizes(waits)) > _MANY),
        unlimited(
            "a ring of more than eight ranks", lambda waits: max(_sizes(waits), default=0) > _LARGE
        ),
        unlimited("more than three ranks at which chains end", lambda waits: _loose(waits) > _MANY),
        Idea(
            "two rings and more",
            "each of them is an end: go on after the first that you find",
            lambda waits: len(_sizes(waits)) > 1,
        ),
        Idea(
            "a ring of three ranks and more",
            "all ranks of it belong to the answer, not two alone",
            lambda waits: max(_sizes(waits), default=0) > 2,
        ),
        Idea(
            "a long way to the end",
            "go on until you meet a rank again, or one that waits for nobody, however many waits",
            _far,
        ),
        Idea(
            "ranks that wait for a ring and are not in it",
            "nobody in the ring waits for such a rank, so no change there helps",
            _has_followers,
        ),
        Idea(
            "chains that end at a rank which waits for nobody",
            "it computes, or it is gone: look there",
            lambda waits: _loose(waits) > 0,
        ),
        Idea(
            "chains and rings at once",
            "both are ends: begin at every rank, not at the first alone",
            lambda waits: bool(_loose(waits)) and _rings(waits),
        ),
        Idea(
            "ranks that wait in a ring",
            "follow one until you meet a rank again: from there on it is the ring",
            _rings,
        ),
        Idea("every graph", "all ends, each once, in order"),
    ),
    allowed=_allowed,
)

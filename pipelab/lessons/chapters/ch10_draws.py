"""What is drawn for lesson 10: graphs of who waits for whom."""

from itertools import pairwise
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far

__all__ = ["GRAPHS", "Waits", "ends"]

Waits = list[int | None]  # for each rank the one that it waits for

_CHAINS = 0.15  # of all graphs
_LONG_WAY = 6  # waits, one after another


def ends(waits: Waits) -> list[int]:
    """Where following the waits ends: in a ring, or at a rank that waits for nobody itself."""
    found: set[int] = set()
    for start, peer in enumerate(waits):
        if peer is None:
            continue
        path, at = [start], peer
        while (then := waits[at]) is not None and at not in path:
            path.append(at)
            at = then
        found |= {*path[path.index(at) :]} if at in path else {at}
    return sorted(found)


def _draw_waits(random: Random) -> tuple[Waits]:
    if random.random() < _CHAINS:
        return (_chain(random),)
    ranks = range(random.choice((2, 3, 4, 4, 5, 6, 7, 8, 11, far(random, 12, 40))))
    none = random.choice((0.0, 0.2, 0.2, 0.5))
    waits: Waits = []
    for rank in ranks:
        others = [other for other in ranks if other != rank]
        waits.append(None if random.random() < none else random.choice(others))
    return (waits,)


def _chain(random: Random) -> Waits:
    """All ranks in one chain, in any order; its end is a rank, or a ring of two."""
    ranks = range(_LONG_WAY + far(random, 2, 40))
    order = random.sample(ranks, k=len(ranks))
    waits: Waits = [None] * len(order)
    for rank, peer in pairwise(order):
        waits[rank] = peer
    waits[order[-1]] = random.choice((None, order[-2]))
    return waits


def _far(waits: Waits) -> bool:
    """Whether somebody is so many waits away from the end."""
    at = {rank for rank, peer in enumerate(waits) if peer is not None} - {*ends(waits)}
    for _ in range(_LONG_WAY - 1):
        at = {peer for rank in at if (peer := waits[rank]) is not None} - {*ends(waits)}
    return bool(at)


def _rings(waits: Waits) -> bool:
    return any(waits[rank] is not None for rank in ends(waits))


def _ring_of(waits: Waits, rank: int) -> frozenset[int]:
    """The ranks of the ring in which this rank is; none if it is in no ring."""
    found, at = {rank}, waits[rank]
    while at is not None and at not in found:
        found.add(at)
        at = waits[at]
    return frozenset(found) if at == rank else frozenset()


def _several_rings(waits: Waits) -> bool:
    return len({_ring_of(waits, rank) for rank in ends(waits)} - {frozenset()}) > 1


def _large_ring(waits: Waits) -> bool:
    return any(len(_ring_of(waits, rank)) > 2 for rank in ends(waits))


def _loose(waits: Waits) -> bool:
    return any(waits[rank] is None for rank in ends(waits))


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
        Idea(
            "two rings and more",
            "each of them is an end: go on after the first that you find",
            _several_rings,
        ),
        Idea(
            "a ring of three ranks and more",
            "all ranks of it belong to the answer, not two alone",
            _large_ring,
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
            _loose,
        ),
        Idea(
            "chains and rings at once",
            "both are ends: begin at every rank, not at the first alone",
            lambda waits: _loose(waits) and _rings(waits),
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

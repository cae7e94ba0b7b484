"""What the checks of lesson 5 draw: gradients of microbatches, and replicas with microbatches.

Gradients are drawn as one number for each parameter that a microbatch uses, positive, so that none
cancel; ``tensors`` makes them into gradients of several shapes.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.lessons.drawn import Draws, Idea, far, unlimited

__all__ = ["MICROBATCHES", "SHARES", "Part", "mean_over_rows"]

_SHAPES = {"weight": (2, 3), "bias": (3,), "scale": (), "rare": (2,)}


class Part(NamedTuple):
    """One microbatch: how many rows, and the mean gradient of each parameter that it uses."""

    size: int
    used: dict[str, float]


def tensors(used: Mapping[str, float]) -> dict[str, Tensor]:
    """A gradient for each name: its number times 1, 2, 3, ... in the parameter's shape."""
    found = {}
    for name, value in used.items():
        shape = _SHAPES[name]
        steps = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float32)
        found[name] = (value * steps).reshape(shape)
    return found


def mean_over_rows(parts: Sequence[Part]) -> dict[str, Tensor]:
    """By definition: each row of a microbatch has its mean gradient, or 0 if it uses none."""
    names = [name for name in _SHAPES if any(name in part.used for part in parts)]
    rows = {
        name: [part.used.get(name, 0.0) for part in parts for _ in range(part.size)]
        for name in names
    }
    return tensors({name: sum(values) / len(values) for name, values in rows.items()})


# ------------------------------------------------------------------------------ 05.1, combine


def _draw_parts(random: Random) -> tuple[list[Part]]:
    m = random.choice((1, 2, 2, 3, 4, 5, 6, 7, 8, far(random, 9, 40)))
    sizes = [random.choice((1, 2, 3, 5, 8, 16, far(random, 20, 1000)))] * m
    match random.randrange(3):
        case 0:
            sizes[-1] = random.choice((1, 2, 3, 4, 6))
        case 1:
            largest = random.choice((32, 32, 1000))
            sizes = [far(random, 1, largest) for _ in range(m)]
    names = ["weight", *random.sample(["bias", "scale", "rare"], random.randint(1, 3))]
    if random.random() < 0.25:  # each microbatch uses its own
        used = [random.sample(names, random.randint(0, len(names) - 1)) for _ in range(m)]
    else:
        first = {name: random.choice((0, 0, 0, 1, m - 1)) for name in names}
        last = {name: random.choice((m, m, m, max(1, m - 1))) for name in names}
        used = [[n for n in names if first[n] <= i < last[n]] for i in range(m)]
    return (
        [
            Part(size, {name: random.randint(1, 32) / 8 for name in of})
            for size, of in zip(sizes, used, strict=True)
        ],
    )


def _draw_used(random: Random) -> tuple[list[Part]]:
    """One in which some parameter is used."""
    while not _names(*(one := _draw_parts(random))):
        pass
    return one


def _combine_arguments(parts: list[Part]) -> tuple[object, ...]:
    return [tensors(part.used) for part in parts], [part.size for part in parts]


def _names(parts: Sequence[Part]) -> set[str]:
    return {name for part in parts for name in part.used}


def _left_out(parts: Sequence[Part], part: Part) -> bool:
    return _names(parts) > set(part.used)


def _returns(parts: Sequence[Part], name: str) -> bool:
    """Whether some microbatches use a parameter, later ones do not, and a later one does again."""
    uses = "".join("x" if name in part.used else " " for part in parts)
    return " " in uses.strip()


def _sizes(parts: Sequence[Part]) -> set[int]:
    return {part.size for part in parts}


MICROBATCHES = Draws(
    _draw_used,
    (
        Idea(
            "a single microbatch",
            "its mean is the mean over all rows",
            lambda parts: len(parts) == 1,
        ),
        Idea(
            "a parameter that neither the first nor the last microbatch uses",
            "a name can appear in any of the dicts, in one in the middle alone too",
            lambda parts: _names(parts) > {*parts[0].used, *parts[-1].used},
        ),
        Idea(
            "microbatches of which none uses all parameters",
            "no dict has all names: collect them from all of the dicts",
            lambda parts: all(_left_out(parts, part) for part in parts),
        ),
        Idea(
            "a parameter that is used, left out and used again",
            "what a microbatch does not use adds nothing there, whatever came before",
            lambda parts: any(_returns(parts, name) for name in _names(parts)),
        ),
        Idea(
            "more than eight microbatches",
            "all of them count, however many there are",
            lambda parts: len(parts) > 8,
            len,
        ),
        Idea(
            "microbatches of more than thirty-two rows",
            "a number of rows has no upper limit",
            lambda parts: any(size > 32 for size in _sizes(parts)),
            lambda parts: max(_sizes(parts)),
        ),
        Idea(
            "a parameter that the first microbatch does not use",
            "a name can appear first in any of the dicts",
            lambda parts: _left_out(parts, parts[0]),
        ),
        Idea(
            "a parameter that the last microbatch does not use",
            "a name can be missing in any of the dicts, in the last one too",
            lambda parts: _left_out(parts, parts[-1]),
        ),
        Idea(
            "a parameter that some microbatches do not use",
            "such a microbatch adds nothing, but its rows still count in the division",
            lambda parts: any(_left_out(parts, part) for part in parts),
        ),
        Idea(
            "a microbatch that uses no parameter at all",
            "an empty dict adds nothing, and its rows still count",
            lambda parts: any(not part.used for part in parts),
        ),
        Idea(
            "a gradient that is one number, without dimensions",
            "it has no first entry; calculate with the tensor as it is",
            lambda parts: any("scale" in part.used for part in parts),
        ),
        Idea(
            "a last microbatch that is much smaller than the first",
            "it counts by its rows, and is not dropped, however few they are",
            lambda parts: 4 * parts[-1].size < parts[0].size,
        ),
        Idea(
            "a last microbatch of another size than the first",
            "each microbatch counts by its own number of rows",
            lambda parts: parts[-1].size != parts[0].size,
        ),
        Idea(
            "microbatches of different sizes",
            "how much should a row count, in a small microbatch and in a large one?",
            lambda parts: len(_sizes(parts)) > 1,
        ),
        Idea(
            "more than two microbatches",
            "all of them count, not only the first and the last",
            lambda parts: len(parts) > 2,
        ),
        Idea(
            "more than one microbatch",
            "each of the gradients is a mean over its own rows; what do you divide by?",
            lambda parts: len(parts) > 1,
        ),
        Idea(
            "microbatches of more than one row",
            "the result is a mean over rows again, not a sum",
            lambda parts: any(size > 1 for size in _sizes(parts)),
        ),
        Idea(
            "the mean over all rows",
            "turn each mean back into a sum, add up, divide once by all rows",
        ),
    ),
    allowed=lambda parts: (
        bool(_names(parts))
        and all(part.size > 0 and min(part.used.values(), default=1.0) > 0.1 for part in parts)
    ),
    arguments=_combine_arguments,
)

# ------------------------------------------------------------------------------ 05.2, weights


def _draw_shares(random: Random) -> tuple[list[list[int]]]:
    replicas = range(random.choice((1, 1, 2, 2, 3, 4, 5, far(random, 6, 40))))
    most = random.choice((8, 8, 8, 1000))  # rows of a microbatch
    many = far(random, 6, 40)
    kind = random.random()
    if kind < 0.25:
        share = [far(random, 1, most)] * random.choice((1, 2, 3, 5, many))
        return ([[*share] for _ in replicas],)
    if kind < 0.35:  # as many rows in each replica, in different microbatches
        return ([random.sample([1, 2, 3, 5], 4) for _ in replicas],)
    size, alike = far(random, 1, most), 0.45 < kind < 0.65
    lengths = [1 if kind < 0.45 else random.randint(1, 4) for _ in replicas]
    if kind > 0.85:
        lengths[random.choice(replicas)] = many
    return ([[size if alike else far(random, 1, most) for _ in range(n)] for n in lengths],)


SHARES = Draws(
    _draw_shares,
    (
        Idea(
            "a single microbatch on a single replica",
            "nothing is to be corrected",
            lambda shares: len(shares) == len(shares[0]) == 1,
        ),
        unlimited(
            "more than four replicas with different numbers of rows",
            lambda shares: len(shares) > 4 and len({*map(sum, shares)}) > 1,
            len,
        ),
        unlimited("more than four replicas", lambda shares: len(shares) > 4),
        unlimited(
            "more than five microbatches of different sizes in a replica",
            lambda shares: any(len(share) > 5 and len({*share}) > 1 for share in shares),
            lambda shares: max(map(len, shares)),
        ),
        unlimited(
            "more than five microbatches in a replica", lambda shares: max(map(len, shares)) > 5
        ),
        Idea(
            "replicas of one microbatch each, of different sizes",
            "a microbatch counts by its rows, also if a replica has no other",
            lambda shares: {*map(len, shares)} == {1} and len({*map(sum, shares)}) > 1,
        ),
        Idea(
            "microbatches of more than eight rows",
            "a number of rows has no upper limit",
            lambda shares: max(map(max, shares)) > 8,
            lambda shares: max(map(max, shares)),
        ),
        Idea(
            "replicas that have as many rows, but not the same microbatches",
            "a microbatch's weight depends on its own rows",
            lambda shares: len({*map(sum, shares)}) == 1 < len({*map(tuple, shares)}),
        ),
        Idea(
            "replicas with different numbers of microbatches",
            "a replica's weights need not add up to the same in all replicas",
            lambda shares: len({*map(len, shares)}) > 1,
        ),
        Idea(
            "replicas with different numbers of rows",
            "all rows means the rows of all replicas, not only its own",
            lambda shares: len({*map(sum, shares)}) > 1,
        ),
        Idea(
            "one replica with microbatches of different sizes",
            "a microbatch's weight is its share of all rows",
            lambda shares: len(shares) == 1 < len({*shares[0]}),
        ),
        Idea(
            "microbatches of different sizes in one replica",
            "each row has to count as much as any other",
            lambda shares: any(len({*share}) > 1 for share in shares),
        ),
        Idea(
            "microbatches of different sizes, in whatever replica",
            "each row has to count as much as any other",
            lambda shares: len({n for share in shares for n in share}) > 1,
        ),
        Idea(
            "more than two replicas",
            "the mean over the replicas divides by their number, whatever it is",
            lambda shares: len(shares) > 2,
        ),
        Idea(
            "more than one replica",
            "after your weights come an addition in each replica and a *mean* over the replicas",
            lambda shares: len(shares) > 1,
        ),
        Idea(
            "one replica alone",
            "its microbatches are only added up",
            lambda shares: len(shares) == 1,
        ),
        Idea(
            "more than one microbatch in all",
            "gradients of means do not add up to the gradient of the mean",
            lambda shares: sum(map(len, shares)) > 1,
        ),
        Idea("the weight of a microbatch", "one number for each microbatch, in the same form"),
    ),
    allowed=lambda shares: bool(shares) and all(shares) and min(map(min, shares)) > 0,
)

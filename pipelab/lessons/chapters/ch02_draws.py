"""What the first check of lesson 2 draws: layers to cut."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, combinations, pairwise
from math import ceil, comb
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.partition import balance

__all__ = ["CUTS", "largest"]

Cut = Callable[[list[float], int], list[int]]
About = Callable[[list[float], int], bool]


def largest(costs: Sequence[float], sizes: Sequence[int]) -> float:
    """The cost of the largest stage."""
    return max(sum(costs[a:b]) for a, b in pairwise(accumulate(sizes, initial=0)))


_MOST_CUTS = 800  # of an input: a right answer may compare them all


def _draw_cut(random: Random) -> tuple[list[float], int]:
    if random.random() < 0.5:  # hard: shortcuts go wrong more often
        n = random.choice((6, 7, 8, random.randint(9, 12), 13, 13, random.randint(14, 40)))
        low, high = (1, 100) if n > 12 else random.choice(((1, 20), (1, 20), (0, 9)))
        unit = random.choice((1, 1, 1, 8, 1000, 10_000))
        hard = [random.randint(low, high) / unit for _ in range(n)]
        hard[0] = hard[0] or 1 / unit
        return hard, 3 if n > 13 else random.choice((4, 6, 6, 8) if n == 13 else (3, 4, 4, 5))
    if random.random() < 0.2:  # what is rounded, or nearly the best, is not the best
        least, span = random.choice(((10_000, 40), (100_000, 40), (100_000, 8)))
        n = random.randint(6, 12)
        alike = [float(random.randint(least, least + span)) for _ in range(n)]
        return alike, random.choice((2, 3, 4, 5))
    n = far(random, 10, 40) if random.random() < 0.2 else random.randint(1, 9)
    grid: Sequence[float] = random.choice(
        (
            *([1, 2, 3, 5, 9], [0.25, 0.5, 1.5, 3.75], [0.125, 0.25, 0.5, 0.625]),
            *([0, 1, 4], [0, 2, 3, 7], [650, 4160, 65792], [0, 0, 0.125, 0.25]),
            *([k / n for k in range(1, 20)] for n in (1000, 10_000)),  # such as seconds
        )
    )
    costs = [float(random.choice(grid)) for _ in range(n)]
    if random.random() < 0.2 or not any(costs):
        costs = [costs[0] or 1.0] * n
    if random.random() < 0.3:
        costs[random.randrange(n)] = 4 * max(costs) + max(grid)
    few = [p for p in range(1, n + 1) if comb(n - 1, p - 1) <= _MOST_CUTS]
    return costs, random.choice((1, n, *few))


def _best(costs: list[float], p: int) -> float:
    """The cost of the largest stage of the best cut."""
    return _least(tuple(costs), p)


@lru_cache(maxsize=64)
def _least(costs: tuple[float, ...], p: int) -> float:
    return largest(costs, balance([*costs], p))


# Ways to cut that seem right and are not: an idea is about the inputs on which one is not best.


def _equal_counts(costs: list[float], p: int) -> list[int]:
    return [len(costs) // p + (i < len(costs) % p) for i in range(p)]


def _fill_to(limit: float, costs: list[float], p: int) -> list[int]:
    """From the left, a new stage when the next layer exceeds the limit, at most p of them."""
    sizes, filled = [0], 0.0
    for i, cost in enumerate(costs):
        needed = len(costs) - i <= p - len(sizes)  # a layer for each stage that is left
        if sizes[-1] and len(sizes) < p and (filled + cost > limit * (1 + 1e-9) or needed):
            sizes.append(0)
            filled = 0.0
        sizes[-1] += 1
        filled += cost
    return sizes


def _fill_to_the_mean(costs: list[float], p: int) -> list[int]:
    return _fill_to(sum(costs) / p, costs, p)


def _fill_to_a_whole_number(costs: list[float], p: int) -> list[int]:
    """With the smallest limit that can be met and is whole, as a search in whole steps finds it."""
    return _fill_to(ceil(_best(costs, p)), costs, p)


def _fill_to_nearly_the_best(costs: list[float], p: int) -> list[int]:
    """With a limit that a search finds which stops a little too early."""
    return _fill_to(_best(costs, p) * (1 + 2e-5), costs, p)


def _nearest_to_equal_shares(costs: list[float], p: int) -> list[int]:
    total = [*accumulate(costs, initial=0.0)]
    ends = [0]
    for k in range(1, p):
        free = range(ends[-1] + 1, len(costs) - (p - k) + 1)
        ends.append(min(free, key=lambda i: abs(total[i] - total[-1] * k / p)))
    return [b - a for a, b in pairwise([*ends, len(costs)])]


def _join_the_cheapest(costs: list[float], p: int) -> list[int]:
    groups = [(cost, 1) for cost in costs]
    while len(groups) > p:
        i = min(range(len(groups) - 1), key=lambda i: groups[i][0] + groups[i + 1][0])
        (a, m), (b, n) = groups[i : i + 2]
        groups[i : i + 2] = [(a + b, m + n)]
    return [n for _, n in groups]


def _fill_from_the_right(costs: list[float], p: int) -> list[int]:
    return _fill_to_the_mean(costs[::-1], p)[::-1]


def _fill_to_the_mean_of_the_rest(costs: list[float], p: int) -> list[int]:
    """Each stage takes what comes nearest to an equal share of what is left."""
    sizes: list[int] = []
    for ranks in range(p, 1, -1):
        rest = costs[sum(sizes) :]
        total = [*accumulate(rest)]
        free = range(1, len(rest) - ranks + 2)
        sizes.append(min(free, key=lambda n: abs(total[n - 1] - total[-1] / ranks)))
    return [*sizes, len(costs) - sum(sizes)]


def _kept(about: About) -> About:
    """The same, with its answers kept: ideas are asked about each input several times."""
    kept = lru_cache(maxsize=512)(lambda costs, p: about([*costs], p))
    return lambda costs, p: kept(tuple(costs), p)


def _cuts(costs: list[float], p: int) -> Sequence[tuple[float, ...]]:
    """The costs of the stages for every possible cut."""
    return _all_cuts(tuple(costs), p)


@lru_cache(maxsize=64)  # several ideas ask about one input
def _all_cuts(costs: tuple[float, ...], p: int) -> Sequence[tuple[float, ...]]:
    total = [*accumulate(costs, initial=0.0)]
    return [
        tuple(total[b] - total[a] for a, b in pairwise((0, *inner, len(costs))))
        for inner in combinations(range(1, len(costs)), p - 1)
    ]


def _not_best_goal(goal: Callable[[Sequence[float]], float]) -> About:
    """Whether every cut that is best for ``goal``, small numbers first, is not the best."""

    @_kept
    def about(costs: list[float], p: int) -> bool:
        if not 1 < p < len(costs):
            return False
        found = [(goal(stages), max(stages)) for stages in _cuts(costs, p)]
        least = min(found)  # of the cuts that meet the goal, the best
        return least[1] > min(most for _, most in found) * (1 + 1e-9)

    return about


def _not_best(cut: Cut) -> About:
    @_kept
    def about(costs: list[float], p: int) -> bool:
        return largest(costs, cut(costs, p)) > _best(costs, p) * (1 + 1e-9)

    return about


_SHORTCUTS: tuple[Cut, ...] = (
    *(_equal_counts, _fill_to_the_mean, _fill_from_the_right, _fill_to_the_mean_of_the_rest),
    *(_nearest_to_equal_shares, _join_the_cheapest),
)


@_kept
def _no_shortcut(costs: list[float], p: int) -> bool:
    """Whether even the best of them is not the best cut."""
    best = _best(costs, p) * (1 + 1e-9)
    return all(largest(costs, cut(costs, p)) > best for cut in _SHORTCUTS)


@_kept
def _no_improved_shortcut(costs: list[float], p: int) -> bool:
    """Whether that holds for each of them improved step by step, too."""
    best = _best(costs, p) * (1 + 1e-9)
    return _no_shortcut(costs, p) and all(
        _improved(costs, cut(costs, p)) > best for cut in _SHORTCUTS
    )


def _improved(costs: list[float], sizes: list[int]) -> float:
    """The largest cost, after layers moved to a neighbour, one by one, as long as that helps."""
    most = largest(costs, sizes)
    while True:
        moved = [
            [size - (k == i) + (k == j) for k, size in enumerate(sizes)]
            for i, size in enumerate(sizes)
            for j in (i - 1, i + 1)
            if size > 1 and 0 <= j < len(sizes)
        ]
        new = min(moved, key=lambda one: largest(costs, one))
        if largest(costs, new) >= most:
            return most
        sizes, most = new, largest(costs, new)


def _fewer_would_do(costs: list[float], p: int) -> bool:
    """Fewer than p stages meet the best limit, if each is filled as far as it allows."""
    limit = _best(costs, p)
    filled, stages = 0.0, 1
    for cost in costs:
        if filled + cost > limit * (1 + 1e-9):
            filled, stages = 0.0, stages + 1
        filled += cost
    return stages < p


_NEARLY = _not_best(_fill_to_nearly_the_best)
CUTS = Draws(
    _draw_cut,
    (
        Idea("one rank alone", "it gets all layers, in a list", lambda costs, p: p == 1),
        Idea(
            "costs that differ by little",
            "look for the best cut itself: nothing is rounded, and nearly the best is not enough",
            lambda costs, p: p > 1 and 0 < max(costs) - min(costs) < 0.01 * max(costs),
        ),
        Idea(
            "costs that differ by little, where nearly the best cut is not the best",
            "a search that stops within a small distance of the best limit stops too early",
            lambda costs, p: max(costs) - min(costs) < 0.01 * max(costs) and _NEARLY(costs, p),
        ),
        Idea(
            "costs that are not whole, such as a few thousandths",
            "they can be seconds: nothing is rounded, and no difference is too small to count",
            lambda costs, p: 1 < p < len(costs) and max(costs) < 0.1,
        ),
        Idea(
            "layers where the best of several quick ways, improved step by step, is not the best",
            "no move of one layer helps, and another cut is better: which limits can the largest "
            "stage have?",
            _no_improved_shortcut,
        ),
        unlimited("more than twelve layers", lambda costs, p: 1 < p < len(costs) > 12),
        unlimited("more than five ranks", lambda costs, p: 5 < p < len(costs)),
        Idea(
            "as many ranks as layers",
            "each gets one layer",
            lambda costs, p: p == len(costs) > 1,
        ),
        Idea(
            "a heavy layer, so that fewer than p stages would be enough",
            "each of the p ranks needs a layer, even where it does not lower the largest cost",
            _fewer_would_do,
        ),
        Idea(
            "costs that are not whole, where no whole limit is the best",
            "the largest cost need not be whole: a search in steps of 1 passes by it",
            _not_best(_fill_to_a_whole_number),
        ),
        Idea(
            "costs that are not whole",
            "half a unit counts as half a unit: nothing is rounded",
            lambda costs, p: 1 < p < len(costs) and any(cost % 1 for cost in costs),
        ),
        Idea(
            "layers that cost nothing",
            "a layer of cost 0 still belongs to one rank",
            lambda costs, p: 0.0 in costs and 1 < p < sum(cost > 0 for cost in costs),
        ),
        Idea(
            "layers where the smallest difference between stages is not the best",
            "look at the largest stage alone: the others may differ from it, compare whole cuts",
            _not_best_goal(lambda stages: max(stages) - min(stages)),
        ),
        Idea(
            "layers where the largest smallest stage is not the best",
            "look at the largest stage alone, however small the others are: compare whole cuts",
            _not_best_goal(lambda stages: -min(stages)),
        ),
        Idea(
            "layers where the smallest sum of squares is not the best",
            "look at the largest stage alone: the others may differ from it, compare whole cuts",
            _not_best_goal(lambda stages: sum(cost**2 for cost in stages)),
        ),
        Idea(
            "layers where the best of several quick ways is not the best",
            "trying more of them does not help: compare whole cuts, all that are possible",
            _no_shortcut,
        ),
        Idea(
            "layers where the nearest cut to equal shares is not the best",
            "a cut can be near its share and still on the wrong side: compare whole cuts",
            _not_best(_nearest_to_equal_shares),
        ),
        Idea(
            "layers where joining the cheapest neighbours is not the best",
            "what is cheapest to join now can leave a large group later: compare whole cuts",
            _not_best(_join_the_cheapest),
        ),
        Idea(
            "layers where stages filled up to the mean are not the best",
            "the mean is no limit that can always be met: compare whole cuts",
            _not_best(_fill_to_the_mean),
        ),
        Idea(
            "layers that do not cost the same",
            "balance the costs, not the numbers of layers: compare whole cuts",
            _not_best(_equal_counts),
        ),
        Idea(
            "more than one rank, and more layers than ranks",
            "compare whole cuts: all that are possible, by their largest stage",
            lambda costs, p: 1 < p < len(costs),
        ),
        Idea(
            "what is returned",
            "how many layers each rank gets: p whole numbers, at least 1, that add up to all",
        ),
    ),
    allowed=lambda costs, p: (
        1 <= p <= len(costs)
        and comb(len(costs) - 1, p - 1) <= _MOST_CUTS
        and min(costs) >= 0
        and max(costs) > 0
    ),
    number=84,
)

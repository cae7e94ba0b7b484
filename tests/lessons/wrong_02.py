"""Answers to lesson 2 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

import itertools
import math
from itertools import accumulate, combinations, pairwise, takewhile

import numpy as np


def equal_counts(costs, p):
    """As many layers for each rank, whatever they cost."""
    n = len(costs)
    return [n // p + (i < n % p) for i in range(p)]


def cut_points_not_sizes(costs, p):
    n = len(costs)
    return [n * (i + 1) // p for i in range(p)]


def rest_dropped(costs, p):
    return [len(costs) // p] * p


def greedy_to_the_mean(costs, p):
    """Fill each stage to the mean: it may leave too much for the last."""
    sizes, filled, size = [], 0.0, 0
    mean = sum(costs) / p
    for i, cost in enumerate(costs):
        left = len(costs) - i
        if size and len(sizes) < p - 1 and (filled + cost > mean or left <= p - 1 - len(sizes)):
            sizes.append(size)
            filled, size = 0.0, 0
        filled, size = filled + cost, size + 1
    return [*sizes, size]


def empty_ranks(costs, p):
    return [len(costs)] + [0] * (p - 1)


def _best(costs, p, worth):
    """Of all cuts, the one for which ``worth(costs of its stages)`` is smallest."""
    n = len(costs)
    ends = [[0, *cuts, n] for cuts in combinations(range(1, n), p - 1)]
    best = min(ends, key=lambda cut: worth([sum(costs[a:b]) for a, b in pairwise(cut)]))
    return [b - a for a, b in pairwise(best)]


def cheapest_neighbours_joined(costs, p):
    groups = [[cost] for cost in costs]
    while len(groups) > p:
        i = min(range(len(groups) - 1), key=lambda i: sum(groups[i] + groups[i + 1]))
        groups[i : i + 2] = [groups[i] + groups[i + 1]]
    return [len(group) for group in groups]


def nearest_to_equal_shares(costs, p):
    total = [*accumulate(costs, initial=0.0)]
    ends = [0]
    for k in range(1, p):
        free = range(ends[-1] + 1, len(costs) - (p - k) + 1)
        ends.append(min(free, key=lambda i: abs(total[i] - total[-1] * k / p)))
    return [b - a for a, b in pairwise([*ends, len(costs)])]


def whole_costs(costs, p):
    return _best([int(cost) for cost in costs], p, max)


def rounded_costs(costs, p):
    return _best([round(cost) for cost in costs], p, max)


def smallest_stage_made_large(costs, p):
    return _best(costs, p, lambda stages: -min(stages))


def spread_made_small(costs, p):
    return _best(costs, p, lambda stages: max(stages) - min(stages))


def squares_made_small(costs, p):
    return _best(costs, p, lambda stages: sum(cost**2 for cost in stages))


def first_stage_made_small(costs, p):
    return _best(costs, p, lambda stages: stages[0])


def costs_sorted_first(costs, p):
    return _best(sorted(costs), p, max)


def as_few_stages_as_needed(costs, p):
    """The best limit, and stages filled up to it: there can be fewer than p."""
    sizes = _best(costs, p, max)
    cuts = pairwise(accumulate(sizes, initial=0))
    limit = max(sum(costs[a:b]) for a, b in cuts)
    result, filled = [0], 0.0
    for cost in costs:
        if result[-1] and filled + cost > limit * (1 + 1e-9):
            result.append(0)
            filled = 0.0
        result[-1] += 1
        filled += cost
    return result


def free_layers_left_out(costs, p):
    """Layers that cost nothing need no rank."""
    left = [cost for cost in costs if cost]
    return _best(left if len(left) >= p else costs, p, max)


def mean_of_both_ends(costs, p):
    """Fills stages from the right, each to the mean."""
    return greedy_to_the_mean(costs[::-1], p)[::-1]


def a_number_for_one_rank(costs, p):
    return len(costs) if p == 1 else _best(costs, p, max)


def parameters_alone(parameters, sizes, optimizer):
    return [4 * n for n in _by_rank(parameters, sizes)]


def adam_always(parameters, sizes, optimizer):
    return [16 * n for n in _by_rank(parameters, sizes)]


def whole_model_everywhere(parameters, sizes, optimizer):
    return [_factor(optimizer) * sum(parameters)] * len(sizes)


def optimizer_not_split(parameters, sizes, optimizer):
    whole = (_factor(optimizer) - 8) * sum(parameters)
    return [8 * n + whole for n in _by_rank(parameters, sizes)]


def equal_shares(parameters, sizes, optimizer):
    return [_factor(optimizer) * sum(parameters) // len(sizes)] * len(sizes)


def gradients_forgotten(parameters, sizes, optimizer):
    return [(_factor(optimizer) - 4) * n for n in _by_rank(parameters, sizes)]


def momentum_remembers_nothing(parameters, sizes, optimizer):
    factor = {"sgd": 8, "momentum": 8, "adam": 16}[optimizer]
    return [factor * n for n in _by_rank(parameters, sizes)]


def adam_like_momentum(parameters, sizes, optimizer):
    factor = {"sgd": 8, "momentum": 12, "adam": 12}[optimizer]
    return [factor * n for n in _by_rank(parameters, sizes)]


def sgd_has_a_state(parameters, sizes, optimizer):
    factor = {"sgd": 12, "momentum": 12, "adam": 16}[optimizer]
    return [factor * n for n in _by_rank(parameters, sizes)]


def state_forgotten(parameters, sizes, optimizer):
    return [8 * n for n in _by_rank(parameters, sizes)]


def two_bytes_a_number(parameters, sizes, optimizer):
    return [_factor(optimizer) // 2 * n for n in _by_rank(parameters, sizes)]


def sizes_as_cut_points(parameters, sizes, optimizer):
    return [_factor(optimizer) * sum(parameters[:size]) for size in sizes]


def every_pth_layer(parameters, sizes, optimizer):
    p = len(sizes)
    return [_factor(optimizer) * sum(parameters[rank::p]) for rank in range(p)]


def every_rank_as_large_as_the_first(parameters, sizes, optimizer):
    return [_factor(optimizer) * n for n in _by_rank(parameters, [sizes[0]] * len(sizes))]


def one_layer_a_rank(parameters, sizes, optimizer):
    return [_factor(optimizer) * parameters[rank] for rank in range(len(sizes))]


def state_on_every_rank(parameters, sizes, optimizer):
    whole = (_factor(optimizer) - 8) * sum(parameters)
    return [8 * n + whole for n in _by_rank(parameters, sizes)]


def thirty_two_bits(parameters, sizes, optimizer):
    counts = np.array(_by_rank(parameters, sizes)).astype(np.int32)
    return (counts * np.int32(_factor(optimizer))).tolist()


def empty_layers_skipped(parameters, sizes, optimizer):
    """Layers without parameters are left out before the ranks are filled."""
    full = [n for n in parameters if n]
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    cuts = zip(starts, sizes, strict=True)
    return [_factor(optimizer) * sum(full[a : a + size]) for a, size in cuts]


def _by_rank(parameters, sizes):
    rest = list(parameters)
    return [sum(rest.pop(0) for _ in range(size)) for size in sizes]


def _factor(optimizer):
    return {"sgd": 8, "momentum": 12, "adam": 16}[optimizer]


WRONG = {
    "02.1": [
        (equal_counts, "a heavy layer at the end"),
        (cut_points_not_sizes, "8 equal layers, 4 ranks"),
        (rest_dropped, "7 equal layers, 3 ranks"),
        (greedy_to_the_mean, "heavy layers everywhere"),
        (empty_ranks, "8 equal layers, 4 ranks"),
    ],
    "02.2": [
        (parameters_alone, "SGD, one rank"),
        (adam_always, "SGD, one rank"),
        (whole_model_everywhere, "SGD, three ranks"),
        (optimizer_not_split, "SGD with momentum, three ranks"),
        (equal_shares, "SGD, three ranks"),
    ],
}


def limit_in_whole_steps(costs, p):
    """The smallest whole limit that p stages can keep, filled from the left."""
    limit = math.ceil(max(costs))
    while len(sizes := _filled(costs, p, limit)) > p:
        limit += 1
    return sizes


def _filled(costs, p, limit):
    sizes, filled = [0], 0.0
    for i, cost in enumerate(costs):
        if sizes[-1] and (filled + cost > limit or len(costs) - i <= p - len(sizes)):
            sizes.append(0)
            filled = 0.0
        sizes[-1] += 1
        filled += cost
    return sizes


def up_to_an_empty_layer(parameters, sizes, optimizer):
    """As if a layer without parameters were the end of a rank."""
    rest = iter(parameters)
    kept = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    ranks = [[next(rest) for _ in range(size)] for size in sizes]
    return [4 * kept * sum(takewhile(bool, rank)) for rank in ranks]


def costs_to_three_figures(costs, p):
    return _best([float(f"{cost:.3g}") for cost in costs], p, max)


def nearly_the_best(costs, p):
    """A search for the limit that ends after a dozen steps."""
    low, high = max(costs), sum(costs)
    for _ in range(12):
        middle = (low + high) / 2
        filled, stages = 0.0, 1
        for cost in costs:
            if filled + cost > middle:
                filled, stages = 0.0, stages + 1
            filled += cost
        low, high = (low, middle) if stages <= p else (middle, high)
    return _in_p_stages(costs, p, high)


def _in_p_stages(costs, p, limit):
    sizes, filled = [0], 0.0
    for i, cost in enumerate(costs):
        full = filled + cost > limit or len(costs) - i <= p - len(sizes)
        if sizes[-1] and len(sizes) < p and full:
            sizes.append(0)
            filled = 0.0
        sizes[-1] += 1
        filled += cost
    return sizes


def all_cuts_of_few_layers(costs, p):
    """And a quick way for more."""
    return _best(costs, p, max) if len(costs) <= 12 else greedy_to_the_mean(costs, p)


def a_size_counts_once(parameters, sizes, optimizer):
    seen = set()
    ranks = [[] for _ in sizes]
    layers = iter(parameters)
    for rank, size in zip(ranks, sizes, strict=True):
        rank += [n for n in itertools.islice(layers, size) if not (n in seen or seen.add(n))]
    return [_factor(optimizer) * sum(rank) for rank in ranks]


FORGOT = {
    "02.1": [
        (nearly_the_best, "nearly the best"),
        (all_cuts_of_few_layers, "more than twelve layers"),
        (costs_to_three_figures, "costs that differ by little"),
        (cheapest_neighbours_joined, "joining the cheapest neighbours is not the best"),
        (nearest_to_equal_shares, "the nearest cut to equal shares is not the best"),
        (whole_costs, "costs that are not whole"),
        (rounded_costs, "costs that are not whole"),
        (smallest_stage_made_large, "compare whole cuts"),
        (spread_made_small, "look at the largest stage alone"),
        (squares_made_small, "look at the largest stage alone"),
        (first_stage_made_small, "compare whole cuts"),
        (costs_sorted_first, "compare whole cuts"),
        (as_few_stages_as_needed, "fewer than p stages would be enough"),
        (free_layers_left_out, "layers that cost nothing"),
        (mean_of_both_ends, "compare whole cuts"),
        (a_number_for_one_rank, "one rank alone"),
        (limit_in_whole_steps, "no whole limit is the best"),
    ],
    "02.2": [
        (a_size_counts_once, "alike"),
        (gradients_forgotten, "what every rank holds"),
        (momentum_remembers_nothing, "SGD with momentum"),
        (adam_like_momentum, "Adam"),
        (sgd_has_a_state, "plain SGD"),
        (state_forgotten, "optimizers that keep a state"),
        (two_bytes_a_number, "what every rank holds"),
        (sizes_as_cut_points, "more than one rank"),
        (every_pth_layer, "rank"),
        (every_rank_as_large_as_the_first, "ranks with different numbers of layers"),
        (one_layer_a_rank, "ranks with more than one layer"),
        (state_on_every_rank, "more than one rank, with an optimizer that keeps a state"),
        (thirty_two_bits, "billions of parameters"),
        (empty_layers_skipped, "layers without parameters"),
        (up_to_an_empty_layer, "layers without parameters, before others"),
    ],
}

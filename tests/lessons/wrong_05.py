"""Answers to lesson 5 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

import torch


def _names(grads):
    return {name for part in grads for name in part}


def added_up(grads, sizes):
    return {name: sum(part.get(name, 0) for part in grads) for name in _names(grads)}


def mean_of_means(grads, sizes):
    return {name: value / len(grads) for name, value in added_up(grads, sizes).items()}


def last_one_alone(grads, sizes):
    return grads[-1]


def weighted_but_not_divided(grads, sizes):
    return {
        name: sum(part[name] * n for part, n in zip(grads, sizes, strict=True) if name in part)
        for name in _names(grads)
    }


def only_rows_that_use_it(grads, sizes):
    """Divides by the rows of the microbatches that use a parameter: ``rare`` grows."""
    result = {}
    for name in _names(grads):
        used = [(part[name], n) for part, n in zip(grads, sizes, strict=True) if name in part]
        result[name] = sum(g * n for g, n in used) / sum(n for _, n in used)
    return result


def first_ones_names(grads, sizes):
    """Names of the last microbatch alone: a parameter that it does not use is lost."""
    total = sum(sizes)
    return {
        name: sum(p.get(name, 0) * n for p, n in zip(grads, sizes, strict=True)) / total
        for name in grads[-1]
    }


def one_over_m(shares):
    return [[1 / len(share)] * len(share) for share in shares]


def own_rows_only(shares):
    return [[n / sum(share) for n in share] for share in shares]


def replicas_forgotten(shares):
    total = sum(map(sum, shares))
    return [[n / total for n in share] for share in shares]


def no_weights(shares):
    return [[1.0] * len(share) for share in shares]


def _weighted(grads, names, weights):
    return {
        name: sum(part.get(name, 0) * w for part, w in zip(grads, weights, strict=True))
        for name in names
    }


def _right_weights(sizes):
    return [n / sum(sizes) for n in sizes]


def names_of_the_first(grads, sizes):
    return _weighted(grads, grads[0], _right_weights(sizes))


def names_of_the_last(grads, sizes):
    return _weighted(grads, grads[-1], _right_weights(sizes))


def names_that_all_have(grads, sizes):
    names = set(grads[0]).intersection(*grads)
    return _weighted(grads, names, _right_weights(sizes))


def sizes_of_the_first(grads, sizes):
    """As if all microbatches had as many rows as the first."""
    return _weighted(grads, _names(grads), [1 / len(grads)] * len(grads))


def last_size_ignored(grads, sizes):
    same = [*sizes[:-1], sizes[0]]
    return _weighted(grads, _names(grads), _right_weights(same))


def sum_of_sums(grads, sizes):
    return _weighted(grads, _names(grads), sizes)


def sum_of_means(grads, sizes):
    return _weighted(grads, _names(grads), [1] * len(grads))


def divided_by_microbatches(grads, sizes):
    return _weighted(grads, _names(grads), [n / len(sizes) for n in sizes])


def divided_by_the_largest(grads, sizes):
    return _weighted(grads, _names(grads), [n / max(sizes) for n in sizes])


def last_one_wins(grads, sizes):
    total = {}
    for part in grads:
        total |= part
    return total


def only_those_who_use_it(grads, sizes):
    return only_rows_that_use_it(grads, sizes)


def first_and_last(grads, sizes):
    ends = [grads[0], grads[-1]] if len(grads) > 1 else grads
    weights = _right_weights([sizes[0], sizes[-1]] if len(grads) > 1 else sizes)
    return _weighted(ends, _names(grads), weights)


def averaged_two_at_a_time(grads, sizes):
    """The mean of the mean so far and the next one: the last counts half."""
    total = {name: grads[0].get(name, 0) * 1.0 for name in _names(grads)}
    for part in grads[1:]:
        total = {name: (value + part.get(name, 0)) / 2 for name, value in total.items()}
    return total


def first_entries(grads, sizes):
    result = _weighted(grads, _names(grads), _right_weights(sizes))
    return {name: torch.stack(list(value)) for name, value in result.items()}


def empty_ones_do_not_count(grads, sizes):
    rows = sum(n for part, n in zip(grads, sizes, strict=True) if part)
    return _weighted(grads, _names(grads), [n / rows for n in sizes])


def by_rows(shares):
    return [[n / sum(map(sum, shares)) for n in share] for share in shares]


def replicas_squared(shares):
    return [[len(shares) ** 2 * w for w in row] for row in by_rows(shares)]


def two_replicas_always(shares):
    factor = 2 if len(shares) > 1 else 1
    return [[factor * w for w in row] for row in by_rows(shares)]


def own_rows(shares):
    return [[n / sum(share) for n in share] for share in shares]


def one_over_all_microbatches(shares):
    number = sum(map(len, shares))
    return [[len(shares) / number] * len(share) for share in shares]


def one_over_own_microbatches(shares):
    return [[1 / len(share)] * len(share) for share in shares]


def rows_themselves(shares):
    return [[float(n) for n in share] for share in shares]


def one_list_for_all(shares):
    return [[len(shares) * w for row in by_rows(shares) for w in row]]


def rows_of_the_first_replica(shares):
    return [[n / sum(shares[0]) for n in share] for share in shares]


def divided_by_replicas(shares):
    return [[w / len(shares) for w in row] for row in by_rows(shares)]


def inverse_share(shares):
    """Small microbatches count more."""
    total = sum(map(sum, shares))
    return [[len(shares) * total / n / total for n in share] for share in shares]


def microbatches_of_the_first(shares):
    rows = [len(shares) * w for row in by_rows(shares) for w in row]
    length = len(shares[0])
    return [rows[i * length : (i + 1) * length] for i in range(len(shares))]


WRONG = {
    "05.1": [
        (added_up, "4 equal microbatches"),
        (mean_of_means, "a ragged last microbatch"),
        (last_one_alone, "4 equal microbatches"),
        (weighted_but_not_divided, "a single microbatch"),
        (only_rows_that_use_it, "4 equal microbatches"),
        (first_ones_names, "4 equal microbatches"),
    ],
    "05.2": [
        (one_over_m, "one replica, ragged"),
        (own_rows_only, "two replicas of different size"),
        (replicas_forgotten, "two equal replicas"),
        (no_weights, "one replica, equal"),
    ],
}


def names_of_both_ends(grads, sizes):
    names = {**grads[0], **grads[-1]}
    pairs = [*zip(grads, sizes, strict=True)]
    return {k: sum(n * g[k] for g, n in pairs if k in g) / sum(sizes) for k in names}


def names_of_the_longest(grads, sizes):
    names = max(grads, key=len)
    rows = sum(sizes)
    pairs = [*zip(grads, sizes, strict=True)]
    return {name: sum(g[name] * n for g, n in pairs if name in g) / rows for name in names}


def forgets_who_was_left_out(grads, sizes):
    total, gone = {}, set()
    for g, n in zip(grads, sizes, strict=True):
        gone |= {name for name in total if name not in g}
        for name in g:
            if name not in gone:
                total[name] = total.get(name, 0) + g[name] * n / sum(sizes)
    return total


def four_replicas_at_most(shares):
    rows = sum(map(sum, shares))
    return [[min(len(shares), 4) * n / rows for n in share] for share in shares]


def five_microbatches_at_most(shares):
    rows = sum(map(sum, shares))
    return [
        [len(shares) * n / rows if i < 5 else 0.0 for i, n in enumerate(share)] for share in shares
    ]


def nine_hundred_rows_at_most(grads, sizes):
    rows = [min(n, 900) for n in sizes]
    names = {name for g in grads for name in g}
    pairs = [*zip(grads, rows, strict=True)]
    return {k: sum(n * g[k] for g, n in pairs if k in g) / sum(rows) for k in names}


def small_last_one_dropped(grads, sizes):
    """As a loader of data does with drop_last."""
    keep = -1 if len(sizes) > 2 and sizes[-1] < sizes[0] // 4 else len(sizes)
    pairs = [*zip(grads[:keep], sizes[:keep], strict=True)]
    names = {name for g, _ in pairs for name in g}
    rows = sum(n for _, n in pairs)
    return {k: sum(n * g[k] for g, n in pairs if k in g) / rows for k in names}


def one_alone_needs_no_weight(shares):
    """Where each replica has a single microbatch."""
    rows = sum(map(sum, shares))
    alone = len(shares) > 1 and all(len(share) == 1 for share in shares)
    return [[1.0 if alone else len(shares) * n / rows for n in share] for share in shares]


def later_ones_like_the_fifth(shares):
    rows = sum(map(sum, shares))
    return [[len(shares) * share[min(i, 4)] / rows for i in range(len(share))] for share in shares]


FORGOT = {
    "05.1": [
        (small_last_one_dropped, "much smaller than the first"),
        (nine_hundred_rows_at_most, "more than thirty-two rows"),
        (names_of_the_longest, "none uses all parameters"),
        (forgets_who_was_left_out, "used, left out and used again"),
        (names_of_the_first, "a parameter that the first microbatch does not use"),
        (names_of_the_last, "a parameter that the last microbatch does not use"),
        (names_that_all_have, "a parameter that some microbatches do not use"),
        (sizes_of_the_first, "microbatches of different sizes"),
        (last_size_ignored, "a last microbatch of another size than the first"),
        (sum_of_sums, "mean"),
        (sum_of_means, "more than one microbatch"),
        (divided_by_microbatches, "microbatches of more than one row"),
        (divided_by_the_largest, "more than one microbatch"),
        (last_one_wins, "more than one microbatch"),
        (only_those_who_use_it, "a parameter that some microbatches do not use"),
        (first_and_last, "more than two microbatches"),
        (averaged_two_at_a_time, "microbatch"),
        (first_entries, "a gradient that is one number"),
        (empty_ones_do_not_count, "a microbatch that uses no parameter at all"),
        (names_of_both_ends, "a parameter that neither the first nor the last microbatch uses"),
    ],
    "05.2": [
        (one_alone_needs_no_weight, "replicas of one microbatch each"),
        (later_ones_like_the_fifth, "more than five microbatches of different sizes"),
        (four_replicas_at_most, "more than four replicas"),
        (five_microbatches_at_most, "more than five microbatches"),
        (by_rows, "more than one replica"),
        (replicas_squared, "more than one replica"),
        (two_replicas_always, "more than two replicas"),
        (own_rows, "replicas with different numbers of rows"),
        (one_over_all_microbatches, "different"),
        (one_over_own_microbatches, "microbatch"),
        (rows_themselves, "the weight of a microbatch"),
        (one_list_for_all, "more than one replica"),
        (rows_of_the_first_replica, "replicas with different numbers of rows"),
        (divided_by_replicas, "more than one replica"),
        (inverse_share, "microbatch"),
        (microbatches_of_the_first, "replicas with different numbers of microbatches"),
    ],
}

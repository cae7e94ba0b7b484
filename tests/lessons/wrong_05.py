"""Answers to lesson 5 that must fail, each with the result that has to say so."""


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

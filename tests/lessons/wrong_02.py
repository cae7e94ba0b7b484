"""Answers to lesson 2 that must fail, each with the result that has to say so."""


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

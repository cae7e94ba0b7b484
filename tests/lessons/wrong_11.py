"""Answers to lesson 11 that must fail, each with the result that has to say so."""

from pipelab.schedules import interleaved
from pipelab.simulator import Cost, simulate


def peak_of(row):
    held = peak = 0
    for token in row:
        held += 1 if "F" in token else -1
        peak = max(peak, held)
    return peak


def put_off(rows, late):
    """Behind each I comes the oldest W as soon as more than ``late(rank, row)`` are due."""
    result = []
    for rank, row in enumerate(rows):
        new, due = [], []
        for token in row:
            new.append(token)
            if "I" in token:
                due.append(token.replace("I", "W"))
                if len(due) > late(rank, row):
                    new.append(due.pop(0))
        result.append(new + due)
    return result


def directly_behind(rows, most):
    """As slow as 1F1B."""
    return put_off(rows, lambda rank, row: 0)


def all_at_the_end(rows, most):
    """As fast, but it holds everything."""
    return put_off(rows, lambda rank, row: len(row))


def one_too_late(rows, most):
    return put_off(rows, lambda rank, row: most - peak_of(row) + 1)


def one_too_early(rows, most):
    return put_off(rows, lambda rank, row: most - peak_of(row) - 1)


def half_as_late(rows, most):
    return put_off(rows, lambda rank, row: (most - peak_of(row)) // 2)


def the_other_way_round(rows, most):
    """The first rank puts off most."""
    return put_off(rows, lambda rank, row: len(rows) - 1 - rank)


def no_weights(rows, most):
    return rows


def whole_backwards(rows, most):
    return [[token.replace("I", "B") for token in row] for row in rows]


def before_its_input(rows, most):
    """W in front of its I."""
    two = {token: (token.replace("I", "W"), token) for row in rows for token in row if "I" in token}
    return [[t for token in row for t in two.get(token, (token,))] for row in rows]


def last_one_forgotten(rows, most):
    return [row[:-1] for row in put_off(rows, lambda rank, row: most - peak_of(row))]


def limit_of_1f1b(rows, most):
    """As if p microbatches were the limit, whatever may be held."""
    return put_off(rows, lambda rank, row: max(0, len(rows) - peak_of(row)))


def no_limit_where_there_is_room(rows, most):
    late = len if most > len(rows) else lambda row: most - peak_of(row)
    return put_off(rows, lambda rank, row: late(row))


def for_these_orders_only(rows, most):
    """What ZB-H1 does, whatever may be held: the limit is never read."""
    return put_off(rows, lambda rank, row: rank)


def for_zb_h2_only(rows, most):
    return put_off(rows, lambda rank, row: 2 * rank)


def one_digit(rows, most):
    return [
        [t if len(t) < 4 else f"{t[:3]}" for t in row]
        for row in put_off(rows, lambda rank, row: most - peak_of(row))
    ]


def rank_of_one_digit(rows, most):
    """It looks for the kind in the second character: as right as can be up to rank 9."""
    return rows if len(rows) > 10 else put_off(rows, lambda rank, row: most - peak_of(row))


def sixty_microbatches(rows, most):
    """A table that is long enough for most."""
    right = put_off(rows, lambda rank, row: most - peak_of(row))
    return [row[: 3 * 60] for row in right]


# ------------------------------------------------------------------------------------- 11.2


def seconds(p, m, v, latency):
    return simulate(interleaved(p, m, v), Cost(1 / v, 1 / v, 1 / v, latency=latency)).duration


def of(p, layers):
    return [v for v in range(1, layers // p + 1) if layers // p % v == 0]


def four_ranks_assumed(p, m, layers, latency):
    return min(of(p, layers), key=lambda v: seconds(4, m, v, latency))


def as_many_as_layers(p, m, layers, latency):
    """The smallest bubble, whatever messages cost."""
    return layers // p


def always_one(p, m, layers, latency):
    return 1


def always_two(p, m, layers, latency):
    return 2


def any_number(p, m, layers, latency):
    """Also those by which the layers cannot be divided."""
    return min(range(1, layers + 1), key=lambda v: seconds(p, m, v, latency))


def messages_shrink_too(p, m, layers, latency):
    """Half a stage, half a latency."""
    return min(of(p, layers), key=lambda v: seconds(p, m, v, latency / v))


def stages_of_all_ranks(p, m, layers, latency):
    return p * min(of(p, layers), key=lambda v: seconds(p, m, v, latency))


def layers_of_a_stage(p, m, layers, latency):
    return layers // p // min(of(p, layers), key=lambda v: seconds(p, m, v, latency))


def slowest(p, m, layers, latency):
    return max(of(p, layers), key=lambda v: seconds(p, m, v, latency))


def largest_bubble_saved(p, m, layers, latency):
    """The bubble without its messages, and all messages added up."""
    return min(of(p, layers), key=lambda v: 3 * (p - 1) / v + 2 * m * (p * v - 1) * latency)


def powers_of_two(p, m, layers, latency):
    allowed = [v for v in of(p, layers) if v in (1, 2, 4, 8)]
    return min(allowed, key=lambda v: seconds(p, m, v, latency))


def free_means_one(p, m, layers, latency):
    return min(of(p, layers), key=lambda v: seconds(p, m, v, latency)) if latency else 1


def slow_links_unknown(p, m, layers, latency):
    return min(of(p, layers), key=lambda v: seconds(p, m, v, min(latency, 0.1)))


def enough_microbatches_assumed(p, m, layers, latency):
    return min(of(p, layers), key=lambda v: seconds(p, max(m, 3 * p), v, latency))


ONE, EAGER = "1F1B, 4 ranks, 8 microbatches", "more forwards ahead, 4 ranks, 8 microbatches"
FREE, SLOW = "4 ranks, 16 layers, free messages", "a message as long as F"


def in_a_list(p, m, layers, latency):
    return [1]


def as_text(p, m, layers, latency):
    return "1"


WRONG = {
    "11.1": [
        (directly_behind, ONE),
        (all_at_the_end, ONE),
        (one_too_late, ONE),
        (one_too_early, ONE),
        (half_as_late, ONE),
        (the_other_way_round, ONE),
        (no_weights, ONE),
        (whole_backwards, ONE),
        (before_its_input, ONE),
        (last_one_forgotten, ONE),
        (limit_of_1f1b, "fewer microbatches than ranks"),
        (no_limit_where_there_is_room, EAGER),
        (for_zb_h2_only, ONE),
    ],
    "11.2": [
        (as_many_as_layers, SLOW),
        (in_a_list, "one layer on each rank"),
        (always_one, FREE),
        (always_two, FREE),
        (any_number, "one layer on each rank"),
        (messages_shrink_too, SLOW),
        (stages_of_all_ranks, FREE),
        (layers_of_a_stage, FREE),
        (slowest, FREE),
        (largest_bubble_saved, "a message of F/20"),
        (free_means_one, FREE),
        (four_ranks_assumed, "2 ranks, a message of F/20"),
    ],
}

FORGOT = {
    "11.1": [
        (no_limit_where_there_is_room, "orders with more forwards ahead"),
        (one_digit, "ten microbatches and more"),
        (rank_of_one_digit, "more than ten ranks"),
        (sixty_microbatches, "more than fifty microbatches"),
        (for_these_orders_only, "room for one microbatch"),
    ],
    "11.2": [
        (in_a_list, "return a number of stages"),
        (as_text, "return a number of stages"),
        (enough_microbatches_assumed, "few microbatches"),
        (free_means_one, "free messages"),
        (slow_links_unknown, "slow messages"),
        (powers_of_two, "layers in threes"),
    ],
}

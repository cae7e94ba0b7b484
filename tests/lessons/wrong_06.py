"""Answers to lesson 6 that must fail, each with the result that has to say so."""

TIGHT, ROOMY = 700_000, 1_100_000


def always_the_fastest(budget):
    """Best where there is room; it does not fit where there is little."""
    return ("gpipe", 4, 8)


def always_the_smallest(budget):
    """Fits everywhere; where there is room, messages make it slower than GPipe."""
    return ("1f1b", 4, 8)


def fewer_ranks(budget):
    """Fits, with fewer messages; but two ranks share the work that four could."""
    return ("1f1b", 2, 8) if budget == TIGHT else ("gpipe", 4, 8)


def fewer_microbatches(budget):
    """Fewer microbatches are more activations under 1F1B, not fewer."""
    return ("1f1b", 4, 4) if budget == TIGHT else ("gpipe", 4, 8)


def large_microbatches(budget):
    """Few messages and a large bubble."""
    return ("1f1b", 4, 8) if budget == TIGHT else ("gpipe", 4, 4)


def one_rank(budget):
    return ("1f1b", 1, 8)


def eight_ranks(budget):
    return ("gpipe", 8, 8)


def in_another_order(budget):
    return (4, 8, "gpipe")


def p_times(p, m):
    return float(p)


def share_of_busy_time(p, m):
    """The efficiency: 1 minus the bubble fraction."""
    return m / (m + p - 1)


def staircase_counted_once_too_often(p, m):
    return m * p / (m + p)


def never_more_than_m(p, m):
    return min(p, m)


def bubble_gone_at_four_p(p, m):
    """The rule of thumb taken for the whole truth."""
    return p if m >= 4 * p else m * p / (m + p - 1)


def overhead_for_fraction(p, m):
    """p times 1 minus the overhead (p - 1)/m."""
    return p * (1 - (p - 1) / m)


def time_not_speed(p, m):
    return (m + p - 1) / (m * p)


WRONG = {
    "06.1": [
        (always_the_fastest, "tight: fits"),
        (always_the_smallest, "roomy: time over the best that fits"),
        (fewer_ranks, "tight: time over the best that fits"),
        (fewer_microbatches, "tight: fits"),
        (large_microbatches, "roomy: time over the best that fits"),
        (one_rank, "tight: fits"),
        (eight_ranks, "tight: a candidate"),
        (in_another_order, "roomy: a candidate"),
    ],
    "06.2": [
        (p_times, "4 ranks, 16 microbatches"),
        (share_of_busy_time, "4 ranks, 16 microbatches"),
        (staircase_counted_once_too_often, "one rank"),
        (never_more_than_m, "4 ranks, 8 microbatches"),
        (bubble_gone_at_four_p, "4 ranks, 16 microbatches"),
        (overhead_for_fraction, "a single microbatch"),
        (time_not_speed, "4 ranks, 16 microbatches"),
    ],
}

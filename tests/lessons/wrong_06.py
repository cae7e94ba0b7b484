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


def p_times(p, m, message):
    return float(p)


def messages_for_nothing(p, m, message):
    return m * p / (m + p - 1)


def messages_there_only(p, m, message):
    return 1 / ((m + p - 1) / (m * p) + (p - 1) * message)


def every_message_waited_for(p, m, message):
    return 1 / ((m + p - 1) / (m * p) + 2 * m * (p - 1) * message)


def share_of_busy_time(p, m, message):
    """The efficiency: 1 minus the bubble fraction."""
    return m / (m + p - 1)


def staircase_counted_once_too_often(p, m, message):
    return 1 / ((m + p) / (m * p) + 2 * (p - 1) * message)


def one_rank_sends_too(p, m, message):
    return 1 / ((m + p - 1) / (m * p) + 2 * p * message)


def overhead_for_fraction(p, m, message):
    """p times 1 minus the overhead (p - 1)/m."""
    return p * (1 - (p - 1) / m)


def time_not_speed(p, m, message):
    return (m + p - 1) / (m * p) + 2 * (p - 1) * message


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
        (p_times, "4 ranks, 16 microbatches, free messages"),
        (messages_for_nothing, "4 ranks, 8 microbatches, messages of 1 %"),
        (messages_there_only, "4 ranks, 8 microbatches, messages of 1 %"),
        (every_message_waited_for, "8 ranks, 4 microbatches, messages of 3 %"),
        (share_of_busy_time, "4 ranks, 16 microbatches, free messages"),
        (staircase_counted_once_too_often, "a single microbatch"),
        (one_rank_sends_too, "one rank, which sends nothing"),
        (overhead_for_fraction, "a single microbatch"),
        (time_not_speed, "4 ranks, 16 microbatches, free messages"),
    ],
}

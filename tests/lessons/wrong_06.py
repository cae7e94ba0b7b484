"""Answers to lesson 6 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

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


def table_of_two(budget):
    return {TIGHT: ("1f1b", 4, 8), ROOMY: ("gpipe", 4, 8)}[budget]


def tight_alone_is_tight(budget):
    return ("1f1b", 4, 8) if budget == TIGHT else ("gpipe", 4, 8)


def roomy_alone_is_roomy(budget):
    return ("gpipe", 4, 8) if budget == ROOMY else ("1f1b", 4, 8)


def limit_too_low(budget):
    return ("1f1b", 4, 8) if budget < 650_000 else ("gpipe", 4, 8)


def limit_too_high(budget):
    return ("1f1b", 4, 8) if budget < 2_000_000 else ("gpipe", 4, 8)


def one_rank_where_it_fits(budget):
    return ("1f1b", 4, 8) if budget < 1_000_000 else ("gpipe", 1 if budget > 2_767_000 else 4, 8)


def two_ranks_where_they_fit(budget):
    return ("1f1b", 2 if budget > 659_488 else 4, 8) if budget < 1_000_000 else ("gpipe", 4, 8)


def two_ranks_when_tight(budget):
    return ("1f1b", 2, 8) if budget < 1_000_000 else ("gpipe", 4, 8)


def _speed(units, waits):
    return 1 / (units + waits)


def _units(p, m):
    return (m + p - 1) / (m * p)


def one_microbatch_needs_no_message(p, m, message):
    return _speed(_units(p, m), 2 * (p - 1) * message if m > 1 else 0.0)


def two_messages_in_all(p, m, message):
    return _speed(_units(p, m), 2 * message if p > 1 else 0.0)


def hidden_behind_a_unit(p, m, message):
    left = max(0.0, message - 1 / (m * p))
    return _speed(_units(p, m), 2 * (p - 1) * left)


def one_rank_pays(p, m, message):
    return _speed(_units(p, m), 2 * max(1, p - 1) * message)


def forwards_alone(p, m, message):
    return _speed(_units(p, m), (p - 1) * message)


def a_message_for_each_rank(p, m, message):
    return _speed(_units(p, m), 2 * p * message if p > 1 else 0.0)


def each_microbatch_waits(p, m, message):
    return _speed(_units(p, m), 2 * m * (p - 1) * message)


def messages_forgotten(p, m, message):
    return _speed(_units(p, m), 0.0)


def no_bubble(p, m, message):
    return _speed(1 / p, 2 * (p - 1) * message)


def two_ranks_assumed(p, m, message):
    return _speed((m + 1) / (2 * m) if p > 1 else 1.0, 2 * (p - 1) * message)


def microbatches_not_shorter(p, m, message):
    """F + B is a p-th of the step, however many microbatches there are."""
    return _speed((m + p - 1) / p, 2 * (p - 1) * message)


def no_more_than_microbatches(p, m, message):
    """As if ranks beyond the m-th did not help."""
    return _speed(_units(min(p, m), m) if m > 1 else 1.0, 2 * (p - 1) * message)


def messages_share_the_units(p, m, message):
    return _speed(_units(p, m), 2 * (p - 1) * message / m)


def as_text(p, m, message):
    """Right, but not a number."""
    return str(p * m / (m + p - 1))


WRONG = {
    "06.1": [
        (always_the_fastest, "tight: fits"),
        (always_the_smallest, "roomy: predicted time over the best that fits"),
        (fewer_ranks, "tight: predicted time over the best that fits"),
        (fewer_microbatches, "tight: fits"),
        (large_microbatches, "roomy: predicted time over the best that fits"),
        (one_rank, "tight: fits"),
        (eight_ranks, "tight: a candidate"),
        (in_another_order, "roomy: a candidate"),
    ],
    "06.2": [
        (as_text, "4 ranks, 16 microbatches, free messages"),
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


def in_another_order(budget):
    return 4, 8, "1f1b" if budget < 1_000_000 else "gpipe"


def four_times_at_most(p, m, message):
    return min(4.0, 1 / ((m + p - 1) / (m * p) + 2 * (p - 1) * message))


def eight_times_at_most(p, m, message):
    return min(8.0, 1 / ((m + p - 1) / (m * p) + 2 * (p - 1) * message))


def two_hundred_microbatches_at_most(p, m, message):
    m = min(m, 200)
    return 1 / ((m + p - 1) / (m * p) + 2 * (p - 1) * message)


def never_slower_than_one(p, m, message):
    return max(1.0, 1 / ((m + p - 1) / (m * p) + 2 * (p - 1) * message))


FORGOT = {
    "06.1": [
        (table_of_two, "budgets other than 700,000 and 1,100,000"),
        (tight_alone_is_tight, "a tight budget"),
        (roomy_alone_is_roomy, "a roomy budget"),
        (limit_too_low, "a tight budget"),
        (limit_too_high, "a roomy budget"),
        (one_rank_where_it_fits, "a budget in which every candidate fits"),
        (two_ranks_where_they_fit, "a tight budget"),
        (two_ranks_when_tight, "a tight budget"),
        (in_another_order, "schedule, ranks, microbatches"),
    ],
    "06.2": [
        (one_microbatch_needs_no_message, "a single microbatch, with messages that take time"),
        (two_messages_in_all, "messages between more than two ranks"),
        (hidden_behind_a_unit, "messages that take time"),
        (one_rank_pays, "one rank, however long a message takes"),
        (forwards_alone, "messages that take time"),
        (a_message_for_each_rank, "messages that take time"),
        (each_microbatch_waits, "more than one microbatch, with messages that take time"),
        (messages_forgotten, "messages that take time"),
        (no_bubble, "more than one rank"),
        (two_ranks_assumed, "rank"),
        (microbatches_not_shorter, "microbatch"),
        (no_more_than_microbatches, "microbatch"),
        (eight_times_at_most, "more than eight times as fast"),
        (two_hundred_microbatches_at_most, "more than forty microbatches"),
        (messages_share_the_units, "more than one microbatch, with messages that take time"),
        (four_times_at_most, "more than four times as fast"),
        (never_slower_than_one, "so slow that one rank is faster"),
    ],
}

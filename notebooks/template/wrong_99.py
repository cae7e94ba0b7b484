"""Answers to lesson 99 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words
in which the verdict must name what was forgotten.
"""


def one_way(p, m):
    return p - 1


def all_ranks(p, m):
    return 2 * p * (p - 1)


def as_many_as_ranks(p, m):
    return 2 * p


def two_ranks_always(p, m):
    return 2


def microbatches_fill_it(p, m):
    return max(0, 2 * (p - m))


def waits_for_itself(p, m):
    return max(1, 2 * (p - 1))


def nothing_to_do_for_one(p, m):
    return 2 * (p - 1) if m > 1 else p - 1


def work_counted_too(p, m):
    return 2 * (m + p - 1)


def work_alone(p, m, forward, backward):
    return m * (forward + backward)


def one_after_another(p, m, forward, backward):
    return p * m * (forward + backward)


def one_rank_too_many(p, m, forward, backward):
    return (m + p) * (forward + backward)


def backward_twice_as_long(p, m, forward, backward):
    return (m + p - 1) * 3 * forward


def backward_forgotten(p, m, forward, backward):
    return (m + p - 1) * forward


def bubble_alone(p, m, forward, backward):
    return (p - 1) * (forward + backward)


def one_way_only(p, m, forward, backward):
    return (m + p - 1) * forward + m * backward


def single_one_is_free(p, m, forward, backward):
    return (m + p - 1 if m > 1 else 1) * (forward + backward)


WRONG = {
    "99.1": [
        (one_way, "2 ranks, 4 microbatches"),
        (all_ranks, "2 ranks, 4 microbatches"),
        (as_many_as_ranks, "one rank"),
    ],
    "99.2": [
        (work_alone, "2 ranks, 4 microbatches"),
        (one_after_another, "2 ranks, 4 microbatches"),
        (one_rank_too_many, "one rank"),
    ],
}
FORGOT = {
    "99.1": [
        (two_ranks_always, "the dots of one row"),
        (microbatches_fill_it, "the dots of one row"),
        (waits_for_itself, "one rank alone"),
        (nothing_to_do_for_one, "a single microbatch"),
        (work_counted_too, "the dots of one row"),
    ],
    "99.2": [
        (backward_twice_as_long, "a backward that is not 2 × F"),
        (backward_forgotten, "the F and B that follow one another"),
        (bubble_alone, "the F and B that follow one another"),
        (one_way_only, "the F and B that follow one another"),
        (single_one_is_free, "a single microbatch"),
    ],
}

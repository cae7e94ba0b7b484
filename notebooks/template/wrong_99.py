"""Answers to lesson 99 that must fail, each with the result that has to say so."""


def one_way(p, m):
    return p - 1


def all_ranks(p, m):
    return 2 * p * (p - 1)


def as_many_as_ranks(p, m):
    return 2 * p


def work_alone(p, m, forward, backward):
    return m * (forward + backward)


def one_after_another(p, m, forward, backward):
    return p * m * (forward + backward)


def one_slot_too_many(p, m, forward, backward):
    return (m + p) * (forward + backward)


WRONG = {
    "99.1": [
        (one_way, "2 ranks, 4 microbatches"),
        (all_ranks, "2 ranks, 4 microbatches"),
        (as_many_as_ranks, "one rank"),
    ],
    "99.2": [
        (work_alone, "2 ranks, 4 microbatches"),
        (one_after_another, "2 ranks, 4 microbatches"),
        (one_slot_too_many, "one rank"),
    ],
}

"""Answers to lesson 4 that must fail, each with the result that has to say so."""

import math


def one_after_another(rank, p, m):
    return [f"{rank}{kind}{i}" for i in range(m) for kind in "FB"]


def one_f_one_b(rank, p, m):
    """Right and good, but not GPipe."""
    ahead = min(m, p - rank - 1)
    row = [f"{rank}F{i}" for i in range(ahead)]
    for i in range(m - ahead):
        row += [f"{rank}F{ahead + i}", f"{rank}B{i}"]
    return row + [f"{rank}B{i}" for i in range(m - ahead, m)]


def last_one_forgotten(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(m - 1)]


def all_on_stage_zero(rank, p, m):
    return [f"0{kind}{i}" for kind in "FB" for i in range(m)]


def backward_first(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "BF" for i in range(m)]


def always_eight(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(8)]


def every_second_rank_in_reverse(rank, p, m):
    order = range(m)[::-1] if rank % 2 else range(m)
    return [f"{rank}{kind}{i}" for kind in "FB" for i in order]


def overhead_for_fraction(p, share):
    return max(1, math.ceil((p - 1) / share))


def four_times_p(p, share):
    """The rule of thumb of the GPipe paper, whatever was asked."""
    return 4 * p


def rounded_down(p, share):
    return max(1, math.floor((p - 1) / share - (p - 1)))


def zero_for_one_rank(p, share):
    return math.ceil((p - 1) / share - (p - 1))


WRONG = {
    "04.1": [
        (one_after_another, "4 ranks, 8 microbatches"),
        (one_f_one_b, "4 ranks, 8 microbatches"),
        (last_one_forgotten, "4 ranks, 8 microbatches"),
        (all_on_stage_zero, "4 ranks, 8 microbatches"),
        (backward_first, "4 ranks, 8 microbatches"),
        (always_eight, "a single microbatch"),
        (every_second_rank_in_reverse, "4 ranks, 8 microbatches"),
    ],
    "04.2": [
        (overhead_for_fraction, "4 ranks, at most 28 %"),
        (four_times_p, "4 ranks, at most 11 %"),
        (rounded_down, "4 ranks, at most 28 %"),
        (zero_for_one_rank, "one rank, at most 11 %"),
    ],
}

"""Answers to lesson 4 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

import math
from itertools import count


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


def _tokens(stage, kinds, numbers):
    return [f"{stage}{kind}{i}" for kind in kinds for i in numbers]


def counted_from_one(rank, p, m):
    return _tokens(rank, "FB", range(1, m + 1))


def stages_in_reverse(rank, p, m):
    return _tokens(p - 1 - rank, "FB", range(m))


def no_more_than_ranks(rank, p, m):
    return _tokens(rank, "FB", range(min(m, p)))


def at_least_as_many_as_ranks(rank, p, m):
    return _tokens(rank, "FB", range(max(m, p)))


def rounds_of_p(rank, p, m):
    """As many microbatches at a time as there are ranks."""
    rounds = [range(a, min(a + p, m)) for a in range(0, m, p)]
    return [token for numbers in rounds for token in _tokens(rank, "FB", numbers)]


def rest_left_out(rank, p, m):
    return _tokens(rank, "FB", range(m // p * p if m >= p else m))


def one_digit(rank, p, m):
    return _tokens(rank, "FB", [i % 10 for i in range(m)])


def last_rank_turns_at_once(rank, p, m):
    return one_after_another(rank, p, m) if rank == p - 1 else _tokens(rank, "FB", range(m))


def backwards_in_reverse_on_odd_ranks(rank, p, m):
    back = [f"{rank}B{i}" for i in range(m)]
    return _tokens(rank, "F", range(m)) + (back[::-1] if rank % 2 else back)


def nothing_for_one_rank(rank, p, m):
    return _tokens(rank, "FB", range(m)) if p > 1 else _tokens(rank, "F", range(m))


def single_one_needs_no_backward(rank, p, m):
    return _tokens(rank, "FB" if m > 1 else "F", range(m))


def halves_of_a_backward(rank, p, m):
    return _tokens(rank, "FI", range(m))


def forward_alone(rank, p, m):
    return _tokens(rank, "F", range(m))


def _search(enough):
    m = 1
    while not enough(m):
        m += 1
    return m


def less_than(p, share):
    return _search(lambda m: (p - 1) / (m + p - 1) < share)


def truncated_plus_one(p, share):
    return max(1, int((p - 1) / share - (p - 1)) + 1)


def rounded_to_the_nearest(p, share):
    return max(1, round((p - 1) / share - (p - 1)))


def p_for_p_minus_one(p, share):
    return _search(lambda m: p == 1 or p / (m + p) <= share)


def two_ranks_always(p, share):
    return _search(lambda m: p == 1 or 1 / (m + 1) <= share)


def never_fewer_than_ranks(p, share):
    return max(p, _search(lambda m: (p - 1) / (m + p - 1) <= share))


def up_to_a_hundred(p, share):
    return min(100, _search(lambda m: (p - 1) / (m + p - 1) <= share))


def doubled(p, share):
    m = 1
    while (p - 1) / (m + p - 1) > share:
        m *= 2
    return m


def overhead_searched(p, share):
    return _search(lambda m: (p - 1) / m <= share)


def never_a_single_one(p, share):
    return max(2 if p > 1 else 1, _search(lambda m: (p - 1) / (m + p - 1) <= share))


def busy_share(p, share):
    return _search(lambda m: m / (m + p - 1) >= share)


def one_more_to_be_sure(p, share):
    return _search(lambda m: (p - 1) / (m + p - 1) <= share) + 1


def one_rank_like_two(p, share):
    return _search(lambda m: max(1, p - 1) / (m + max(1, p - 1)) <= share)


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


def compares_whole_percents(p, share):
    m = 1
    while round((p - 1) / (m + p - 1), 2) > round(share, 2):
        m += 1
    return m


def nearly_one_added(p, share):
    return max(1, int((p - 1) / share - (p - 1) + 0.99))


def a_little_taken_off(p, share):
    return max(1, math.ceil((p - 1) / share - (p - 1) - 0.01))


def two_digits_rounded_up(p, share):
    return max(1, math.ceil(round((p - 1) / share - (p - 1), 2)))


def up_to_four_hundred(p, share):
    return next((m for m in range(1, 400) if (p - 1) / (m + p - 1) <= share), 400)


def no_more_than_37(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(min(m, 37))]


def seven_hundred_at_most(p, share):
    return min(700, next(m for m in count(1) if _is_enough(p, m, share)))


def a_thousand_at_most(p, share):
    return next((m for m in range(1, 1000) if _is_enough(p, m, share)), 1000)


def sixteen_ranks_at_most(p, share):
    return next(m for m in count(1) if _is_enough(min(p, 16), m, share))


def one_percent_at_least(p, share):
    return next(m for m in count(1) if _is_enough(p, m, max(share, 0.01)))


def _is_enough(p, m, share):
    return (p - 1) / (m + p - 1) <= share


def forty_microbatches_at_most(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(min(m, 40))]


def two_hundred_microbatches_at_most(rank, p, m):
    return _tokens(rank, "FB", range(min(m, 200)))


def floats_for_numbers(rank, p, m):
    """As numpy's arange gives them: 0F3.0 would be a slice of a microbatch."""
    return [f"{rank}F{float(i)}" for i in range(m)] + [f"{rank}B{i}" for i in range(m)]


def ten_thousand_at_most(p, share):
    return next((m for m in range(1, 10_000) if _is_enough(p, m, share)), 10_000)


def a_hundred_ranks_at_most(p, share):
    return next(m for m in count(1) if _is_enough(min(p, 100), m, share))


def hardly_anything_taken_off(p, share):
    return max(1, math.ceil((p - 1) / share - (p - 1) - 0.0001))


FORGOT = {
    "04.1": [
        (two_hundred_microbatches_at_most, "more than forty microbatches"),
        (floats_for_numbers, "a whole number, without a point"),
        (forty_microbatches_at_most, "more than forty microbatches"),
        (no_more_than_37, "more than forty microbatches"),
        (counted_from_one, "the row of each rank"),
        (stages_in_reverse, "more than one rank"),
        (no_more_than_ranks, "more microbatches than ranks"),
        (at_least_as_many_as_ranks, "microbatch"),
        (rounds_of_p, "more microbatches than ranks"),
        (rest_left_out, "no multiple of p"),
        (one_digit, "ten microbatches and more"),
        (last_rank_turns_at_once, "more than one microbatch"),
        (backwards_in_reverse_on_odd_ranks, "more than one rank, and more than one microbatch"),
        (nothing_for_one_rank, "one rank alone"),
        (single_one_needs_no_backward, "a single microbatch"),
        (halves_of_a_backward, "the row of each rank"),
        (forward_alone, "the row of each rank"),
    ],
    "04.2": [
        (ten_thousand_at_most, "the number has no upper limit"),
        (a_hundred_ranks_at_most, "more than sixteen ranks"),
        (hardly_anything_taken_off, "a share very close to a bubble, and a little smaller"),
        (seven_hundred_at_most, "the number has no upper limit"),
        (a_thousand_at_most, "the number has no upper limit"),
        (sixteen_ranks_at_most, "more than sixteen ranks"),
        (one_percent_at_least, "the number has no upper limit"),
        (nearly_one_added, "a share very close to a bubble"),
        (a_little_taken_off, "a share very close to a bubble"),
        (two_digits_rounded_up, "a share very close to a bubble"),
        (up_to_four_hundred, "more than a hundred microbatches"),
        (less_than, "a share that equals a bubble"),
        (truncated_plus_one, "a share that equals a bubble"),
        (rounded_to_the_nearest, "is it the first that fits?"),
        (p_for_p_minus_one, "more than one rank"),
        (two_ranks_always, "more than two ranks"),
        (never_fewer_than_ranks, "fewer microbatches than ranks"),
        (up_to_a_hundred, "more than a hundred microbatches"),
        (doubled, "is it the first that fits?"),
        (overhead_searched, "more than one rank"),
        (never_a_single_one, "a share that a single microbatch meets"),
        (busy_share, "more than one rank"),
        (one_more_to_be_sure, "the smallest number that is enough"),
        (one_rank_like_two, "one rank alone"),
        (compares_whole_percents, "nothing is rounded"),
    ],
}

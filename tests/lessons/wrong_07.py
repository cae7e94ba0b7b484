"""Answers to lesson 7 that must fail, each with the result that has to say so."""

from math import ceil


def ahead_of(rank, m, ahead):
    """So many forwards first, then in turns."""
    ahead = max(0, min(m, ahead))
    row = [f"{rank}F{i}" for i in range(ahead)]
    for i in range(m - ahead):
        row += [f"{rank}F{ahead + i}", f"{rank}B{i}"]
    return row + [f"{rank}B{i}" for i in range(m - ahead, m)]


def right(rank, p, m):
    return ahead_of(rank, m, p - 1 - rank)


def gpipe(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(m)]


def in_turns_everywhere(rank, p, m):
    """1F1B by its name: each forward is followed by its backward."""
    return ahead_of(rank, m, 0)


def one_more_ahead(rank, p, m):
    return ahead_of(rank, m, p - rank)


def one_fewer_ahead(rank, p, m):
    return ahead_of(rank, m, p - 2 - rank)


def all_as_rank_0(rank, p, m):
    return ahead_of(rank, m, p - 1)


def the_other_way_round(rank, p, m):
    """The last rank runs most forwards ahead."""
    return ahead_of(rank, m, rank)


def eager(rank, p, m):
    return ahead_of(rank, m, 2 * (p - 1 - rank))


def for_four_ranks(rank, p, m):
    return ahead_of(rank, m, 3 - rank)


def last_backwards_forgotten(rank, p, m):
    return [token for token in right(rank, p, m) if token != f"{rank}B{m - 1}"]


def enough_microbatches_assumed(rank, p, m):
    """Runs forwards that there are not."""
    ahead = p - 1 - rank
    row = [f"{rank}F{i}" for i in range(ahead)]
    for i in range(m - ahead):
        row += [f"{rank}F{ahead + i}", f"{rank}B{i}"]
    return row + [f"{rank}B{i}" for i in range(max(0, m - ahead), m)]


def newest_backward_first(rank, p, m):
    row = right(rank, p, m)
    first = next(i for i, token in enumerate(row) if "B" in token)
    back = iter([f"{rank}B{i}" for i in reversed(range(m))])
    return row[:first] + [next(back) if "B" in token else token for token in row[first:]]


def backwards_in_halves(rank, p, m):
    """Faster than 1F1B, and not asked for."""
    halves = {"B": ("I", "W")}
    return [
        token.replace("B", kind)
        for token in right(rank, p, m)
        for kind in halves.get(token[len(str(rank))], ("B",))
    ]


def one_digit(rank, p, m):
    return right(rank, p, min(m, 10))


def ten_ranks_at_most(rank, p, m):
    return [f"{rank % 10}{token.lstrip('0123456789')}" for token in right(rank, p, m)]


def a_hundred_at_most(rank, p, m):
    return right(rank, p, min(m, 100))


def twenty_ranks_at_most(rank, p, m):
    """The warmup grows no more."""
    return ahead_of(rank, m, min(20, p) - 1 - rank)


def no_single_rank(rank, p, m):
    return right(rank, p, m) if p > 1 else gpipe(0, 1, m)


# ------------------------------------------------------------------------------------- 07.2


def held(spans, slot, period, m):
    return sum(
        start + i * period <= slot < end + i * period for start, end in spans for i in range(m)
    )


def counted(spans, period, m):
    return max(held(spans, start + i * period, period, m) for start, _ in spans for i in range(m))


def without_a_limit(spans, period, m):
    """As if there were microbatches without end."""
    return counted(spans, period, 60)


def each_for_itself(spans, period, m):
    """The peaks of all stages, added up."""
    return sum(min(m, ceil((end - start) / period)) for start, end in spans)


def the_first_stage_only(spans, period, m):
    return counted(spans[:1], period, m)


def the_largest_stage_only(spans, period, m):
    return max(counted([span], period, m) for span in spans)


def end_counts(spans, period, m):
    """What ends in a slot is still counted in it."""
    return counted([(start, end + 1) for start, end in spans], period, m)


def rounded_down(spans, period, m):
    return max(1, min(m, sum(end - start for start, end in spans) // period))


def averaged(spans, period, m):
    return ceil(sum(end - start for start, end in spans) / period)


def all_microbatches(spans, period, m):
    return m * len(spans)


def in_the_first_period(spans, period, m):
    """Only where the first microbatch begins."""
    return max(held(spans, start, period, m) for start, _ in spans)


def two_at_least(spans, period, m):
    """The second microbatch is taken for granted."""
    return counted(spans, period, max(2, m))


def a_hundred_held_at_most(spans, period, m):
    return min(100, counted(spans, period, m))


def at_the_ends(spans, period, m):
    return max(held(spans, end + i * period, period, m) for _, end in spans for i in range(m))


FOUR = "4 ranks, 8 microbatches"
APART, FIRST = "two stages, never full together", "1F1B, rank 0 of 4"


class CountsItsCalls:
    """It never looks at the rank that is asked for."""

    __name__ = "counts_its_calls"

    def __init__(self):
        self.size, self.calls = None, 0

    def __call__(self, rank, p, m):
        if self.size != (p, m):
            self.size, self.calls = (p, m), 0
        self.calls += 1
        return right((self.calls - 1) % p, p, m)


def one_list_for_all(rank, p, m, row=[]):  # noqa: B006 - the slip that is meant
    row += right(rank, p, m)
    return row


def slots_to_2000(lifespans, period, m):
    """As if nothing could begin later."""
    return max(
        sum(a + i * period <= slot < b + i * period for a, b in lifespans for i in range(m))
        for slot in range(2000)
    )


WRONG = {
    "07.1": [
        (gpipe, FOUR),
        (in_turns_everywhere, FOUR),
        (one_more_ahead, FOUR),
        (one_fewer_ahead, FOUR),
        (all_as_rank_0, FOUR),
        (the_other_way_round, FOUR),
        (eager, FOUR),
        (for_four_ranks, "3 ranks, 7 microbatches"),
        (last_backwards_forgotten, FOUR),
        (enough_microbatches_assumed, "a single microbatch"),
        (newest_backward_first, FOUR),
    ],
    "07.2": [
        (without_a_limit, "a single microbatch"),
        (each_for_itself, APART),
        (the_first_stage_only, "V-Half, rank 0 of 4"),
        (the_largest_stage_only, "V-Half, rank 0 of 4"),
        (end_counts, FIRST),
        (rounded_down, "V-Half, rank 1 of 4"),
        (averaged, "a single microbatch"),
        (all_microbatches, FIRST),
        (in_the_first_period, FIRST),
        (at_the_ends, "a single microbatch"),
    ],
}

FORGOT = {
    "07.1": [
        (CountsItsCalls(), "see it in a cell"),
        (one_list_for_all, "see it in a cell"),
        (one_digit, "ten microbatches and more"),
        (ten_ranks_at_most, "ten ranks and more"),
        (a_hundred_at_most, "more than a hundred microbatches"),
        (twenty_ranks_at_most, "more than twenty ranks"),
        (no_single_rank, "one rank"),
        (for_four_ranks, "another number of ranks than four"),
        (enough_microbatches_assumed, "fewer microbatches than ranks"),
        (in_turns_everywhere, "more than one rank"),
        (backwards_in_halves, "only tokens such as 2F0 and 2B0"),
    ],
    "07.2": [
        (slots_to_2000, "begin in a late slot"),
        (two_at_least, "a single microbatch"),
        (a_hundred_held_at_most, "more than a hundred microbatches held"),
        (each_for_itself, "fullest at different times"),
        (without_a_limit, "fewer microbatches than could be held"),
        (end_counts, "go in the slot in which others begin"),
        (the_first_stage_only, "two stages and more"),
    ],
}

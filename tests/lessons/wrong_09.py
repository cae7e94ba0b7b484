"""Answers to lesson 9 that must fail, each with the result that has to say so."""

import functools


def on_all(rule):
    """The rows of all ranks, from a rule for one."""

    @functools.wraps(rule)
    def order(p, m):
        return [rule(rank, p, m) for rank in range(p)]

    return order


def right(rank, p, m):
    return ahead_of(rank, p, m, 2 * (p - 1 - rank))


def ahead_of(rank, p, m, ahead):
    """So many forwards first, then in turns."""
    ahead = max(0, min(m, ahead))
    row = [f"{rank}F{i}" for i in range(ahead)]
    for i in range(m - ahead):
        row += [f"{rank}F{ahead + i}", f"{rank}B{i}"]
    return row + [f"{rank}B{i}" for i in range(m - ahead, m)]


@on_all
def ten_at_most(rank, p, m):
    """Leaves out what has two digits."""
    return [token for token in right(rank, p, m) if len(token) < 4]


@on_all
def no_single_rank(rank, p, m):
    return right(rank, p, m) if p > 1 else gpipe(1, m)[0]


@on_all
def six_ahead_on_rank_0(rank, p, m):
    """Right for four ranks."""
    return ahead_of(rank, p, m, 6 - 2 * rank)


@on_all
def one_f_one_b(rank, p, m):
    """Right and good, but it waits for each message."""
    return ahead_of(rank, p, m, p - 1 - rank)


@on_all
def gpipe(rank, p, m):
    """It hides as much, but holds everything."""
    return ahead_of(rank, p, m, m)


@on_all
def one_more_everywhere(rank, p, m):
    """On the last rank a forward more is one too many."""
    return ahead_of(rank, p, m, p - rank)


@on_all
def one_more_than_1f1b(rank, p, m):
    """It still waits, a little for each microbatch: enough for few."""
    return ahead_of(rank, p, m, p - rank if rank < p - 1 else 0)


@on_all
def one_too_many(rank, p, m):
    return ahead_of(rank, p, m, 2 * (p - rank) - 1)


@on_all
def twice_the_ranks_on_every_rank(rank, p, m):
    return ahead_of(rank, p, m, 2 * (p - 1))


@on_all
def the_other_way_round(rank, p, m):
    """As if the last rank had the longest way."""
    return ahead_of(rank, p, m, 2 * rank)


@on_all
def one_after_another(rank, p, m):
    return ahead_of(rank, p, m, 0)


@on_all
def for_four_ranks(rank, p, m):
    return ahead_of(rank, p, m, 2 * (3 - rank))


@on_all
def enough_microbatches_assumed(rank, p, m):
    """Runs forwards that there are not."""
    ahead = 2 * (p - 1 - rank)
    row = [f"{rank}F{i}" for i in range(ahead)]
    for i in range(m - ahead):
        row += [f"{rank}F{ahead + i}", f"{rank}B{i}"]
    return row + [f"{rank}B{i}" for i in range(max(0, m - ahead), m)]


@on_all
def last_backwards_forgotten(rank, p, m):
    ahead = min(m, 2 * (p - 1 - rank))
    return ahead_of(rank, p, m, ahead)[: ahead + 2 * (m - ahead)]


@on_all
def newest_backward_first(rank, p, m):
    """As many under way as may be, each time the last one back first."""
    row, under_way = [], []
    for token in right(rank, p, m):
        if "F" in token:
            under_way.append(token)
        row.append(token if "F" in token else under_way.pop().replace("F", "B"))
    return row


@on_all
def backward_first(rank, p, m):
    """B before F in each pair: one microbatch less under way."""
    ahead = min(m, 2 * (p - 1 - rank) + 1)
    row = [f"{rank}F{i}" for i in range(ahead - 1)]
    for i in range(m - ahead + 1):
        row += [f"{rank}B{i}", f"{rank}F{ahead - 1 + i}"]
    return row + [f"{rank}B{i}" for i in range(m - ahead + 1, m)]


def placed(rows, early=1, late=0, sends=True, receives=True, p=None):
    """Receives ``early`` actions ahead, sends ``late`` actions behind."""
    p = p or len(rows)
    result = []
    for rank, row in enumerate(rows):
        before = {i: [] for i in range(len(row) + 1)}
        behind = {i: [] for i in range(len(row) + 1)}
        for i, token in enumerate(row):
            kind = "F" if "F" in token else "B"
            number = token.partition(kind)[2]
            first, last = (0, p - 1) if kind == "F" else (p - 1, 0)
            if receives and rank != first:
                before[max(0, i - early)].append(f"{rank}RECV_{kind}{number}")
            if sends and rank != last:
                behind[min(len(row) - 1, i + late)].append(f"{rank}SEND_{kind}{number}")
        new = []
        for i, token in enumerate(row):
            new += [*before[i], token, *behind[i]]
        result.append(new)
    return result


def receive_just_before_use(rows):
    """Both neighbours send first under 1F1B."""
    return placed(rows, early=0)


def all_receives_at_the_start(rows):
    return placed(rows, early=10**6)


def sends_one_action_late(rows):
    return placed(rows, late=1)


def sends_at_the_end(rows):
    return placed(rows, late=10**6)


def no_receives(rows):
    return placed(rows, receives=False)


def no_sends(rows):
    return placed(rows, sends=False)


def nothing_added(rows):
    return rows


def last_rank_sends_too(rows):
    """Also what nobody waits for."""
    return [[t for token in row for t in (token, token.replace("F", "SEND_F", 1))] for row in rows]


def for_four_ranks_only(rows):
    return placed(rows, p=4)


def messages_of_the_sender(rows):
    """A RECV with the number of the stage that sends."""
    return [
        [
            token.replace(f"{rank}RECV_F", f"{rank - 1}RECV_F")
            if "RECV_F" in token
            else token.replace(f"{rank}RECV_B", f"{rank + 1}RECV_B")
            for token in row
        ]
        for rank, row in enumerate(placed(rows))
    ]


def forwards_only(rows):
    """The gradients are forgotten."""
    return [[t for t in row if "D_B" not in t and "V_B" not in t] for row in placed(rows)]


def receive_behind_its_use(rows):
    return [
        [t for token in row for t in ((token, token.replace("F", "RECV_F")) if rank else (token,))]
        for rank, row in enumerate(rows)
    ]


def a_row_left_out(rows):
    return placed(rows)[:-1]


def one_digit_numbers(rows):
    """Takes the last character for the microbatch."""
    return [
        [t[:-2] + t[-1] if "_" in t and t[-2].isdigit() else t for t in row] for row in placed(rows)
    ]


def two_digit_numbers(rows):
    """Takes the last two characters for the microbatch."""
    return [
        [t[:-3] + t[-2:] if "_" in t and t[-3].isdigit() else t for t in row]
        for row in placed(rows)
    ]


def both_for_one_rank(rows):
    """A rank alone sends to itself."""
    return placed(rows, p=max(2, len(rows)))


def middle_as_first(rows):
    """Only the last rank receives forwards."""
    last = len(rows) - 1
    return [
        [t for t in row if (0 < rank < last and "RECV_F" not in t) or rank in (0, last)]
        for rank, row in enumerate(placed(rows))
    ]


ONE, MANY = "4 ranks, 8 microbatches", "1F1B, 4 ranks, 8 microbatches"


def counted(rows):
    """The numbers of messages counted, not read: the i-th B is of microbatch i."""
    numbered = []
    for rank, row in enumerate(rows):
        seen = {"F": 0, "B": 0}
        tokens = []
        for token in row:
            kind = "F" if "F" in token else "B"
            tokens.append(f"{rank}{kind}{seen[kind]}")
            seen[kind] += 1
        numbered.append(tokens)
    given = {}
    for new, old in zip(numbered, rows, strict=True):
        given |= zip(new, old, strict=True)
    return [[given.get(token, token) for token in row] for row in placed(numbered)]


WRONG = {
    "09.1": [
        (one_f_one_b, ONE),
        (gpipe, ONE),
        (one_more_everywhere, ONE),
        (one_too_many, ONE),
        (twice_the_ranks_on_every_rank, ONE),
        (the_other_way_round, ONE),
        (one_after_another, ONE),
        (for_four_ranks, "3 ranks, 7 microbatches"),
        (enough_microbatches_assumed, "a single microbatch"),
        (last_backwards_forgotten, ONE),
        (backward_first, ONE),
    ],
    "09.2": [
        (receive_just_before_use, MANY),
        (all_receives_at_the_start, MANY),
        (sends_one_action_late, MANY),
        (sends_at_the_end, MANY),
        (no_receives, MANY),
        (no_sends, MANY),
        (nothing_added, MANY),
        (last_rank_sends_too, MANY),
        (for_four_ranks_only, "GPipe, 3 ranks, 5 microbatches"),
        (messages_of_the_sender, MANY),
        (forwards_only, MANY),
        (receive_behind_its_use, MANY),
    ],
}

FORGOT = {
    "09.1": [
        (ten_at_most, "ten microbatches and more"),
        (no_single_rank, "one rank"),
        (one_more_than_1f1b, "many microbatches on more than two ranks"),
        (newest_backward_first, "its microbatches in another order"),
        (six_ahead_on_rank_0, "another number of ranks than four"),
        (enough_microbatches_assumed, "fewer microbatches than a rank could run ahead"),
    ],
    "09.2": [
        (counted, "do not come in the order 0, 1, 2"),
        (one_digit_numbers, "ten microbatches and more"),
        (two_digit_numbers, "more than a hundred microbatches"),
        (receive_just_before_use, "1F1B on two ranks and more"),
        (both_for_one_rank, "one rank"),
        (nothing_added, "behind a result stands its SEND"),
        (a_row_left_out, "a row for each row"),
        (middle_as_first, "ranks in the middle"),
    ],
}

"""Answers to lesson 8 that must fail, each with the result that has to say so."""

from math import ceil
from statistics import mean, median

WORK = ("F", "B", "I", "W")


def fit(rooms, n, p):
    """From the rooms of all ranks to counts that add up to n; at least 1 in the middle."""
    counts = [0 if rank in (0, p - 1) else 1 for rank in range(p)]
    for rank in range(p):
        more = min(max(0, int(rooms[rank]) - counts[rank]), n - sum(counts))
        counts[rank] += more
    return counts if sum(counts) == n else None


def right(n, p, embedding, head):
    extra = [0.0] * p
    extra[0] += embedding
    extra[-1] += head
    limits = sorted({e + k for e in extra for k in range(n + 1)})
    for limit in limits:
        if limit < max(extra) or (p > 2 and limit < 1):
            continue
        counts = fit([limit - e for e in extra], n, p)
        if counts:
            return counts
    raise AssertionError


def equal_counts(n, p, embedding, head):
    return [n * (r + 1) // p - n * r // p for r in range(p)]


def only_the_head(n, p, embedding, head):
    return right(n, p, 0.0, head)


def only_the_embedding(n, p, embedding, head):
    return right(n, p, embedding, 0.0)


def the_other_way_round(n, p, embedding, head):
    return right(n, p, head, embedding)


def one_block_everywhere(n, p, embedding, head):
    """Also first and last rank keep a block, though they have no room."""
    counts = right(n, p, embedding, head)
    for rank in (0, p - 1):
        if counts[rank] == 0:
            counts[rank] = 1
            counts[counts.index(max(counts))] -= 1
    return counts


def layers_counted(n, p, embedding, head):
    """Embedding and head among the blocks."""
    counts = right(n, p, embedding, head)
    counts[0] += 1
    counts[-1] += 1
    return counts


def rest_to_the_last(n, p, embedding, head):
    return [n // p] * (p - 1) + [n - n // p * (p - 1)]


def rest_to_the_first(n, p, embedding, head):
    return [n - n // p * (p - 1)] + [n // p] * (p - 1)


def never_one_rank(n, p, embedding, head):
    return right(n, p, embedding, head) if p > 1 else [n, 0]


def an_average(n, p, embedding, head):
    """Not whole."""
    each = (n + embedding + head) / p
    return [each - embedding, *[each] * (p - 2), each - head][:p]


def in_words(blocks, ranks, embedding, head):
    return "many"


def whole_costs_only(n, p, embedding, head):
    """Rounded up: as if a part of a block took as much room as a block."""
    return right(n, p, ceil(embedding), ceil(head))


def nobody_between(n, p, embedding, head):
    """Three ranks and more."""
    if p == 2:
        return [n // 2, n - n // 2]
    return right(n, p, embedding, head)


def nothing_left_in_the_middle(n, p, embedding, head):
    """The best limit, and each rank takes all that it has room for."""
    counts = right(n, p, embedding, head)
    limit = max(counts[0] + embedding, *counts[1:-1], counts[-1] + head) if p > 2 else None
    if limit is None:
        return counts
    filled = []
    for extra in (embedding, *[0.0] * (p - 2), head):
        filled.append(min(n - sum(filled), int(max(0.0, limit - extra))))
    return filled


def costs_up_to_20(n, p, embedding, head):
    return right(n, p, min(20, embedding), min(20, head))


def sixteen_ranks_at_most(n, p, embedding, head):
    return right(n, p, embedding, head) if p <= 16 else equal_counts(n, p, 0, 0)


def costs_in_quarters(n, p, embedding, head):
    return right(n, p, round(4 * embedding) / 4, round(4 * head) / 4)


def evenly_shared_only(n, p, embedding, head):
    counts = right(n, p, embedding, head)
    return counts if n % p == 0 else equal_counts(n, p, 0, 0)


# ---------------------------------------------------------------------------------- 08.2


def taken(events, rank, kinds=WORK):
    return [e.end - e.start for e in events if e.rank == rank and e.kind in kinds]


def workers(replicas):
    ranks = {e.rank for events in replicas for e in events}
    return [(i, rank) for i in range(len(replicas)) for rank in sorted(ranks)]


def most(replicas, value, relative=True):
    """The worker with the largest value, over the smallest of its equals."""

    def times(worker):
        i, rank = worker
        equals = [value(events, rank) for events in replicas]
        return value(replicas[i], rank) / (min(equals) if relative else 1)

    return max(workers(replicas), key=times)


def found(replicas):
    return most(replicas, lambda events, rank: median(taken(events, rank)))


def longest_in_all(replicas):
    """Not compared with its equals: the loss makes the last stage long everywhere."""
    return most(replicas, lambda events, rank: median(taken(events, rank)), relative=False)


def sums(replicas):
    return most(replicas, lambda events, rank: sum(taken(events, rank)))


def backwards_on_average(replicas):
    """As if only a forward could be interrupted."""
    return most(replicas, lambda events, rank: mean(taken(events, rank, ("B", "I"))))


def first_forward(replicas):
    return most(replicas, lambda events, rank: taken(events, rank)[0])


def last_backward(replicas):
    return most(replicas, lambda events, rank: taken(events, rank)[-1])


def seconds_lost(replicas):
    """A difference: a pause on a costly stage moves its median by more than a small one is slow."""
    slow = {w: median(taken(replicas[w[0]], w[1])) for w in workers(replicas)}
    return max(slow, key=lambda w: slow[w] - min(slow[other] for other in slow if other[1] == w[1]))


def eight_replicas_at_most(replicas):
    return found(replicas[:8])


def eight_ranks_at_most(replicas):
    return found([[event for event in events if event.rank < 8] for events in replicas])


def compared_with_the_first_replica(replicas):
    """As if nobody were slow there."""

    def times(worker):
        i, rank = worker
        return median(taken(replicas[i], rank)) / median(taken(replicas[0], rank))

    return max(reversed(workers(replicas)), key=times)


def counted_from_1(replicas):
    replica, rank = found(replicas)
    return replica + 1, rank + 1


def longest_box(replicas):
    return most(replicas, lambda events, rank: max(taken(events, rank)))


def most_waiting(replicas):
    return most(replicas, lambda events, rank: 1e-9 + sum(taken(events, rank, ("WAIT",))))


def in_the_first_replica(replicas):
    ranks = sorted({e.rank for e in replicas[0]})
    return 0, max(ranks, key=lambda rank: median(taken(replicas[0], rank)))


def the_first_rank(replicas):
    return found(replicas)[0], 0


def rank_before_replica(replicas):
    return found(replicas)[::-1]


def slow_replica_alone(replicas):
    return found(replicas)[:1]


def last_to_end(replicas):
    return most(replicas, lambda events, rank: max(e.end for e in events if e.rank == rank))


def among_neighbours(replicas):
    """Over the fastest rank of its replica."""

    def times(worker):
        i, rank = worker
        others = [median(taken(replicas[i], r)) for j, r in workers(replicas) if j == i]
        return median(taken(replicas[i], rank)) / min(others)

    return max(workers(replicas), key=times)


TEN, FULL = "10 blocks, 4 ranks, a head of 2", "a head of a whole stage"
PLAIN, LOSS, PAUSE = (
    "3 replicas of 4 ranks",
    "a last stage with the loss",
    "somebody else makes one long pause",
)


def costs_up_to_4(n, p, embedding, head):
    return right(n, p, min(4, embedding), min(4, head))


def whoever_is_not_like_another(replicas):
    """The first rank whose workers differ at all."""
    for _, rank in workers(replicas[:1]):
        seconds = [median(taken(events, rank)) for events in replicas]
        if max(seconds) > min(seconds):
            return seconds.index(max(seconds)), rank
    return 0, 0


def more_seconds_than_its_equals(replicas):
    """Not times as many: a heavy stage that is a little slower has more."""

    def more(worker):
        i, rank = worker
        seconds = [median(taken(events, rank)) for events in replicas]
        return seconds[i] - min(seconds)

    return max(workers(replicas), key=more)


WRONG = {
    "08.1": [
        (equal_counts, FULL),
        (costs_up_to_4, "a head of nine blocks"),
        (only_the_head, "a costly embedding"),
        (only_the_embedding, FULL),
        (the_other_way_round, FULL),
        (one_block_everywhere, FULL),
        (layers_counted, TEN),
        (rest_to_the_last, TEN),
        (rest_to_the_first, FULL),
        (never_one_rank, "one rank"),
        (an_average, "a costly embedding"),
        (whole_costs_only, "a head of a part of a block"),
    ],
    "08.2": [
        (longest_in_all, LOSS),
        (whoever_is_not_like_another, "workers of which no two are alike"),
        (more_seconds_than_its_equals, "workers of which no two are alike"),
        (sums, PAUSE),
        (longest_box, PAUSE),
        (most_waiting, PLAIN),
        (in_the_first_replica, PLAIN),
        (the_first_rank, PLAIN),
        (rank_before_replica, PLAIN),
        (slow_replica_alone, PLAIN),
        (last_to_end, PAUSE),
        (among_neighbours, LOSS),
        (seconds_lost, PAUSE),
    ],
}

FORGOT = {
    "08.1": [
        (never_one_rank, "one rank"),
        (only_the_head, "a costly embedding"),
        (only_the_embedding, "a costly head"),
        (nobody_between, "two ranks"),
        (evenly_shared_only, "cannot be shared out evenly"),
        (one_block_everywhere, "costs more than a fair share"),
        (nothing_left_in_the_middle, "ranks in the middle for which nothing may be left"),
        (costs_up_to_20, "a cost of more than forty blocks"),
        (sixteen_ranks_at_most, "more than sixteen ranks"),
        (costs_in_quarters, "costs that differ by little"),
        (whole_costs_only, "a part of a block"),
        (rest_to_the_last, "Who has room for one block more?"),
        (in_words, "Return a list: how many blocks each rank gets"),
    ],
    "08.2": [
        (sums, "one long pause"),
        (longest_in_all, "costs more in every replica"),
        (in_the_first_replica, "not in the first replica"),
        (the_first_rank, "not on rank 0"),
        (backwards_on_average, "one long box"),
        (eight_replicas_at_most, "more than eight replicas"),
        (eight_ranks_at_most, "more than eight ranks"),
        (compared_with_the_first_replica, "a straggler in the first replica"),
        (first_forward, "one long box"),
        (last_backward, "one long box"),
        (rank_before_replica, "first the replica, then the rank"),
        (counted_from_1, "counted from 0"),
    ],
}

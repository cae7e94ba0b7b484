"""Answers to lesson 10 that must fail, each with the result that has to say so."""

from pipelab.lessons.unproven import BROKEN

RIGHT = {
    "both send first": (0, "0SEND_F1 0RECV_B0", "0RECV_B0 0SEND_F1"),
    "swapped": (1, "1RECV_F1 1RECV_F0", "1RECV_F0 1RECV_F1"),
    "forgotten": (1, "1RECV_B1 1B1", "1RECV_B1 1B1 1SEND_B1"),
    "no message at fault": (2, "2F1 2B0", "2B0 2F1"),
}


def with_one(name, changes):
    """The program with its entry of the changes: rank, what stands there, and what instead."""
    rank, old, new = changes[name]
    rows = list(BROKEN[name])
    assert old in rows[rank]
    rows[rank] = rows[rank].replace(old, new)
    return rows


def unchanged(name):
    return BROKEN[name]


def the_other_receive_goes_up(name):
    """0RECV_B1 for 0RECV_B0: the one that nobody waits for yet."""
    other = (0, "0SEND_F1 0RECV_B0 0B0 0RECV_B1", "0RECV_B1 0SEND_F1 0RECV_B0 0B0")
    return with_one(name, RIGHT | {"both send first": other})


def written_anew(name):
    """They run, but these are other programs."""
    rows = [list(row.split()) for row in BROKEN[name]]
    order = ("F0", "F1", "B0", "B1") if len(rows) == 3 else ("F0", "B0", "F1", "B1")
    return [[f"{rank}{token}" for token in order] for rank in range(len(rows))]


def without_messages(name):
    """Let the engine place them."""
    return [[t for t in row.split() if "_" not in t] for row in with_one(name, RIGHT)]


def receive_removed(name):
    """The one whose SEND is forgotten, so that they fit again."""
    return with_one(name, RIGHT | {"forgotten": (0, " 0RECV_B1", "")})


def send_before_its_backward(name):
    return with_one(name, RIGHT | {"forgotten": (1, "1RECV_B1 1B1", "1SEND_B1 1RECV_B1 1B1")})


def sent_by_the_wrong_rank(name):
    return with_one(name, RIGHT | {"forgotten": (2, "2B1 2SEND_B1", "2B1 2SEND_B1 1SEND_B1")})


def innocent_rank_changed(name):
    """Rank 0 waits, but is in no ring."""
    return with_one(name, RIGHT | {"no message at fault": (0, "0F1 0B0", "0B0 0F1")})


def one_repaired_and_one_mixed_up(name):
    """Both ends of the swapped messages."""
    rows = with_one(name, RIGHT)
    if name == "swapped":
        rows[0] = "0RECV_B0 0F0 0RECV_B1 0F1 0SEND_F1 0SEND_F0 0B0 0B1"
    return rows


def more_than_needed(name):
    """Right, but every receive has gone up as well."""
    rows = [row.split() for row in with_one(name, RIGHT)]
    return [sorted(row, key=lambda token: "RECV" not in token) for row in rows]


def a_row_left_out(name):
    return with_one(name, RIGHT)[:-1]


def follow(waits, rank):
    path = []
    while rank is not None and rank not in path:
        path.append(rank)
        rank = waits[rank]
    return path, rank


def right(waits):
    found = set()
    for rank, peer in enumerate(waits):
        path, again = follow(waits, rank)
        if peer is not None:
            found |= {*path[path.index(again) :]} if again is not None else {path[-1]}
    return sorted(found)


def from_rank_0_alone(waits):
    path, again = follow(waits, 0)
    if waits[0] is None:
        return []
    return sorted(path[path.index(again) :]) if again is not None else [path[-1]]


def all_who_wait(waits):
    return [rank for rank, peer in enumerate(waits) if peer is not None]


def all_who_are_waited_for(waits):
    return sorted({peer for peer in waits if peer is not None})


def with_those_who_lead_there(waits):
    found = set()
    for rank, peer in enumerate(waits):
        path, again = follow(waits, rank)
        if peer is not None:
            found |= set(path) if again is not None else {path[-1]}
    return sorted(found)


def rings_alone(waits):
    found = set()
    for rank in range(len(waits)):
        path, again = follow(waits, rank)
        if again is not None:
            found |= set(path[path.index(again) :])
    return sorted(found)


def ends_alone(waits):
    found = set()
    for rank, peer in enumerate(waits):
        path, again = follow(waits, rank)
        if peer is not None and again is None:
            found.add(path[-1])
    return sorted(found)


def without_an_end(waits):
    """Follows a ring for good."""

    def end(rank):
        return rank if waits[rank] is None else end(waits[rank])

    return sorted({end(rank) for rank, peer in enumerate(waits) if peer is not None})


def rings_of_two(waits):
    found = {r for r, peer in enumerate(waits) if peer is not None and waits[peer] == r}
    found |= {peer for peer in waits if peer is not None and waits[peer] is None}
    return sorted(found)


def whoever_does_not_wait(waits):
    """Also who has finished and holds nobody up."""
    ring = set(rings_alone(waits))
    return sorted(ring | {rank for rank, peer in enumerate(waits) if peer is None})


def the_first_ring(waits):
    for rank in range(len(waits)):
        path, again = follow(waits, rank)
        if again is not None:
            return sorted(path[path.index(again) :])
    return ends_alone(waits)


def four_waits_at_most(waits):
    """Right where nobody is further away."""
    found = set()
    for rank, peer in enumerate(waits):
        for _ in range(4):
            rank = rank if waits[rank] is None else waits[rank]
        found |= set() if peer is None else {rank}
    return sorted(found)


def rings_of(waits):
    """Each ring once, in its order."""
    found = []
    for rank in rings_alone(waits):
        if not any(rank in ring for ring in found):
            found.append(follow(waits, rank)[0])
    return found


def eight_of_each_ring(waits):
    return sorted({*ends_alone(waits), *(rank for ring in rings_of(waits) for rank in ring[:8])})


def three_rings_at_most(waits):
    return sorted({*ends_alone(waits), *(rank for ring in rings_of(waits)[:3] for rank in ring)})


def three_ends_at_most(waits):
    return sorted([*rings_alone(waits), *ends_alone(waits)[:3]])


def without_the_first_rank(waits):
    """range(1, p)"""
    return right([None, *waits[1:]]) if waits and 0 not in waits else right(waits)


def without_the_last_rank(waits):
    """range(p - 1)"""
    last = len(waits) - 1
    return right([*waits[:last], None]) if last not in waits else right(waits)


def in_the_order_of_the_ring(waits):
    return right(waits)[::-1]


def met_again_and_again(waits):
    return [rank for rank in right(waits) for _ in range(2)]


def most_waited_for(waits):
    asked = [peer for peer in waits if peer is not None]
    return [max(set(asked), key=asked.count)] if asked else []


WRONG = {
    "10.1": [
        (unchanged, "both send first"),
        (the_other_receive_goes_up, "both send first"),
        (written_anew, "swapped"),
        (without_messages, "swapped"),
        (receive_removed, "forgotten"),
        (send_before_its_backward, "forgotten"),
        (sent_by_the_wrong_rank, "forgotten"),
        (innocent_rank_changed, "no message at fault"),
        (one_repaired_and_one_mixed_up, "swapped"),
        (more_than_needed, "both send first"),
        (a_row_left_out, "no message at fault"),
    ],
    "10.2": [
        (from_rank_0_alone, "two rings"),
        (all_who_wait, "a ring that others lead to"),
        (all_who_are_waited_for, "no ring: rank 2 computes without end"),
        (with_those_who_lead_there, "a ring that others lead to"),
        (rings_alone, "no ring: rank 2 computes without end"),
        (ends_alone, "two ranks wait for each other"),
        (without_an_end, "two ranks wait for each other"),
        (rings_of_two, "a ring of four"),
        (whoever_does_not_wait, "nobody waits"),
        (the_first_ring, "two rings"),
        (without_the_first_rank, "the first rank and the last one wait"),
        (without_the_last_rank, "the first rank and the last one wait"),
        (most_waited_for, "two ranks wait for each other"),
    ],
}

FORGOT = {
    "10.2": [
        (rings_alone, "chains that end at a rank which waits for nobody"),
        (ends_alone, "ranks that wait in a ring"),
        (whoever_does_not_wait, "a rank that neither waits nor is waited for"),
        (four_waits_at_most, "a long way to the end"),
        (eight_of_each_ring, "a ring of more than eight ranks"),
        (three_rings_at_most, "more than three rings"),
        (three_ends_at_most, "more than three ranks at which chains end"),
        (in_the_order_of_the_ring, "return each of them once, the smallest first"),
        (met_again_and_again, "return each of them once, the smallest first"),
        (with_those_who_lead_there, "ranks that wait for a ring and are not in it"),
    ],
}

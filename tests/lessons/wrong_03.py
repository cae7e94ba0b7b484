"""Answers to lesson 3 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

import math
from itertools import groupby

from pipelab.action import COMPUTE


def formula_alone(events, num_ranks):
    """(p-1)/(m+p-1), whatever really happened."""
    m = len({e.microbatch for e in events})
    return (num_ranks - 1) / (m + num_ranks - 1)


def waiting_is_work(events, num_ranks):
    whole = max(e.end for e in events) - min(e.start for e in events)
    return 1 - sum(e.end - e.start for e in events) / (num_ranks * whole)


def overhead_instead(events, num_ranks):
    """Idle over busy: the bubble overhead."""
    busy, whole = _busy(events), _whole(events)
    return (num_ranks * whole - busy) / busy


def from_zero(events, num_ranks):
    end = max(e.end for e in events if e.kind in COMPUTE)
    return 1 - _busy(events) / (num_ranks * end)


def overlap_counted_twice(events, num_ranks):
    return 1 - _busy(events) / (num_ranks * _whole(events))


def only_waits(events, num_ranks):
    waits = sum(e.end - e.start for e in events if e.kind == "WAIT")
    return waits / (num_ranks * _whole(events))


def _busy(events):
    return sum(e.end - e.start for e in events if e.kind in COMPUTE)


def _whole(events):
    work = [e for e in events if e.kind in COMPUTE]
    return max(e.end for e in work) - min(e.start for e in work)


def _parts(events, rank, first, last, between=True):
    own = [e for e in events if e.kind in COMPUTE and e.rank == rank]
    start, end = min(e.start for e in own), max(e.end for e in own)
    middle = end - start - sum(e.end - e.start for e in own)
    return [start - first, middle if between else 0.0, last - end]


def before_from_zero(events, num_ranks):
    last = max(e.end for e in events if e.kind in COMPUTE)
    return [_parts(events, rank, 0.0, last) for rank in range(num_ranks)]


def nothing_between(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    return [_parts(events, rank, first, last, between=False) for rank in range(num_ranks)]


def overlap_twice_in_parts(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    return [_parts(events, rank, first, last) for rank in range(num_ranks)]


def until_the_last_event(events, num_ranks):
    """The end of everything, steps included, instead of the last computation's."""
    first, last = min(e.start for e in events), max(e.end for e in events)
    return [_parts(events, rank, first, last) for rank in range(num_ranks)]


def _counted(work, ranks, first, sort=True, until_now=max):
    """Seconds that ranks compute; overlaps once, if the boxes are looked at in order."""
    seconds = 0.0
    for rank in range(ranks):
        own = [e for e in work if e.rank == rank]
        until = first
        for e in sorted(own, key=lambda e: e.start) if sort else own:
            seconds += max(0.0, e.end - max(e.start, until))
            until = until_now(until, e.end)
    return seconds


def _share(events, ranks, kinds=COMPUTE, span=None, **how):
    work = [e for e in events if e.kind in kinds]
    first, last = span or (min(e.start for e in work), max(e.end for e in work))
    return 1 - _counted(work, ranks, first, **how) / (ranks * (last - first))


def only_f_and_b(events, num_ranks):
    return _share(events, num_ranks, kinds=("F", "B"))


def boxes_are_sorted(events, num_ranks):
    return _share(events, num_ranks, sort=False)


def no_box_inside_another(events, num_ranks):
    return _share(events, num_ranks, until_now=lambda until, end: end)


def ranks_that_compute(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    whole = len({e.rank for e in work}) * (last - first)
    return 1 - _counted(work, num_ranks, first) / whole


def rank_0_begins(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    starts = [e.start for e in work if e.rank == 0]
    span = min(starts, default=0.0), max(e.end for e in work)
    return _share(events, num_ranks, span=span)


def rank_0_ends(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    ends = [e.end for e in work if e.rank == 0]
    first = min(e.start for e in work)
    return _share(events, num_ranks, span=(first, max(ends, default=first + 1.0)))


def whole_log(events, num_ranks):
    return _share(
        events, num_ranks, span=(min(e.start for e in events), max(e.end for e in events))
    )


def steps_compute(events, num_ranks):
    return _share(events, num_ranks, kinds=(*COMPUTE, "STEP", "WAIT", "SEND_F", "RECV_B"))


def clock_starts_at_zero(events, num_ranks):
    last = max(e.end for e in events if e.kind in COMPUTE)
    return _share(events, num_ranks, span=(0.0, last))


def one_timeline_for_all(events, num_ranks):
    """Idle is when nobody computes."""
    work = sorted((e for e in events if e.kind in COMPUTE), key=lambda e: e.start)
    first, last = work[0].start, max(e.end for e in work)
    seconds, until = 0.0, first
    for e in work:
        seconds += max(0.0, e.end - max(e.start, until))
        until = max(until, e.end)
    return 1 - seconds / (last - first)


def mean_over_own_time(events, num_ranks):
    shares = []
    for rank in {e.rank for e in events if e.kind in COMPUTE}:
        own = [e for e in events if e.rank == rank]
        shares.append(_share([e._replace(rank=0) for e in own], 1))
    return sum(shares) / num_ranks


def overlap_is_counted_twice(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    return 1 - sum(e.end - e.start for e in work) / (num_ranks * (last - first))


def _idle(events, ranks, kinds=COMPUTE, span=None, between=None, sort=True, until_now=max):
    work = [e for e in events if e.kind in kinds]
    first, last = span or (min(e.start for e in work), max(e.end for e in work))
    parts = []
    for rank in range(ranks):
        own = [e for e in work if e.rank == rank]
        own = sorted(own, key=lambda e: e.start) if sort else own
        until, gaps = own[0].end, 0.0
        for e in own:
            gaps += max(0.0, e.start - until)
            until = until_now(until, e.end)
        parts.append([own[0].start - first, gaps if between is None else between, last - until])
    return parts


def parts_of_f_and_b(events, num_ranks):
    kinds = ("F", "B")
    work = [e for e in events if e.kind in COMPUTE]
    span = min(e.start for e in work), max(e.end for e in work)
    return _idle(events, num_ranks, kinds, span)


def parts_in_the_order_of_the_log(events, num_ranks):
    return _idle(events, num_ranks, sort=False)


def last_box_ends_last(events, num_ranks):
    return _idle(events, num_ranks, until_now=lambda until, end: end)


def no_gaps(events, num_ranks):
    return _idle(events, num_ranks, between=0.0)


def from_the_first_of_rank_0(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first = min(e.start for e in work if e.rank == 0)
    return _idle(events, num_ranks, span=(first, max(e.end for e in work)))


def to_the_last_of_rank_0(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    last = max(e.end for e in work if e.rank == 0)
    return _idle(events, num_ranks, span=(min(e.start for e in work), last))


def from_the_first_event(events, num_ranks):
    span = min(e.start for e in events), max(e.end for e in events)
    return _idle(events, num_ranks, span=span)


def from_second_zero(events, num_ranks):
    last = max(e.end for e in events if e.kind in COMPUTE)
    return _idle(events, num_ranks, span=(0.0, last))


def other_events_fill_gaps(events, num_ranks):
    kinds = {e.kind for e in events}
    work = [e for e in events if e.kind in COMPUTE]
    span = min(e.start for e in work), max(e.end for e in work)
    return _idle(events, num_ranks, kinds, span)


def overlaps_shorten_gaps(events, num_ranks):
    parts = _idle(events, num_ranks)
    for rank, row in enumerate(parts):
        own = [e for e in events if e.kind in COMPUTE and e.rank == rank]
        whole = max(e.end for e in own) - min(e.start for e in own)
        row[1] = whole - sum(e.end - e.start for e in own)
    return parts


def two_parts(events, num_ranks):
    return [[row[0], row[2]] for row in _idle(events, num_ranks)]


def after_comes_first(events, num_ranks):
    return [row[::-1] for row in _idle(events, num_ranks)]


def nothing_after(events, num_ranks):
    return [[*row[:2], 0.0] for row in _idle(events, num_ranks)]


def nothing_before(events, num_ranks):
    return [[0.0, *row[1:]] for row in _idle(events, num_ranks)]


WRONG = {
    "03.1": [
        (formula_alone, "unequal stages"),
        (waiting_is_work, "a log with a gap and a wait"),
        (overhead_instead, "one microbatch, 2 ranks"),
        (from_zero, "a log that begins at 100 s"),
        (overlap_counted_twice, "boxes that overlap, and a step"),
        (only_waits, "one microbatch, 2 ranks"),
    ],
    "03.2": [
        (before_from_zero, "a log that begins at 100 s"),
        (nothing_between, "a log with a gap and a wait"),
        (overlap_twice_in_parts, "boxes that overlap, and a step"),
        (until_the_last_event, "boxes that overlap, and a step"),
    ],
}


def counted_until(events, num_ranks, start=0.0, key=None):
    """Time that is busy, each rank's boxes in order, with a mark of how far it is counted."""
    busy = 0.0
    for rank in range(num_ranks):
        own = {key(e) if key else i: e for i, e in enumerate(events)}.values()
        until = start
        for e in sorted((e for e in own if e.rank == rank), key=lambda e: e.start):
            busy += max(0.0, e.end - max(e.start, until))
            until = max(until, e.end)
    return busy


def counts_from_zero(events, num_ranks):
    """The mark begins at 0, and the clock may show less."""
    work = [e for e in events if e.kind in COMPUTE]
    return 1 - counted_until(work, num_ranks) / (num_ranks * _whole(events))


def one_box_for_each_start(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    busy = counted_until(work, num_ranks, -math.inf, lambda e: (e.rank, e.start))
    return 1 - busy / (num_ranks * _whole(events))


def one_rank_never_waits(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    busy = counted_until(work, num_ranks, -math.inf)
    return 1 - busy / (num_ranks * _whole(events)) if num_ranks > 1 else 0.0


def receiving_computes(events, num_ranks):
    work = [e for e in events if e.kind in (*COMPUTE, "RECV_F")]
    return 1 - counted_until(work, num_ranks, -math.inf) / (num_ranks * _whole(events))


def stage_for_rank(events, num_ranks):
    return _share([e._replace(rank=e.stage) for e in events], num_ranks)


def parts_of_stages(events, num_ranks):
    return _idle([e._replace(rank=e.stage % num_ranks) for e in events], num_ranks)


def one_stage_on_each_rank(events, num_ranks):
    """Each microbatch has one F on a rank, so the last one that is found replaces the others."""
    found = {(e.rank, e.kind, e.microbatch): e for e in events}
    return _share([*found.values()], num_ranks)


def four_ranks_at_most(events, num_ranks):
    return _share([e for e in events if e.rank < 4], num_ranks)


def merged_as_they_come(events, num_ranks):
    """Each box joins the first that it overlaps, in the order of the log."""
    work = [e for e in events if e.kind in COMPUTE]
    merged = [[] for _ in range(num_ranks)]
    for e in work:
        for box in merged[e.rank]:
            if e.start <= box[1] and box[0] <= e.end:
                box[:] = min(box[0], e.start), max(box[1], e.end)
                break
        else:
            merged[e.rank].append([e.start, e.end])
    busy = sum(end - start for boxes in merged for start, end in boxes)
    return 1 - busy / (num_ranks * _whole(events))


def ranks_stand_together(events, num_ranks):
    """``groupby`` begins a new group wherever the rank changes; the last group of each is kept."""
    groups = {rank: [*group] for rank, group in groupby(events, key=lambda e: e.rank)}
    busy = sum(
        counted_until([e for e in group if e.kind in COMPUTE], num_ranks, -math.inf)
        for group in groups.values()
    )
    return 1 - busy / (num_ranks * _whole(events))


def starts_last_ends_last(events, num_ranks):
    work = sorted((e for e in events if e.kind in COMPUTE), key=lambda e: e.start)
    busy = counted_until(work, num_ranks, -math.inf)
    return 1 - busy / (num_ranks * (work[-1].end - work[0].start))


def first_start_below_a_hundred(events, num_ranks):
    work = [e for e in events if e.kind in COMPUTE]
    first, last = 100.0, -math.inf
    for e in work:
        first, last = min(first, e.start), max(last, e.end)
    return 1 - counted_until(work, num_ranks, -math.inf) / (num_ranks * (last - first))


FORGOT = {
    "03.1": [
        (merged_as_they_come, "overlap two earlier ones"),
        (ranks_stand_together, "do not stand next to each other"),
        (starts_last_ends_last, "not of the box that starts last"),
        (first_start_below_a_hundred, "a hundred seconds or more"),
        (stage_for_rank, "stage"),
        (one_stage_on_each_rank, "two stages on one rank"),
        (four_ranks_at_most, "more than four ranks"),
        (receiving_computes, "messages that a rank receives"),
        (only_f_and_b, "the kinds I and W"),
        (boxes_are_sorted, "not sorted"),
        (no_box_inside_another, "boxes inside others"),
        (ranks_that_compute, "a rank that computes nothing"),
        (rank_0_begins, "a first computation that is not rank 0's"),
        (rank_0_ends, "a last computation that is not rank 0's"),
        (whole_log, "before the first computation or after the last"),
        (steps_compute, "events that do not compute"),
        (clock_starts_at_zero, "does not start at 0 s"),
        (one_timeline_for_all, "more than one rank"),
        (mean_over_own_time, "rank"),
        (overlap_is_counted_twice, "boxes that overlap"),
        (counts_from_zero, "before the clock shows 0"),
        (one_box_for_each_start, "boxes of one rank that start together"),
        (one_rank_never_waits, "one rank alone that waits"),
    ],
    "03.2": [
        (parts_of_stages, "another order than their ranks"),
        (parts_of_f_and_b, "the kinds I and W"),
        (parts_in_the_order_of_the_log, "not sorted"),
        (last_box_ends_last, "boxes inside others"),
        (no_gaps, "gaps between two boxes of a rank"),
        (from_the_first_of_rank_0, "a first computation that is not rank 0's"),
        (to_the_last_of_rank_0, "a last computation that is not rank 0's"),
        (from_the_first_event, "before the first computation or after the last"),
        (from_second_zero, "does not start at 0 s"),
        (other_events_fill_gaps, "events that do not compute"),
        (overlaps_shorten_gaps, "boxes that overlap"),
        (two_parts, "the three parts of each rank"),
        (after_comes_first, "rank"),
        (nothing_after, "ranks that end earlier than the last"),
        (nothing_before, "ranks that begin later than the first"),
    ],
}

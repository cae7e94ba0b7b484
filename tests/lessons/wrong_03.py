"""Answers to lesson 3 that must fail, each with the result that has to say so."""

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

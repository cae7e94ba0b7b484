"""What the checks of lesson 3 draw logs for: the ideas of what is idle in one."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations, groupby
from random import Random

from pipelab.lessons.chapters.ch03_logs import Box, Boxes, allowed, arguments, draw_log, work
from pipelab.lessons.drawn import Draws, Idea

__all__ = ["BUBBLES", "PARTS"]

About = Callable[[Boxes, int, float], bool]


def _pair(related: Callable[[Box, Box], bool]) -> About:
    """Whether two computations of one rank are so related, the earlier first."""

    def about(boxes: Boxes, num_ranks: int, clock: float) -> bool:
        earliest = sorted(work(boxes), key=lambda box: (box.start, -box.end))
        return any(a.rank == b.rank and related(a, b) for a, b in combinations(earliest, 2))

    return about


def _inside(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether a box ends inside another of its rank, and the next begins before that one's end."""
    latest: dict[int, float] = {}
    before: dict[int, float] = {}
    for box in sorted(work(boxes), key=lambda box: box.start):
        until = latest.get(box.rank, box.start)
        if max(before.get(box.rank, until), box.start) < until:
            return True
        latest[box.rank], before[box.rank] = max(until, box.end), box.end
    return False


def _longer_first(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether of two boxes that start together the longer one stands first in the log."""
    return any(
        a.rank == b.rank and a.start == b.start and a.end > b.end
        for a, b in combinations(work(boxes), 2)
    )


def _joining(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether a box of a rank overlaps two parts of what stands before it, which lie apart."""
    parts: dict[int, list[tuple[float, float]]] = {}
    for box in work(boxes):
        own = parts.setdefault(box.rank, [])
        if sum(start < box.end and box.start < end for start, end in own) > 1:
            return True
        met = [part for part in own if part[0] <= box.end and box.start <= part[1]]
        one = (min([box.start, *(a for a, _ in met)]), max([box.end, *(b for _, b in met)]))
        own[:] = [one, *(part for part in own if part not in met)]
    return False


def _mixed(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether a rank computes again in the log after another one has."""
    runs = [rank for rank, _ in groupby(box.rank for box in work(boxes))]
    return len(runs) > len(set(runs))


def _first(boxes: Boxes) -> float:
    return min(box.start for box in work(boxes))


def _last(boxes: Boxes) -> float:
    return max(box.end for box in work(boxes))


def _begins(boxes: Boxes, rank: int) -> float:
    return min((box.start for box in work(boxes) if box.rank == rank), default=_last(boxes))


def _ends(boxes: Boxes, rank: int) -> float:
    return max((box.end for box in work(boxes) if box.rank == rank), default=_first(boxes))


def _gap(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether a rank is idle between two of its computations."""
    until: dict[int, float] = {}
    for box in sorted(work(boxes), key=lambda box: box.start):
        if box.start > until.setdefault(box.rank, box.end):
            return True
        until[box.rank] = max(until[box.rank], box.end)
    return False


def _two_stages(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether two boxes of a rank would be one, if nobody looked at their stages."""
    counts = Counter((box.rank, box.kind) for box in work(boxes))
    stages = Counter((box.rank, box.kind, box.stage) for box in work(boxes))
    return any(stages[key] < counts[key[:2]] for key in stages)


def _most_boxes(boxes: Boxes) -> int:
    return max(Counter(box.rank for box in work(boxes)).values())


_SHARED = (
    Idea(
        "two stages on one rank",
        "microbatch 0 has an F on each stage of the rank: all of them are in the log, and count",
        _two_stages,
    ),
    Idea(
        "stages in another order than their ranks",
        "an event's rank says who computes, and its stage does not",
        lambda boxes, ranks, clock: any(box.stage % ranks != box.rank for box in work(boxes)),
    ),
    Idea(
        "stages that have another number than their rank",
        "an event's rank says who computes; its stage says which part of the model",
        lambda boxes, ranks, clock: any(box.stage != box.rank for box in work(boxes)),
    ),
    Idea(
        "more than four ranks",
        "all ranks count, however many there are",
        lambda boxes, ranks, clock: ranks > 4,
    ),
    Idea(
        "more than eight computations of a rank",
        "all of them count, however many there are",
        lambda boxes, ranks, clock: _most_boxes(boxes) > 8,
    ),
    Idea(
        "times of a few milliseconds",
        "a log of real ranks has many digits: nothing is rounded",
        lambda boxes, ranks, clock: max(box.end for box in work(boxes)) < 0.1,
    ),
    Idea(
        "events that do not compute before the first computation or after the last",
        "the time begins and ends with a computation, not with a message, a WAIT or a STEP",
        lambda boxes, ranks, clock: any(
            box.start < _first(boxes) or box.end > _last(boxes) for box in boxes
        ),
    ),
    Idea(
        "messages that a rank receives",
        "a RECV_F is not a forward: only F, B, I and W compute",
        lambda boxes, ranks, clock: any(box.kind == "RECV_F" for box in boxes),
    ),
    Idea(
        "events that do not compute",
        "only F, B, I and W compute",
        lambda boxes, ranks, clock: len(work(boxes)) < len(boxes),
    ),
    Idea(
        "the kinds I and W",
        "the two halves of a backward compute, too",
        lambda boxes, ranks, clock: any(box.kind in ("I", "W") for box in boxes),
    ),
    Idea(
        "boxes inside others, before the other has ended and one more begins",
        "until when has the time of this rank been counted? A short box must not set it back",
        _inside,
    ),
    Idea(
        "boxes of one rank that start together, the longer one first in the log",
        "both are in the log and count: a box is not known by its start alone",
        _longer_first,
    ),
    Idea(
        "boxes of one rank that end together",
        "both are in the log and count: a box is not known by its end alone",
        _pair(lambda a, b: a.end == b.end),
    ),
    Idea(
        "boxes that overlap two earlier ones of the log, which do not overlap each other",
        "what is merged in the order of the log stays in two parts: sort the boxes first",
        _joining,
    ),
    Idea(
        "boxes inside others",
        "a box can end before one that began earlier",
        _pair(lambda a, b: a.start <= b.start and b.end < a.end),
    ),
    Idea(
        "boxes that overlap",
        "where two boxes of one rank overlap, that time counts once",
        _pair(lambda a, b: b.start < a.end),
    ),
    Idea(
        "logs that are not sorted by their start",
        "the order of the events in the log says nothing: sort them where you need it",
        lambda boxes, ranks, clock: any(
            a.start > b.start for a, b in combinations(work(boxes), 2) if a.rank == b.rank
        ),
    ),
    Idea(
        "events of a rank that do not stand next to each other in the log",
        "the log mixes the ranks: gather all the events of a rank, wherever they stand",
        _mixed,
    ),
    Idea(
        "a first computation that is not rank 0's",
        "any rank can be the first to compute",
        lambda boxes, ranks, clock: _begins(boxes, 0) > _first(boxes),
    ),
    Idea(
        "a last computation that is not rank 0's",
        "any rank can be the last to compute",
        lambda boxes, ranks, clock: _ends(boxes, 0) < _last(boxes),
    ),
    Idea(
        "a last end that is not of the box that starts last",
        "the last end is the largest of all ends, and any box can have it",
        lambda boxes, ranks, clock: (
            max(work(boxes), key=lambda box: (box.start, box.end)).end < _last(boxes)
        ),
    ),
    Idea(
        "a log that begins before the clock shows 0",
        "times can be below 0: begin to count at the first start, not at 0",
        lambda boxes, ranks, clock: clock + _first(boxes) < 0.0,
    ),
    Idea(
        "a clock that shows a hundred seconds or more",
        "begin to count at the first start in the log, however large it is",
        lambda boxes, ranks, clock: clock + _first(boxes) >= 100.0,
    ),
    Idea(
        "a first computation that does not start at 0 s",
        "measure from the first start of a computation, whatever the clock shows",
        lambda boxes, ranks, clock: clock + _first(boxes) != 0.0,
    ),
    Idea(
        "a first computation that is not an F",
        "any kind of computation can be the first",
        lambda boxes, ranks, clock: all(
            box.kind != "F" for box in work(boxes) if box.start == _first(boxes)
        ),
    ),
    Idea(
        "times that are not whole seconds",
        "a quarter of a second counts: nothing is rounded",
        lambda boxes, ranks, clock: any(box.seconds % 1 or box.start % 1 for box in work(boxes)),
    ),
    Idea(
        "one rank alone that waits between two boxes",
        "a single rank can be idle, too",
        lambda boxes, ranks, clock: ranks == 1 and _gap(boxes, ranks, clock),
    ),
    Idea(
        "gaps between two boxes of a rank",
        "a rank that has begun can still wait",
        _gap,
    ),
)

BUBBLES = Draws(
    draw_log,
    (
        Idea(
            "a rank that computes nothing",
            "it is idle for the whole time, and counts: num_ranks says how many there are",
            lambda boxes, ranks, clock: len({box.rank for box in work(boxes)}) < ranks,
        ),
        *_SHARED,
        Idea(
            "more than one rank",
            "all rank-time is the number of ranks times the whole time",
            lambda boxes, ranks, clock: ranks > 1,
        ),
        Idea("idle time over all time", "first start, last end, and how long each rank computed"),
    ),
    allowed=allowed,
    arguments=arguments,
)


def _all_compute(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    ranks = {box.rank for box in work(boxes)}
    return allowed(boxes, num_ranks, clock) and len(ranks) == num_ranks


def _draw_full_log(random: Random) -> tuple[Boxes, int, float]:
    """One in which every rank computes."""
    while not _all_compute(*(log := draw_log(random))):
        pass
    return log


PARTS = replace(
    BUBBLES,
    draw=_draw_full_log,
    ideas=(
        *_SHARED,
        Idea(
            "ranks that begin later than the first",
            "before: from the first start of all ranks to the first of this one",
            lambda boxes, ranks, clock: any(
                _begins(boxes, r) > _first(boxes) for r in range(ranks)
            ),
        ),
        Idea(
            "ranks that end earlier than the last",
            "after: from the last end of this rank to the last of all ranks",
            lambda boxes, ranks, clock: (
                min(map(partial(_ends, boxes), range(ranks))) < _last(boxes)
            ),
        ),
        Idea("the three parts of each rank", "before, between and after, for each rank in order"),
    ),
    allowed=_all_compute,
)

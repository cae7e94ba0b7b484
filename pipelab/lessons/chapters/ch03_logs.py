"""The logs of a run that lesson 3's checks draw: in any order, from any clock, with any boxes.

A log is drawn as boxes (rank, kind, start, seconds, stage), the number of ranks, and what the clock
shows when the log begins; times are quarters of 16 s, of 1 s, or of 1/1024 s, which are exact.
"""

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from pipelab.action import COMPUTE, Kind
from pipelab.lessons.drawn import far
from pipelab.trace import Event

_WHEN = (0, 40), (0, 40), (-12, 0), (40, 60)  # quarters: during the run, before it, and after it
_OTHERS = ("WAIT", "SEND_F", "SEND_B", "RECV_F", "RECV_B", "STEP", "REDUCE_GRAD")


class Box(NamedTuple):
    """One event of a log."""

    rank: int
    kind: str
    start: float
    seconds: float
    stage: int

    @property
    def end(self) -> float:
        """In seconds."""
        return self.start + self.seconds


Boxes = list[Box]


def draw_log(random: Random) -> tuple[Boxes, int, float]:
    """The boxes, how many ranks there are, and what the clock shows at the log's begin."""
    many = random.choice((far(random, 5, 12), random.randint(9, 12)))
    ranks = many if random.random() < 0.1 else random.choice((1, 2, 2, 3, 4))
    kinds = random.choice(("FB", "FB", "FIW", "FBIW"))
    idle = random.randrange(ranks) if ranks > 1 and random.random() < 0.3 else -1
    layout = random.choice(("as ranks", "as ranks", "two on each", "backwards"))
    boxes = [
        box._replace(stage=_stage(random, layout, rank, ranks))
        for rank in range(ranks)
        if rank != idle
        for box in _row(random, rank, kinds)
    ]
    if random.random() < 0.5:
        for _ in range(random.randint(1, 4)):
            rank, at = random.randrange(ranks), random.randrange(*random.choice(_WHEN)) / 4
            stage = _stage(random, layout, rank, ranks)
            boxes.append(Box(rank, random.choice(_OTHERS), at, _quarters(random), stage))
    match random.randrange(3):
        case 0:
            boxes.sort(key=lambda box: box.start)
        case 1:
            random.shuffle(boxes)
    clock = random.choice((0.0, 0.0, 3.5, 100.25, -8.0, 300_000.5))
    unit = random.choice((1.0, 1.0, 1.0, 1.0, 16.0, 1 / 1024))
    boxes = [box._replace(start=unit * box.start, seconds=unit * box.seconds) for box in boxes]
    if unit < 1:
        clock = random.choice((0.0, 3.5, -8.0))
    return boxes, ranks, clock


def _stage(random: Random, layout: str, rank: int, ranks: int) -> int:
    """Of a box: the rank's own number, one of two that it has, or counted from the last rank."""
    if layout == "two on each":
        return rank + ranks * random.randrange(2)
    return ranks - 1 - rank if layout == "backwards" else rank


def _row(random: Random, rank: int, kinds: str) -> Iterator[Box]:
    """The computations of one rank: apart, touching, overlapping, or one inside another."""
    how = random.choice(("apart", "apart", "touching", "overlapping", "inside", "any"))
    at = random.randrange(0, 12) / 4
    for _ in range(far(random, 9, 20) if random.random() < 0.08 else random.randint(1, 4)):
        box = Box(rank, random.choice(kinds), at, _quarters(random), rank)
        yield box
        inside = how == "inside" or (how == "any" and random.random() < 0.3)
        for _ in range(random.choice((1, 1, 3)) if inside else 0):
            inner = max(0.25, box.seconds / 2)
            late = random.choice((0.0, 0.5, 0.5, 1.0)) * (box.seconds - inner)
            yield Box(rank, random.choice(kinds), box.start + late, inner, rank)
        early = -box.seconds / 4 if random.random() < 0.5 else _quarters(random)
        gaps = {"touching": 0.0, "overlapping": -box.seconds / 2, "inside": early}
        gap = gaps.get(how, _quarters(random))
        at = box.end + (random.choice((0.0, gap)) if how == "any" else gap)


def _quarters(random: Random) -> float:
    return random.choice((1, 2, 3, 4, 6, 8)) / 4


def arguments(boxes: Boxes, num_ranks: int, clock: float) -> tuple[object, ...]:
    """As a function gets it; each stage counts its microbatches from 0, in the order of the log."""
    seen: Counter[tuple[int, str, int]] = Counter()
    events = []
    for box in boxes:
        key = box.rank, box.kind, box.stage
        start, end = clock + box.start, clock + box.end
        events.append(Event(box.rank, Kind(box.kind), box.stage, seen[key], start, end))
        seen[key] += 1
    return tuple(events), num_ranks


def allowed(boxes: Boxes, num_ranks: int, clock: float) -> bool:
    """Whether they are a log of so many ranks in which something computes."""
    fit = all(0 <= box.rank < num_ranks and box.seconds > 0 <= box.stage for box in boxes)
    return fit and any(box.kind in COMPUTE for box in boxes)


def work(boxes: Boxes) -> Boxes:
    """Those that compute."""
    return [box for box in boxes if box.kind in COMPUTE]

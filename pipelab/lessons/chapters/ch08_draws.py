"""What is drawn for lesson 8: models to cut, and the logs of jobs with a straggler.

A job is drawn as the seconds of each stage's forward, the number of replicas and of microbatches,
who is slow and how many times, who makes one long pause (nobody: an empty list): in a forward or a
backward, 0 or 1, of which microbatch; and by which share equals differ, at most.
"""

from collections.abc import Sequence
from functools import cache
from heapq import heapify, heapreplace
from math import ceil, floor
from operator import add
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event

__all__ = ["JOBS", "MODELS", "PAUSES", "best_cut", "logs", "stage_costs"]

Worker = list[int]  # replica and rank; of a pause also 0 or 1, and the microbatch
Logs = list[tuple[Event, ...]]

LEAST = 1.5  # times as slow as its equals is a straggler, at least
PAUSES = "a straggler is slow in every microbatch; a pause is one long box among short ones"
_PAUSE = 40.0  # times the longest forward
_LOOKED_AT = 8  # replicas, or ranks: nobody looks at more of them by chance
_UNEVEN = 0.05  # by which equals differ, at most: a share of what they should take


# ------------------------------------------------------------------------- 08.1, models to cut


def best_cut(n: int, p: int, embedding: float, head: float) -> list[int]:
    """The blocks of each rank, so that the largest stage is smallest.

    Each block goes to the rank that costs least so far: any other would cost as much or more.

    >>> best_cut(8, 2, 0.0, 2.0)
    [5, 3]
    """
    counts = [1] * p
    counts[0] = counts[-1] = 0
    costs = [(cost, rank) for rank, cost in enumerate(stage_costs(counts, embedding, head))]
    heapify(costs)
    for _ in range(n - sum(counts)):
        cost, rank = costs[0]
        counts[rank] += 1
        heapreplace(costs, (cost + 1.0, rank))
    return counts


def stage_costs(counts: Sequence[float], embedding: float, head: float) -> list[float]:
    """What each rank's part costs, in blocks."""
    costs = [float(count) for count in counts]
    costs[0] += embedding
    costs[-1] += head
    return costs


@cache  # several ideas ask about one input
def _is_worse(
    n: int, p: int, embedding: float, head: float, other: tuple[float, float] | None
) -> bool:
    """Whether a cut for other costs has a larger largest stage; None: blocks shared out evenly.

    What makes no difference is no hard point.
    """
    cuts = [[n * (rank + 1) // p - n * rank // p for rank in range(p)]]
    if other:
        cuts = [best_cut(n, p, *other), _filled(n, p, *other, least=1)]
    least = max(stage_costs(best_cut(n, p, embedding, head), embedding, head))
    return any(max(stage_costs(cut, embedding, head)) > least * 1.001 for cut in cuts)


def _filled(n: int, p: int, embedding: float, head: float, least: int) -> list[int]:
    """Another best cut: from the first rank on, each takes what it has room for.

    ``least`` is what each rank in the middle gets before.
    """
    extra = stage_costs([0] * p, embedding, head)
    limit = max(map(add, best_cut(n, p, embedding, head), extra))
    counts = [0, *[least] * (p - 2), 0][:p]
    for rank in range(p):
        room = int(limit - extra[rank] + 1e-9) - counts[rank]
        counts[rank] += max(0, min(room, n - sum(counts)))
    return counts


_COSTS = (0.5, 0.75, 1.0, 2.0, 2.25, 3.5, 9.0)  # of an embedding or a head, in blocks
_MANY, _DEAR = 100, 40  # blocks, and a cost in blocks: nobody looks that far by chance


def _draw_model(random: Random) -> tuple[int, int, float, float]:
    ranks = random.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 8, far(random, 9, 24)))
    blocks = ranks + random.choice((0, 1, 1, 2, 3, 4, 5, 8, 13, far(random, 14, 60)))
    embedding, head = (_draw_cost(random) for _ in range(2))
    match random.randrange(18):
        case 0 | 1 if head:
            embedding = head
        case 2 | 3:
            blocks = ranks + random.randint(_MANY, 2 * _MANY)
        case 4 | 5:
            ranks, blocks = random.randint(2, 4), random.randint(2 * _MANY, 3 * _MANY)
            dear = float(random.randint(_DEAR + 10, 2 * _DEAR))
            embedding, head = random.choice(((dear, head), (embedding, dear)))
        case 6:
            ranks = random.randint(17, 24)
            blocks = ranks + random.randint(0, 40)
        case 7 | 8 | 9:
            embedding = random.randint(3, 128) / 32  # what a float holds exactly
            head = embedding + random.randint(0, 2) + random.choice((-1, 1)) / 32
        case 10 | 11:  # named cases, the other way round
            return random.choice(((10, 4, 2.0, 0.0), (7, 3, 0.5, 3.5), (12, 4, 4.0, 0.0)))
    return blocks, ranks, embedding, head


def _draw_cost(random: Random) -> float:
    few, many = far(random, 1, 80) / 8, random.randint(3, 128) / 32
    return random.choice((0.0, 0.0, random.choice(_COSTS), few, many, many))


def _all_but_the_heaviest(n: int, p: int, embedding: float, head: float) -> bool:
    """Whether one of the two costs more than a fair share of everything."""
    return p > 1 and max(embedding, head) >= (n + embedding + head) / p


def _filled_too_early(n: int, p: int, embedding: float, head: float) -> bool:
    """Whether nothing is left for a rank in the middle, if those before it take what they can."""
    return 0 in _filled(n, p, embedding, head, least=0)[1:-1]


def _differ_by_little(n: int, p: int, embedding: float, head: float) -> bool:
    """Whether it is decided by less than an eighth, or a tenth."""
    eighths = round(8 * embedding) / 8, round(8 * head) / 8
    tenths = round(embedding, 1), round(head, 1)
    return all(_is_worse(n, p, embedding, head, other) for other in (eighths, tenths))


MODELS = Draws(
    _draw_model,
    (
        Idea("one rank", "it has all blocks", lambda n, p, e, h: p == 1),
        unlimited(
            "a cost of more than forty blocks",
            lambda n, p, e, h: _is_worse(n, p, e, h, (min(e, _DEAR), min(h, _DEAR))),
        ),
        unlimited("more than a hundred blocks", lambda n, p, e, h: n > _MANY and p > 1),
        unlimited("more than sixteen ranks", lambda n, p, e, h: p > 16),
        unlimited("more than eight ranks", lambda n, p, e, h: p > 8),
        Idea(
            "a head or an embedding that costs more than a fair share",
            "that rank can have no block at all; the others share all of them",
            _all_but_the_heaviest,
        ),
        Idea(
            "ranks in the middle for which nothing may be left",
            "each of them needs a block: give out one to each before the rest",
            _filled_too_early,
        ),
        Idea(
            "two ranks",
            "one has the embedding, the other the head, and nobody stands between",
            lambda n, p, e, h: p == 2,
        ),
        Idea(
            "an embedding and a head that cost the same",
            "both ranks have less room for blocks than those in the middle",
            lambda n, p, e, h: e == h and _is_worse(n, p, e, h, None),
        ),
        Idea(
            "costs that differ by little",
            "the limit can be any number: it is a cost and some whole blocks",
            _differ_by_little,
        ),
        Idea(
            "costs of a part of a block",
            "count with the costs as they are: only blocks are whole numbers",
            lambda n, p, e, h: any(
                _is_worse(n, p, e, h, (float(whole(e)), float(whole(h))))
                for whole in (floor, round, ceil)
            ),
        ),
        Idea(
            "a costly embedding",
            "the first rank has it",
            lambda n, p, e, h: _is_worse(n, p, e, h, (0.0, h)),
        ),
        Idea(
            "a costly head",
            "the last rank has it",
            lambda n, p, e, h: _is_worse(n, p, e, h, (e, 0.0)),
        ),
        Idea(
            "blocks that cannot be shared out evenly",
            "who may have one more, so that the largest stage stays smallest?",
            lambda n, p, e, h: n % p != 0,
        ),
        Idea("the largest stage", "embedding, blocks and head of each rank, added up"),
    ),
    allowed=lambda n, p, e, h: 1 <= p <= n and e >= 0 and h >= 0,
    number=48,
)


# -------------------------------------------------------------------- 08.2, jobs with a straggler


def logs(
    stages: list[float],
    replicas: int,
    m: int,
    slow: Worker,
    times: float,
    pause: Worker,
    uneven: float = 0.0,
) -> tuple[Logs]:
    """The argument of a call: the events of each replica."""
    order = one_f_one_b(len(stages), m)
    costs = (_cost(stages, i, m, slow, times, pause, uneven) for i in range(replicas))
    return ([simulate(order, cost).events for cost in costs],)


def _cost(
    stages: list[float], i: int, m: int, slow: Worker, times: float, pause: Worker, uneven: float
) -> Cost:
    """Of replica ``i``; B takes twice as long as F, and a pause is in one box alone."""

    def share(rank: int, k: int) -> float:
        """Of what an F should take; who is slow has none of the luck that others have."""
        if [i, rank] == slow:
            return times * (1 + uneven)
        return 1 + uneven * ((5 * i + 3 * rank + 2 * k) % 7) / 6

    half = [[one * share(rank, k) for k in range(m)] for rank, one in enumerate(stages)]
    forward, backward = ([[*row] for row in half] for _ in range(2))
    if pause[:1] == [i]:
        (forward, backward)[pause[2]][pause[1]][pause[3]] = _PAUSE * max(stages)
    return Cost(forward, backward, half)


_Job = tuple[list[float], int, int, Worker, float, Worker, float]


def _draw_job(random: Random) -> _Job:
    p, replicas = random.choice((1, 2, 3, 4, 5)), random.choice((2, 2, 3, 4, 5))
    match random.randrange(8):
        case 0:
            p, replicas = min(p, 3), random.randint(9, 16)
        case 1:
            p, replicas = random.randint(9, 12), 2
    stages = [1.0] * p
    if random.random() < 0.6:
        stages[random.choice((-1, -1, 0, p // 2))] = random.choice((2.0, 4.0, 4.0, 0.5))
    if random.random() < 0.15:
        stages = [random.choice((1.0, 1.25, 1.5, 8.0)) for _ in range(p)]
    workers = [[i, rank] for i in range(replicas) for rank in range(p)]
    far_away = [worker for worker in workers if max(worker) >= _LOOKED_AT]
    slow = random.choice(far_away or (workers if random.random() < 0.7 else workers[:p]))
    others = [worker for worker in workers if worker != slow]
    m, pause = random.choice((1, 2, 3, 4, 6)), []
    if random.random() < 0.5:
        m = random.choice((3, 3, 4, 6))
        box = random.choice((0, m - 1, random.randrange(m)))
        pause = [*random.choice(others), random.randrange(2), box]
    times = random.choice((1.5, 1.5, 2.0, 3.0, float(far(random, 5, 20))))
    return stages, replicas, m, slow, times, pause, random.choice((0.0, 0.0, 0.0, 0.02, 0.05))


def _allowed(
    stages: list[float],
    replicas: int,
    m: int,
    slow: Worker,
    times: float,
    pause: Worker,
    uneven: float,
) -> bool:
    def exists(worker: Worker) -> bool:
        both = len(worker) == 2 and 0 <= worker[0] < replicas
        return both and 0 <= worker[1] < len(stages)

    fine = bool(stages) and min(stages) > 0 and replicas >= 2 and m >= 1 and times >= LEAST
    who, box = pause[:2], pause[2:]
    paused = exists(who) and who != slow and len(box) == 2 and m >= 3
    paused = paused and box[0] in (0, 1) and 0 <= box[1] < m
    return fine and 0 <= uneven <= _UNEVEN and exists(slow) and (paused or not pause)


JOBS = Draws(
    _draw_job,
    (
        Idea(
            "one long pause in the first microbatch",
            PAUSES,
            lambda stages, r, m, slow, times, pause, uneven: pause[3:] == [0],
        ),
        Idea(
            "one long pause in the last microbatch",
            PAUSES,
            lambda stages, r, m, slow, times, pause, uneven: pause[3:] == [m - 1],
        ),
        Idea(
            "somebody who makes one long pause",
            PAUSES,
            lambda stages, r, m, slow, times, pause, uneven: bool(pause),
        ),
        unlimited(
            "more than eight replicas",
            lambda stages, r, m, slow, times, pause, uneven: slow[0] >= _LOOKED_AT,
        ),
        unlimited(
            "more than eight ranks",
            lambda stages, r, m, slow, times, pause, uneven: slow[1] >= _LOOKED_AT,
        ),
        unlimited(
            "a straggler that is more than four times as slow",
            lambda stages, r, m, slow, times, pause, uneven: times > 4,
        ),
        Idea(
            "one rank in each replica",
            "there are no neighbours, only the other replicas",
            lambda stages, r, m, slow, times, pause, uneven: len(stages) == 1,
        ),
        Idea(
            "a stage that costs more in every replica",
            "compare a worker with the same rank of the other replicas: it has the same layers",
            lambda stages, r, m, slow, times, pause, uneven: times * stages[slow[1]] <= max(stages),
        ),
        Idea(
            "workers that differ from their equals by a few percent",
            "no two take equally long: one and a half times as long is slow, a little longer not",
            lambda stages, r, m, slow, times, pause, uneven: uneven > 0,
        ),
        Idea(
            "a straggler in the first replica",
            "each replica can have it, also the one that you compare the others with",
            lambda stages, r, m, slow, times, pause, uneven: slow[0] == 0,
        ),
        Idea(
            "a straggler that is not in the first replica",
            "each log of the list is a replica, counted from 0",
            lambda stages, r, m, slow, times, pause, uneven: slow[0] > 0,
        ),
        Idea(
            "a straggler that is not on rank 0",
            "who computes, and who waits for the one that computes?",
            lambda stages, r, m, slow, times, pause, uneven: slow[1] > 0,
        ),
        Idea("who is slow", "how long do the F and B of each worker take?"),
    ),
    allowed=_allowed,
    arguments=logs,
    number=42,
)

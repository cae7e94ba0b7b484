"""What is drawn for lesson 8: models to cut, and the logs of jobs with a straggler.

A job is drawn as the seconds of each stage's forward, the number of replicas and of microbatches,
who is slow and how many times, and who makes one long pause (nobody: an empty list): in a forward
or a backward, 0 or 1, of which microbatch.
"""

from random import Random

from pipelab.lessons.drawn import Draws, Idea
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event

__all__ = ["JOBS", "MODELS", "PAUSES", "logs"]

Worker = list[int]  # replica and rank; of a pause also 0 or 1, and the microbatch
Logs = list[tuple[Event, ...]]

LEAST = 1.5  # times as slow as its equals is a straggler, at least
PAUSES = "a straggler is slow in every microbatch; a pause is one long box among short ones"
_PAUSE = 40.0  # times the longest forward


# ------------------------------------------------------------------------- 08.1, models to cut


_COSTS = (0.0, 0.5, 0.75, 1.0, 2.0, 2.25, 3.5, 9.0)  # of an embedding or a head, in blocks


def _draw_model(random: Random) -> tuple[int, int, float, float]:
    ranks = random.choice((1, 2, 2, 3, 4, 4, 5, 8))
    blocks = ranks + random.choice((0, 1, 2, 4, 5, 8, 13))
    embedding, head = (random.choice(_COSTS) for _ in range(2))
    return blocks, ranks, embedding, head


def _all_but_the_heaviest(n: int, p: int, embedding: float, head: float) -> bool:
    """Whether one of the two costs more than a fair share of everything."""
    return p > 1 and max(embedding, head) >= (n + embedding + head) / p


MODELS = Draws(
    _draw_model,
    (
        Idea("one rank", "it has all blocks", lambda n, p, e, h: p == 1),
        Idea(
            "a head or an embedding that costs more than a fair share",
            "that rank can have no block at all; the others share all of them",
            _all_but_the_heaviest,
        ),
        Idea(
            "two ranks",
            "one has the embedding, the other the head, and nobody stands between",
            lambda n, p, e, h: p == 2,
        ),
        Idea("a costly embedding", "the first rank has it", lambda n, p, e, h: p > 1 and e > 1),
        Idea("a costly head", "the last rank has it", lambda n, p, e, h: p > 1 and h > 1),
        Idea(
            "costs of a part of a block",
            "count with the costs as they are: only blocks are whole numbers",
            lambda n, p, e, h: p > 1 and (e % 1 != 0 or h % 1 != 0),
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
    stages: list[float], replicas: int, m: int, slow: Worker, times: float, pause: Worker
) -> tuple[Logs]:
    """The argument of a call: the events of each replica."""
    p = len(stages)
    return (
        [
            simulate(one_f_one_b(p, m), _cost(stages, m, _of(slow, i), times, pause, i)).events
            for i in range(replicas)
        ],
    )


def _of(worker: Worker, replica: int) -> int:
    """Its rank if it is in this replica; -1 otherwise."""
    return worker[1] if worker[:1] == [replica] else -1


def _cost(
    stages: list[float], m: int, slow: int, times: float, pause: Worker, replica: int
) -> Cost:
    """Of one replica; B takes twice as long as F, and a pause is in one box alone."""
    half = [seconds * (times if rank == slow else 1) for rank, seconds in enumerate(stages)]
    forward, backward = ([[seconds] * m for seconds in half] for _ in range(2))
    if (rank := _of(pause, replica)) >= 0:
        (forward, backward)[pause[2]][rank][pause[3]] = _PAUSE * max(stages)
    return Cost(forward, backward, half)


def _draw_job(random: Random) -> tuple[list[float], int, int, Worker, float, Worker]:
    p, replicas = random.choice((1, 2, 3, 4)), random.choice((2, 2, 3, 4))
    stages = [1.0] * p
    if random.random() < 0.6:
        stages[random.choice((-1, -1, 0))] = random.choice((2.0, 4.0))
    workers = [[i, rank] for i in range(replicas) for rank in range(p)]
    slow = random.choice(workers)
    others = [worker for worker in workers if worker != slow]
    m = random.choice((1, 3, 4, 6))
    paused = m >= 3 and random.random() < 0.4
    pause = [*random.choice(others), random.randrange(2), random.randrange(m)] if paused else []
    return stages, replicas, m, slow, random.choice((1.5, 2.0, 3.0)), pause


def _allowed(
    stages: list[float], replicas: int, m: int, slow: Worker, times: float, pause: Worker
) -> bool:
    def exists(worker: Worker) -> bool:
        both = len(worker) == 2 and 0 <= worker[0] < replicas
        return both and 0 <= worker[1] < len(stages)

    fine = bool(stages) and min(stages) > 0 and replicas >= 2 and m >= 1 and times >= LEAST
    who, box = pause[:2], pause[2:]
    paused = exists(who) and who != slow and len(box) == 2 and m >= 3
    paused = paused and box[0] in (0, 1) and 0 <= box[1] < m
    return fine and exists(slow) and (paused or not pause)


JOBS = Draws(
    _draw_job,
    (
        Idea(
            "somebody who makes one long pause",
            PAUSES,
            lambda stages, r, m, slow, times, pause: bool(pause),
        ),
        Idea(
            "a stage that costs more in every replica",
            "compare a worker with the same rank of the other replicas: it has the same layers",
            lambda stages, r, m, slow, times, pause: len({*stages}) > 1,
        ),
        Idea(
            "one rank in each replica",
            "there are no neighbours, only the other replicas",
            lambda stages, r, m, slow, times, pause: len(stages) == 1,
        ),
        Idea(
            "a straggler that is not in the first replica",
            "each log of the list is a replica, counted from 0",
            lambda stages, r, m, slow, times, pause: slow[0] > 0,
        ),
        Idea(
            "a straggler that is not on rank 0",
            "who computes, and who waits for the one that computes?",
            lambda stages, r, m, slow, times, pause: slow[1] > 0,
        ),
        Idea("who is slow", "how long do the F and B of each worker take?"),
    ),
    allowed=_allowed,
    arguments=logs,
    number=42,
)

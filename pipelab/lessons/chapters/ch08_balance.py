"""Lesson 8, balance and stragglers: the slowest stage sets the pace, and who is slow.

That many jobs are slow since the last stage has the loss as well, and that a worker is recognised
by comparing it with its equals, is what Lin et al. 2025 found in production (arXiv 2505.05713).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelab.engine import verify_gradients
from pipelab.lessons import jobs, recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch08_draws import (
    JOBS,
    MODELS,
    PAUSES,
    Logs,
    Worker,
    best_cut,
    logs,
    stage_costs,
)
from pipelab.lessons.chapters.ch08_questions import QUESTIONS
from pipelab.lessons.comparing import ask, whole
from pipelab.lessons.exercise import Cases, Exercise, each, equal
from pipelab.lessons.experiment import LOSS, experiment, in_turn, start
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.written import short
from pipelab.partition import split
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Setting, Trace
from pipelab.words import number

_BLOCKS = "a function blocks(n, p, embedding, head): the number of blocks of each rank"
_STRAGGLER = "a function straggler(replicas): the replica and the rank that is slow, as (0, 2)"
_UNIT = 0.004  # seconds of a block's forward on the real ranks


# ------------------------------------------------------------------------------- 08.1, the cut


def _judge_blocks(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "10 blocks, 4 ranks, a head of 2": (10, 4, 0.0, 2.0),
        "a head of a whole stage": (12, 4, 0.0, 4.0),
        "a costly embedding": (7, 3, 3.5, 0.5),
        "a head of nine blocks": (20, 3, 0.0, 9.0),
        "everything free but the blocks": (8, 4, 0.0, 0.0),
        "a head of a part of a block": (8, 4, 0.0, 0.75),
        "two ranks": (5, 2, 1.0, 3.5),
        "one rank": (3, 1, 1.0, 2.0),
    }
    tried = yield from each(function, cases, _compare_blocks, MODELS, seed)
    if tried.right:
        counts = tried.values[0]
        assert isinstance(counts, list)
        yield from _run([int(count) for count in counts], head=2.0)


def _compare_blocks(
    name: str, value: list[object], n: int, p: int, embedding: float, head: float
) -> Result:
    best = max(stage_costs(best_cut(n, p, embedding, head), embedding, head))
    expected = f"{number(n, 'block')}, the largest stage {best:g}"
    ask(value, list, "a list: how many blocks each rank gets")
    counts = [whole(count) for count in value]
    numbers = [count for count in counts if isinstance(count, int)]
    if len(numbers) != len(counts) or len(counts) != p or sum(numbers) != n or min(numbers) < 0:
        hint = f"a whole number for each rank, none below 0; together they have to be {n}"
        return Result(name, expected, short(counts), False, hint)
    if 0 in numbers[1:-1]:
        hint = "only the first and the last rank have something else to do: the others need a block"
        return Result(name, expected, f"{numbers}: a rank without layers", False, hint)
    costs = stage_costs(numbers, embedding, head)
    largest = costs.index(max(costs))
    with_it = ["the embedding"] * (largest == 0) + ["the head"] * (largest == p - 1)
    parts = " and ".join([number(numbers[largest], "block"), *with_it])
    hint = f"rank {largest} costs the most: {parts}. Who has room for one block more?"
    got = f"{numbers}, the largest {max(costs):g}"
    return Result(name, expected, got, max(costs) <= best * 1.0001, hint)


def _run(counts: list[int], head: float) -> Iterator[Result | Shown]:
    """The learner's cut on real ranks, beside the same number of layers for each rank."""
    model, inputs, targets = experiment(depth=sum(counts) + 2)
    p, schedule = len(counts), one_f_one_b(len(counts), 8)
    sizes = [count + (rank in (0, p - 1)) for rank, count in enumerate(counts)]
    stages = split(model, p, sizes=sizes)
    report = verify_gradients(stages, schedule, inputs, targets, LOSS)
    good, all_of_them = sum(row.close for row in report.parameters), len(report.parameters)
    yield equal("gradients as in one process", f"{all_of_them} of {all_of_them}",
                f"{good} of {all_of_them}")  # fmt: skip
    with start(stages, schedule) as pipeline:
        pace = _pace(stage_costs(counts, 0.0, head))
        (yours,) = in_turn(pipeline, (inputs, targets), [schedule], pace)
    yield from recorded.order(schedule, yours)
    yield Shown(f"Your cut, {yours.duration * 1000:.0f} ms", yours)
    equal_counts = [len(part) for part in _equal_parts(sum(counts), p)]
    usual = simulate(schedule, _pace(stage_costs(equal_counts, 0.0, head)))
    title = f"Blocks shared out evenly, {equal_counts}: {usual.duration * 1000:.0f} ms"
    yield Shown(title, usual)


def _equal_parts(n: int, p: int) -> list[range]:
    return [range(n * rank // p, n * (rank + 1) // p) for rank in range(p)]


def _pace(costs: Sequence[float]) -> Cost:
    seconds = [cost * _UNIT for cost in costs]
    return Cost(seconds, seconds, seconds)


# -------------------------------------------------------------------------- 08.2, the straggler


_UNLIKE = "workers of which no two are alike"
_PLAIN = [1.0, 1.0, 1.0, 1.0]
_WITH_LOSS = [1.0, 1.0, 1.0, 4.0]
_INPUTS: dict[str, tuple[list[float], int, int, Worker, float, Worker]] = {
    "3 replicas of 4 ranks": (_PLAIN, 3, 6, [1, 2], 2.0, []),
    "a last stage with the loss": (_WITH_LOSS, 3, 6, [2, 1], 2.0, []),
    "a straggler on the last stage": (_WITH_LOSS, 2, 4, [1, 3], 1.5, []),
    "somebody else makes one long pause": (_WITH_LOSS, 3, 6, [0, 1], 1.5, [2, 3, 0, 1]),
    "a pause in the first forward": (_PLAIN, 2, 4, [1, 1], 1.5, [0, 2, 0, 0]),
    "a pause in the last backward": (_PLAIN, 2, 4, [0, 0], 1.5, [1, 3, 1, 3]),
    "one rank in each replica": ([1.0], 4, 3, [2, 0], 2.0, []),
    "a single microbatch": (_PLAIN, 2, 1, [1, 0], 3.0, []),
}


def _judge_straggler(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {name: logs(*one) for name, one in _INPUTS.items()}
    cases = {**cases, _UNLIKE: (_unlike(),), "64 GPUs, of production": (_production(),)}
    draws = replace(JOBS, compare=_compare_drawn)
    tried = yield from each(function, cases, _compare_case, draws, seed)
    if tried.right:
        events = _production()[0]
        yield Shown("The replica that all others waited for", Trace(events, "predicted", _FOUR))


_FOUR = Setting(schedule="1f1b", ranks=4, microbatches=32)


def _production() -> Logs:
    job = jobs.JOBS["64 GPUs"]
    schedule = one_f_one_b(job.ranks, job.microbatches)
    return [simulate(schedule, job.cost(i)).events for i in range(len(job.forward))]


def _unlike() -> Logs:
    """Equals differ by a few percent, and only one of all is slow: replica 1, rank 2."""
    seconds = [[1.0, 1.03, 1.0, 16.64], [1.04, 1.0, 1.56, 16.0], [1.02, 1.01, 1.04, 16.48]]
    return [simulate(one_f_one_b(4, 6), Cost(row, row, row)).events for row in seconds]


def _compare_case(name: str, value: object, replicas: Logs) -> Result:
    if name not in _INPUTS:
        return _compare_worker(name, value, [1, 2] if name == _UNLIKE else [0, 0], [])
    slow, pause = _INPUTS[name][3], _INPUTS[name][5]
    return _compare_worker(name, value, slow, pause)


def _compare_drawn(
    name: str, value: object, stages: list[float], replicas: int, m: int, slow: Worker, *_: object
) -> Result:
    return _compare_worker(name, value, slow, [])


def _compare_worker(name: str, value: object, slow: Worker, pause: Worker) -> Result:
    expected = f"replica {slow[0]}, rank {slow[1]}"
    got = [whole(one) for one in value] if isinstance(value, list) else value
    if not isinstance(got, list) or len(got) != 2:
        return Result(name, expected, short(value), False, "replica and rank: two numbers")
    hint = "who takes longer for each F and B than those who compute the same layers?"
    if got == slow[::-1]:
        hint = "first the replica, then the rank"
    elif got == [slow[0] + 1, slow[1] + 1]:
        hint = "replicas and ranks are counted from 0"
    elif got == pause[:2]:
        hint = PAUSES
    return Result(name, expected, f"replica {got[0]}, rank {got[1]}", got == slow, hint)


CHAPTER = Chapter(
    {
        "08.1": Exercise(
            "blocks, embedding and head",
            _BLOCKS,
            _judge_blocks,
            (
                "With 10 blocks, a head of 2 and 4 ranks there are 12 units of work. How much is a "
                "fair share, and how many blocks does the last rank then have room for?",
                "Suppose that no stage may cost more than some limit. How many whole blocks fit on "
                "the first rank, on the last, and on each of the others? (Not below 0.)",
                "Try limits from the smallest: each rank's room is the limit less what it has "
                "already. The first limit whose rooms hold all blocks is the best; then take away "
                "what is too much, and leave each rank in the middle at least one.",
            ),
            MODELS,
        ),
        "08.2": Exercise(
            "find the straggler",
            _STRAGGLER,
            _judge_straggler,
            (
                "Print how long each F of rank 0 takes in each replica. Do the same for the last "
                "rank. With whom is it fair to compare a worker?",
                "An event has rank, kind, start and end. A WAIT is long for those who wait, not "
                "for the one they wait for; and one long box among many short ones is a pause.",
                "For each worker one number that a single long box does not change: the median of "
                "its F and B. Divide it by the smallest of the same rank in all replicas.",
            ),
            JOBS,
        ),
    },
    QUESTIONS,
)

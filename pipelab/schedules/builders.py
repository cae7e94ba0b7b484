"""The schedules that every paper starts from: sequential, GPipe and 1F1B, one stage per rank.

All run their backwards in microbatch order, so that gradients add up in the same order as in one
process, bit for bit.
"""

from pipelab.action import Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules.schedule import Schedule


def sequential(num_ranks: int, num_microbatches: int = 1) -> Schedule:
    """One microbatch at a time, there and back: nothing overlaps.

    >>> print(sequential(2))
    sequential: 2 ranks, 1 microbatch
    rank 0  0F0 ·   ·   0B0
    rank 1  ·   1F0 1B0 ·
    """
    check_sizes(num_ranks, num_microbatches)
    rows = tuple(
        tuple(Action(rank, kind, i) for i in range(num_microbatches) for kind in (Kind.F, Kind.B))
        for rank in range(num_ranks)
    )
    return Schedule(rows, "sequential")


def gpipe(num_ranks: int, num_microbatches: int) -> Schedule:
    """All forwards, then all backwards (GPipe, Huang et al. 2019, arXiv 1811.06965, section 2.3).

    Bubble fraction (p-1)/(m+p-1); every rank holds the activations of all m microbatches.

    >>> print(gpipe(2, 2))
    gpipe: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 ·   ·   0B0 0B1
    rank 1  ·   1F0 1F1 1B0 1B1 ·
    """
    check_sizes(num_ranks, num_microbatches)
    rows = tuple(
        tuple(Action(rank, kind, i) for kind in (Kind.F, Kind.B) for i in range(num_microbatches))
        for rank in range(num_ranks)
    )
    return Schedule(rows, "gpipe")


def one_f_one_b(num_ranks: int, num_microbatches: int) -> Schedule:
    """One forward, one backward (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503).

    The same bubble as GPipe, (p-1)/(m+p-1), but rank r holds the activations of at most
    min(m, p-r) microbatches.

    >>> print(one_f_one_b(2, 3))
    1f1b: 2 ranks, 3 microbatches
    rank 0  0F0 0F1 ·   0B0 0F2 0B1 ·   0B2
    rank 1  ·   1F0 1B0 1F1 1B1 1F2 1B2 ·
    """
    check_sizes(num_ranks, num_microbatches)
    p, m = num_ranks, num_microbatches
    rows = (_one_f_one_b_rank(rank, m, ahead=p - 1 - rank) for rank in range(p))
    return Schedule(tuple(rows), "1f1b")


def eager_one_f_one_b(num_ranks: int, num_microbatches: int) -> Schedule:
    """1F1B with twice the warmup (Zhuang et al. 2022, arXiv 2211.05322: eager-1F1B).

    In the steady state of 1F1B a rank needs each message at once, so slow messages add up. Here
    a message has the time of a whole action to arrive. The price: rank r holds the activations of
    up to min(m, 2(p-r)-1) microbatches.

    >>> print(eager_one_f_one_b(2, 3))
    eager_1f1b: 2 ranks, 3 microbatches
    rank 0  0F0 0F1 0F2 0B0 ·   0B1 ·   0B2
    rank 1  ·   1F0 1B0 1F1 1B1 1F2 1B2 ·
    """
    check_sizes(num_ranks, num_microbatches)
    p, m = num_ranks, num_microbatches
    rows = (_one_f_one_b_rank(rank, m, ahead=2 * (p - 1 - rank)) for rank in range(p))
    return Schedule(tuple(rows), "eager_1f1b")


def _one_f_one_b_rank(rank: int, m: int, ahead: int) -> tuple[Action, ...]:
    """``ahead`` forwards run before the first backward."""
    forward = [Action(rank, Kind.F, i) for i in range(m)]
    backward = [Action(rank, Kind.B, i) for i in range(m)]
    ahead = min(m, ahead)
    warmup = forward[:ahead]
    steady = [a for pair in zip(forward[ahead:], backward, strict=False) for a in pair]
    cooldown = backward[m - ahead :]
    return (*warmup, *steady, *cooldown)


def check_sizes(num_ranks: int, num_microbatches: int, stages_per_rank: int = 1) -> None:
    """Refuse sizes for which no schedule exists."""
    if num_ranks < 1:
        raise ScheduleError(f"num_ranks is {num_ranks}: a pipeline needs at least 1 rank")
    if num_microbatches < 1:
        raise ScheduleError(
            f"num_microbatches is {num_microbatches}: a batch is cut into at least 1 microbatch"
        )
    if stages_per_rank < 1:
        raise ScheduleError(f"stages_per_rank is {stages_per_rank}: a rank owns at least 1 stage")

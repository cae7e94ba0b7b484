"""Zero bubble: split each backward in I and W, and let W fill what would be idle time.

Only I is on the critical path: the rank before waits for the input's gradient, nobody waits for
the weights'. (Qi, Wan, Huang, Lin 2023, arXiv 2401.10241; the paper writes B for our I.)
"""

from pipelab.action import Action, Kind
from pipelab.schedules.builders import check_sizes
from pipelab.schedules.schedule import Schedule


def zero_bubble_h1(num_ranks: int, num_microbatches: int) -> Schedule:
    """ZB-H1 (section 2.2): the memory of 1F1B's first rank, p activations, on every rank.

    Bubble (p-1)(F+I-W). Rank r delays its W by r microbatches.

    >>> print(zero_bubble_h1(2, 2))
    zero_bubble_h1: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 ·   0I0 0W0 0I1 0W1
    rank 1  ·   1F0 1I0 1F1 1I1 1W0 1W1
    """
    check_sizes(num_ranks, num_microbatches)
    p, m = num_ranks, num_microbatches
    rows = (_with_late_weights(r, m, ahead=p - 1 - r, late=r) for r in range(p))
    return Schedule(tuple(rows), "zero_bubble_h1")


def zero_bubble_h2(num_ranks: int, num_microbatches: int) -> Schedule:
    """ZB-H2 (section 2.2): twice the memory, 2p-1 activations, and no idle time within a rank.

    Each rank's own span has the bubble (p-1)(F+I-2W), 0 if F = I = W; the ranks still start, and
    end, one after another.

    >>> print(zero_bubble_h2(2, 3))
    zero_bubble_h2: 2 ranks, 3 microbatches
    rank 0  0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2 ·
    rank 1  ·   1F0 1I0 1F1 1I1 1F2 1I2 1W0 1W1 1W2
    """
    check_sizes(num_ranks, num_microbatches)
    p, m = num_ranks, num_microbatches
    rows = (_with_late_weights(r, m, ahead=2 * (p - 1 - r), late=2 * r) for r in range(p))
    return Schedule(tuple(rows), "zero_bubble_h2")


def _with_late_weights(stage: int, m: int, ahead: int, late: int) -> tuple[Action, ...]:
    """1F1B with ``ahead`` forwards before the first I; each W waits for ``late`` more I."""
    row: list[Action] = [Action(stage, Kind.F, i) for i in range(min(m, ahead))]
    for i in range(m + late):
        if ahead + i < m:
            row.append(Action(stage, Kind.F, ahead + i))
        if i < m:
            row.append(Action(stage, Kind.I, i))
        if 0 <= i - late < m:
            row.append(Action(stage, Kind.W, i - late))
    return tuple(row)


def zero_bubble_v(num_ranks: int, num_microbatches: int) -> Schedule:
    """ZB-V (section 6): rank r owns stages r and 2p-1-r, so a microbatch goes there and back.

    No idle time within a rank's span if F = I = W and m >= 2p-1, with the memory of 1F1B: p
    activations of a rank's whole slice. Fewer microbatches run the same order with holes.

    >>> print(zero_bubble_v(2, 2))
    zero_bubble_v: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 ·   3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 ·   0I1 0W1
    rank 1  ·   1F0 2F0 1F1 2F1 2I0 2W0 1I0 1W0 2I1 2W1 1I1 1W1 ·
    """
    check_sizes(num_ranks, num_microbatches)
    p, m = num_ranks, num_microbatches
    return Schedule(tuple(_vee_rank(rank, p, m) for rank in range(p)), "zero_bubble_v")


def _vee_rank(rank: int, p: int, m: int) -> tuple[Action, ...]:
    """One rank's row. Leg 0 is its stage in the first half of the model, leg 1 in the second."""
    full = max(m, 2 * p - 1)  # the order of the paper fills all ranks; smaller m leave holes
    stages = (rank, 2 * p - 1 - rank)
    count = {(kind, leg): 0 for kind in (Kind.F, Kind.I, Kind.W) for leg in (0, 1)}
    row: list[Action] = []

    def run(kinds: str, leg: int) -> None:
        for kind in map(Kind, kinds):
            row.append(Action(stages[leg], kind, count[kind, leg]))
            count[kind, leg] += 1

    for _ in range(2 * (p - rank) - 1):  # warmup: leg 0, until the first microbatch comes back
        run("F", 0)
    for _ in range(rank):
        run("F", 1)
        run("F", 0)
    for _ in range(p - rank):
        run("FIW", 1)
    while count[Kind.F, 1] < full:  # steady: one F and one backward on each leg
        if count[Kind.F, 0] < full:
            run("F", 0)
        run("IW", 0)
        run("FIW", 1)
    for _ in range(rank):  # cooldown: I first, since others wait for it; W where it fits
        run("I", 0)
        run("I", 1)
    for _ in range(p - rank):
        run("IW", 0)
    for leg in (1, 0):
        while count[Kind.W, leg] < full:
            run("W", leg)
    return tuple(a for a in row if a.microbatch is not None and a.microbatch < m)

"""Several stages per rank: rank r owns stages r, r+p, r+2p ... (looped placement).

A microbatch passes every rank v times, so the ranks fill up v times faster, at the price of v
times the messages.
"""

from collections.abc import Sequence
from itertools import accumulate

from pipelab.action import Action, Kind
from pipelab.schedules.builders import check_sizes
from pipelab.schedules.schedule import Schedule


def interleaved(num_ranks: int, num_microbatches: int, stages_per_rank: int = 2) -> Schedule:
    """Interleaved 1F1B (Narayanan et al. 2021, arXiv 2104.04473, section 2.2).

    Bubble (p-1)(F+B)/v. Rank r holds at most (v-1)p + 2(p-1-r) + 1 activations of one stage.
    Microbatches go round in groups of p. The paper wants m to be a multiple of p; otherwise the
    groups here are a little larger, the first ones most.

    >>> print(interleaved(2, 2))
    interleaved: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 2F0 2F1 ·   2B0 ·   2B1 0B0 0B1
    rank 1  ·   1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 ·
    """
    check_sizes(num_ranks, num_microbatches, stages_per_rank)
    p, m, v = num_ranks, num_microbatches, stages_per_rank
    rounds = max(1, m // p)
    groups = [m // rounds + (i < m % rounds) for i in range(rounds)]
    rows = []
    for rank in range(p):
        stages = [rank + lap * p for lap in range(v)]
        forward = _in_groups(Kind.F, stages, groups)
        backward = _in_groups(Kind.B, stages[::-1], groups)
        ahead = min(v * m, (v - 1) * groups[0] + 2 * (p - 1 - rank))
        warmup, rest = forward[:ahead], forward[ahead:]
        steady = [a for pair in zip(rest, backward, strict=False) for a in pair]
        rows.append((*warmup, *steady, *backward[len(rest) :]))
    return Schedule(tuple(rows), "interleaved")


def looped_bfs(num_ranks: int, num_microbatches: int, stages_per_rank: int = 2) -> Schedule:
    """Looped, breadth first (Lamy-Poirier 2022, arXiv 2211.05953, section 4.1).

    Each stage runs all its microbatches before the next: GPipe with v laps. Bubble
    (p-1)(F+B)/v; a rank holds the activations of all m microbatches.

    >>> print(looped_bfs(2, 2))
    looped_bfs: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 2F0 2F1 ·   ·   2B0 2B1 0B0 0B1
    rank 1  ·   1F0 1F1 3F0 3F1 3B0 3B1 1B0 1B1 ·
    """
    check_sizes(num_ranks, num_microbatches, stages_per_rank)
    p, m = num_ranks, num_microbatches
    rows = []
    for rank in range(p):
        stages = [rank + lap * p for lap in range(stages_per_rank)]
        forward = _in_groups(Kind.F, stages, [m])
        rows.append((*forward, *_in_groups(Kind.B, stages[::-1], [m])))
    return Schedule(tuple(rows), "looped_bfs")


def _in_groups(kind: Kind, stages: Sequence[int], groups: Sequence[int]) -> list[Action]:
    """Groups of microbatches in turn; within each, stage after stage."""
    return [
        Action(stage, kind, i)
        for end, size in zip(accumulate(groups), groups, strict=True)
        for stage in stages
        for i in range(end - size, end)
    ]

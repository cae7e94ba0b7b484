"""Cut a row of costs into contiguous parts so that the largest part is as small as possible.

The linear partition problem, solved exactly by dynamic programming over prefix sums; it knows
numbers, not torch.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from pipelab.errors import PartitionError


def balance(costs: Sequence[float], num_parts: int) -> list[int]:
    """The number of items in each part; every part gets at least one.

    >>> balance([1, 1, 1, 1, 4], 2)
    [4, 1]

    Raises:
        PartitionError: fewer items than parts, or fewer parts than one.
    """
    n = len(costs)
    if num_parts < 1:
        raise PartitionError(f"{num_parts} stages: a model has at least 1")
    if n < num_parts:
        raise PartitionError(
            f"{n} layers cannot fill {num_parts} stages: "
            f"use at most {n} stages, or a model with more layers"
        )
    total = [0.0, *accumulate(costs)]
    # best[k]: the smallest possible largest part when the first k items form the parts so far
    best = total[:]
    cuts: list[list[int]] = []
    for parts in range(2, num_parts + 1):
        row, cut = [float("inf")] * (n + 1), [0] * (n + 1)
        for k in range(parts, n + 1):
            options = ((max(best[j], total[k] - total[j]), j) for j in range(parts - 1, k))
            row[k], cut[k] = min(options)
        best = row
        cuts.append(cut)
    ends = [n]
    for cut in reversed(cuts):
        ends.append(cut[ends[-1]])
    ends = [*ends, 0][::-1]
    return [b - a for a, b in pairwise(ends)]

"""Share a batch out: to the replicas, and to microbatches.

Each microbatch gets its weight here, by THE GRADIENT RULE (protocol/gradient_rule.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from pipelab.engine.protocol import gradient_rule
from pipelab.engine.protocol.gradient_rule import Reduction
from pipelab.partition.tree import Flat

Count = Callable[[Any], "float | Tensor"]


@dataclass(frozen=True)
class Rule:
    """What a loss averages.

    Attributes:
        count: for the targets of one microbatch, how many terms its loss averages (or adds up);
            None counts rows.
        reduction: ``"mean"`` for a loss that averages over them, ``"sum"`` for one that adds up.
    """

    count: Count | None = None
    reduction: Reduction = "mean"

    def weights(self, targets: Flat | None, sizes: list[int]) -> list[float]:
        """The weight of each microbatch of the whole batch, whose rows are ``sizes``."""
        if targets is None:
            return [1.0] * len(sizes)
        counts = [float(size) for size in sizes]
        if self.count is not None:
            counts = [float(self.count(part.unflatten())) for part in targets.cut(sizes)]
        return gradient_rule.weights(counts, self.reduction)


class Share(NamedTuple):
    """One replica's part of a batch; ``first`` is the number of its first microbatch."""

    inputs: Flat
    targets: Flat | None
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    first: int


def share_out(
    inputs: Flat, targets: Flat | None, rows: int, num_microbatches: int, replicas: int, rule: Rule
) -> list[Share]:
    """The shares of all replicas, by rows, each cut into microbatches as equal as can be."""
    parts = microbatch_sizes(rows, replicas)
    sizes = [microbatch_sizes(part, min(num_microbatches, part)) for part in parts]
    weights = rule.weights(targets, [size for row in sizes for size in row])
    inputs_of = inputs.cut(parts)
    targets_of = [None] * replicas if targets is None else targets.cut(parts)
    shares, first = [], 0
    for i, row in enumerate(sizes):
        own = tuple(weights[first : first + len(row)])
        shares.append(Share(inputs_of[i], targets_of[i], row, own, first))
        first += len(row)
    return shares


def microbatch_sizes(rows: int, num_microbatches: int) -> tuple[int, ...]:
    """Rows of each microbatch: as equal as can be, the larger ones first (torch.tensor_split).

    >>> microbatch_sizes(10, 4), microbatch_sizes(0, 0)
    ((3, 3, 2, 2), ())
    """
    if num_microbatches == 0:
        return ()
    small, larger = divmod(rows, num_microbatches)
    return tuple(small + (i < larger) for i in range(num_microbatches))

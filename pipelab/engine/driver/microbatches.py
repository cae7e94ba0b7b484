"""Deal a batch out: to replicas, to microbatches, and to the two ranks that see the data.

THE gradient rule stands here: a microbatch weighs what it counts over what the whole batch
counts, replicas included. ``stage`` multiplies its loss with this weight, once, and nowhere else
is a gradient scaled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from pipelab.engine.protocol import tree
from pipelab.errors import BatchError

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
    reduction: Literal["mean", "sum"] = "mean"

    def weights(self, microbatches: list[Any], sizes: list[int]) -> list[float]:
        """For each microbatch of the whole batch, what to multiply its loss with."""
        counts = [float(size) for size in sizes]
        if self.count is not None:
            counts = [float(self.count(targets)) for targets in microbatches]
        total = sum(counts)
        if not 0.0 < total < float("inf") or min(counts) < 0.0:
            raise BatchError(
                f"count= gave {counts} for the microbatches: a mean needs counts >= 0, and one "
                f"above 0"
            )
        # one division per microbatch: the same float that a plain loop would multiply with
        return [n / total if self.reduction == "mean" else 1.0 / total for n in counts]


class Share(NamedTuple):
    """One replica's part of a batch; ``first`` is the number of its first microbatch."""

    inputs: Any
    targets: Any
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    first: int


def deal(
    inputs: Any, targets: Any, rows: int, num_microbatches: int, replicas: int, rule: Rule
) -> list[Share]:
    """The shares of all replicas, by rows, each cut into microbatches as equal as can be."""
    parts = microbatch_sizes(rows, replicas)
    sizes = [microbatch_sizes(part, min(num_microbatches, part)) for part in parts]
    flat = [size for row in sizes for size in row]
    cut_targets = [] if targets is None else tree.cut(targets, flat)
    weights = rule.weights(cut_targets, flat) if targets is not None else [1.0] * len(flat)
    inputs_of, targets_of = (
        [None] * replicas if x is None else tree.cut(x, parts) for x in (inputs, targets)
    )
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

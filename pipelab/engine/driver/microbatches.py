"""Share a batch out: to the replicas, and to microbatches.

Each microbatch gets its weight here, by THE GRADIENT RULE (protocol/gradient_rule.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from pipelab.engine.protocol import gradient_rule
from pipelab.engine.protocol.commands import Reduction, Trial
from pipelab.errors import BatchError
from pipelab.partition.tree import Flat, described

Count = Callable[[Any], "float | Tensor"]
_TRIED_ROWS = 8  # enough to judge a loss; each is one more call of it


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
        """The weight of each microbatch of the whole batch, whose rows are ``sizes``.

        Raises:
            BatchError: ``count`` gave no number, or counts of which no mean can be taken.
        """
        if targets is None:
            return [1.0] * len(sizes)
        counts = [float(size) for size in sizes]
        if self.count is not None:
            counts = [self.counted(part) for part in targets.cut(sizes)]
        return gradient_rule.weights(counts, self.reduction)

    def counted(self, targets: Flat) -> float:
        """What some targets count. Raises BatchError if that is no number."""
        if self.count is None:
            return float(targets.rows)
        found = self.count(targets.unflatten())
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            raise BatchError(
                f"count= returned {described(found)} for the targets of a microbatch: return one "
                f"number, how many terms the loss averages, as (targets != -100).sum()"
            ) from None

    def trial(self, targets: Flat, sizes: Sequence[int]) -> Trial | None:
        """How to try the loss on the first rows; None if they are too few, or count nothing."""
        takes = _first_rows(sizes)
        rows = sum(takes)
        each = targets.first(rows).cut([1] * rows)
        try:
            counts = [self.counted(row) for row in each]
        except Exception:  # a count= that wants more than one row
            return None
        is_judged = rows >= 2 and sum(counts) > 0.0 and min(counts) >= 0.0
        return Trial(tuple(counts), takes, self.reduction) if is_judged else None


class Share(NamedTuple):
    """One replica's part of a batch.

    ``first`` is the number of its first microbatch, ``trial`` one of the loss, if it is wanted.
    """

    inputs: Flat
    targets: Flat | None
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    first: int
    trial: Trial | None


def share_out(
    inputs: Flat, targets: Flat | None, rows: int, num_microbatches: int, replicas: int, rule: Rule,
    with_trial: bool = False,
) -> list[Share]:  # fmt: skip
    """The shares of all replicas, by rows, each cut into microbatches as equal as can be."""
    parts = microbatch_sizes(rows, replicas)
    sizes = [microbatch_sizes(part, min(num_microbatches, part)) for part in parts]
    weights = rule.weights(targets, [size for row in sizes for size in row])
    inputs_of = inputs.cut(parts)
    targets_of = [None] * replicas if targets is None else targets.cut(parts)
    shares, first = [], 0
    for i, row in enumerate(sizes):
        own = tuple(weights[first : first + len(row)])
        theirs = targets_of[i]
        trial = None if theirs is None or not with_trial else rule.trial(theirs, row)
        shares.append(Share(inputs_of[i], theirs, row, own, first, trial))
        first += len(row)
    return shares


def _first_rows(sizes: Sequence[int]) -> tuple[int, ...]:
    """How many rows each of the first microbatches gives to a trial of the loss."""
    takes, missing = [], _TRIED_ROWS
    for size in sizes:
        if missing > 0:
            takes.append(min(size, missing))
            missing -= size
    return tuple(takes)


def microbatch_sizes(rows: int, num_microbatches: int) -> tuple[int, ...]:
    """Rows of each microbatch: as equal as can be, the larger ones first (torch.tensor_split).

    >>> microbatch_sizes(10, 4), microbatch_sizes(0, 0)
    ((3, 3, 2, 2), ())
    """
    if num_microbatches == 0:
        return ()
    small, larger = divmod(rows, num_microbatches)
    return tuple(small + (i < larger) for i in range(num_microbatches))

"""Share a batch out: to the replicas, and to microbatches.

Each microbatch gets its weight here, by THE GRADIENT RULE (protocol/gradient_rule.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
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

    def weights(
        self, targets: Flat | None, sizes: list[int], tokens: Sequence[int] = ()
    ) -> list[float]:
        """The weight of each microbatch of the whole batch, whose rows are ``sizes``.

        Of each of its slices, where it has some of so many ``tokens``.

        Raises:
            BatchError: ``count`` gave no number, or counts of which no mean can be taken.
        """
        if targets is None:
            return [1.0] * len(sizes)
        counts = [float(size * length) for size in sizes for length in tokens or (1,)]
        if self.count is not None:
            parts = targets.cut(sizes)
            parts = [piece for part in parts for piece in part.sliced(tokens)] if tokens else parts
            counts = [self.counted(part) for part in parts]
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
    with_trial: bool = False, tokens: Sequence[int] = (),
) -> list[Share]:  # fmt: skip
    """The shares of all replicas, by rows, each cut into microbatches as equal as can be.

    ``tokens``: of each slice of a microbatch; empty where it is whole.
    """
    parts = microbatch_sizes(rows, replicas)
    sizes = [microbatch_sizes(part, min(num_microbatches, part)) for part in parts]
    weights = rule.weights(targets, [size for row in sizes for size in row], tokens)
    inputs_of = inputs.cut(parts)
    targets_of = [None] * replicas if targets is None else targets.cut(parts)
    shares, first = [], 0
    for i, row in enumerate(sizes):
        pieces = len(row) * (len(tokens) or 1)
        own = tuple(weights[first : first + pieces])
        theirs = targets_of[i]
        trial = None if theirs is None or not with_trial else rule.trial(theirs, row)
        shares.append(Share(inputs_of[i], theirs, row, own, first, trial))
        first += pieces
    return shares


def _first_rows(sizes: Sequence[int]) -> tuple[int, ...]:
    """How many rows each of the first microbatches gives to a trial of the loss."""
    takes, missing = [], _TRIED_ROWS
    for size in sizes:
        if missing > 0:
            takes.append(min(size, missing))
            missing -= size
    return tuple(takes)


def slice_tokens(
    inputs: Flat, targets: Flat | None, slices: int, shares: Sequence[float]
) -> tuple[int, ...]:
    """How many tokens each slice of a sequence has; () where microbatches are whole.

    Raises:
        BatchError: inputs or targets without a sequence in dimension 1, or too short a one.
    """
    if slices == 1:
        return ()
    flats = [inputs, *([targets] if targets else [])]
    leaves = [leaf for flat in flats for leaf in flat.form.tensors if leaf.dim is not None]
    lengths = {leaf.shape[1] if len(leaf.shape) > 1 and leaf.dim == 0 else 0 for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise BatchError(
            f"a schedule of slices cuts sequences: give inputs and targets of (rows, tokens, ...) "
            f"with\nequally many tokens, not {shapes}; or a schedule without slices"
        )
    (length,) = lengths
    ends = [*accumulate(shares or [1 / slices] * slices)]
    places = [0, *(round(end * length) for end in ends)]
    tokens = tuple(b - a for a, b in pairwise(places))
    if min(tokens) < 1:
        raise BatchError(
            f"a sequence of {length} tokens cannot be cut into slices of {tokens}: every slice has "
            f"at least one"
        )
    return tokens


def microbatch_sizes(rows: int, num_microbatches: int) -> tuple[int, ...]:
    """Rows of each microbatch: as equal as can be, the larger ones first (torch.tensor_split).

    >>> microbatch_sizes(10, 4), microbatch_sizes(0, 0)
    ((3, 3, 2, 2), ())
    """
    if num_microbatches == 0:
        return ()
    small, larger = divmod(rows, num_microbatches)
    return tuple(small + (i < larger) for i in range(num_microbatches))

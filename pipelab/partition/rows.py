"""How a tensor of a batch is cut into microbatches, where it is not by its first dimension.

    x                 by rows, in dimension 0
    Rows(x, dim=1)    by rows, in dimension 1: (tokens, rows, width)
    Whole(mask)       not at all: each microbatch gets all of it

These stand around a tensor in the inputs or targets of a step; layers and losses get the tensor
alone.
"""

from dataclasses import dataclass

from torch import Tensor

from pipelab.errors import BatchError


@dataclass(frozen=True)
class Rows:
    """A tensor whose rows are in dimension ``dim``.

    Raises:
        BatchError: no tensor, or one without this dimension.
    """

    tensor: Tensor
    dim: int = 0

    def __post_init__(self) -> None:
        _check_tensor(self)
        size = self.tensor.dim()
        if not -size <= self.dim < size:
            raise BatchError(f"Rows(x, dim={self.dim}): x has {size} dimensions")


@dataclass(frozen=True)
class Whole:
    """A tensor that each microbatch gets whole, such as a mask or a table of positions.

    Raises:
        BatchError: no tensor.
    """

    tensor: Tensor

    def __post_init__(self) -> None:
        _check_tensor(self)


def _check_tensor(mark: Rows | Whole) -> None:
    if not isinstance(mark.tensor, Tensor):
        name = type(mark).__name__
        raise BatchError(
            f"{name} is given a {type(mark.tensor).__name__}: it stands around one tensor, as in "
            f'{{"x": x, "mask": {name}(mask)}}'
        )

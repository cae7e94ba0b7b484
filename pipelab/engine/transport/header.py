"""A form as a message: what goes ahead of a value whose form its receiver does not know yet.

first piece   (4096,) bytes: the length of the form in bytes, then as much of it as fits
second piece  the rest; only if there is one
"""

import torch
from torch import Tensor

from pipelab.partition import tree
from pipelab.partition.tree import Form

HEADER_BYTES = 4096
_LENGTH_BYTES = 8
_FITS = HEADER_BYTES - _LENGTH_BYTES


def pieces(form: Form) -> list[Tensor]:
    """The one or two messages that carry a form: uint8, the first of 4096 bytes."""
    data = tree.encode(form)
    first = len(data).to_bytes(_LENGTH_BYTES, "little") + data[:_FITS].ljust(_FITS, b"\0")
    return [_as_tensor(part) for part in (first, data[_FITS:]) if part]


def rest_bytes(first: Tensor) -> int:
    """The size of the second piece; 0 if the first one is all."""
    return max(0, _length(first) - _FITS)


def form_in(first: Tensor, rest: Tensor | None = None) -> Form:
    """The form that ``pieces`` wrote.

    >>> form = tree.flatten([torch.zeros(2)]).form
    >>> form_in(*pieces(form)) == form
    True
    """
    data = first[_LENGTH_BYTES:].numpy().tobytes()
    if rest is not None:
        data += rest.numpy().tobytes()
    return tree.decode(data[: _length(first)])


def _length(first: Tensor) -> int:
    return int.from_bytes(first[:_LENGTH_BYTES].numpy().tobytes(), "little")


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)

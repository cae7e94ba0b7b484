"""What an answer returns, as plain data: numbers, text, lists, dicts and tensors.

The process of an answer may be under the answer's control, so its bytes are read as JSON, which
runs no code. Tensors follow as raw bytes:

    length of the text   4 bytes, big-endian
    the text             JSON; a float is a number, the other kinds are objects of one key
    the tensors          their bytes, one after another, in the order of the text
"""

import math
import operator
import struct
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from json import dumps, loads  # a cell of the notebook may replace json's own
from numbers import Integral, Real
from typing import SupportsFloat, SupportsIndex

import numpy as np
import torch

from pipelab.action import Action
from pipelab.partition.tree import raw_bytes

MOST_ITEMS = 100_000  # of a list, or of a tensor
_UNORDERED = (set, frozenset)
_RAW = (bytes, bytearray)
_LENGTH = struct.Struct("!I")
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
    )
}


def plain(value: object, in_dict: bool = False) -> object:
    """The value as lists, dicts, text, numbers and tensors; an Action becomes its token.

    Whatever can be iterated in order becomes a list, whatever is a number an int or a float.
    Tensors and arrays become lists, too, except where a dict holds them by name.

    Raises:
        TypeError: it holds something else, or has no end.

    >>> plain((1, range(2), Action.parse("2F0"), map(abs, [-3.0]), Decimal("0.5")))
    [1, [0, 1], '2F0', [3.0], 0.5]
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        return _tensor(value) if in_dict and _has_numbers(value) else plain(_listed(value))
    if isinstance(value, Action):
        return value.token
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping | torch.nn.ParameterDict):
        return {_key(key): plain(item, in_dict=True) for key, item in value.items()}
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Real | Decimal):
        return _number(value)
    if isinstance(value, Iterable) and not isinstance(value, (*_UNORDERED, *_RAW)):
        return _items(value)
    if not isinstance(value, (type, *_RAW)):  # a class has these methods, too, for its objects
        if isinstance(value, SupportsIndex):
            return operator.index(value)
        if isinstance(value, SupportsFloat):
            return float(value)
        if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
            return _items(value[i] for i in range(min(len(value), MOST_ITEMS + 1)))
    raise TypeError(f"it returned a {type(value).__name__}{_instead(value)}")


def _instead(value: object) -> str:
    if isinstance(value, _UNORDERED):
        return ", which has no order; return a list"
    if isinstance(value, _RAW):
        return "; return text"
    if callable(value):
        return "; return what it gives: call it"
    return "; return lists, numbers or text"


def _number(value: Real | Decimal) -> int | float:
    """An int if it is a whole number of an exact kind, else a float."""
    if isinstance(value, Integral):
        return int(value)
    exact = not isinstance(value, float | np.floating)
    if exact and math.isfinite(value) and value == math.trunc(value):
        return operator.index(math.trunc(value))
    return float(value)


def _items(values: Iterable[object]) -> list[object]:
    found = [plain(item) for item in islice(values, MOST_ITEMS + 1)]
    if len(found) > MOST_ITEMS:
        raise TypeError(f"it returned more than {MOST_ITEMS:,} items; return as many as asked for")
    return found


def _key(key: object) -> object:
    found = plain(key)
    if isinstance(found, list | dict | torch.Tensor):
        raise TypeError(f"it returned a dict with a {type(key).__name__} as a name; use text")
    return found


def _has_numbers(value: "torch.Tensor | np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bool:
    return isinstance(value, torch.Tensor) or value.dtype.kind in "fiub"


def _listed(value: object) -> object:
    """A tensor or an array as nested lists, or as a number if it has no dimension."""
    if isinstance(value, torch.Tensor):
        return _tensor(value).tolist()
    assert isinstance(value, np.ndarray)
    if value.size > MOST_ITEMS:
        raise TypeError(f"it returned an array of {value.size:,} items; return what is asked for")
    return value[()] if value.ndim == 0 else value.tolist()


def _tensor(value: object) -> torch.Tensor:
    """The tensor, or the array, as a plain dense tensor in memory, without a graph."""
    if isinstance(value, np.ndarray):
        number_kind = value if value.dtype.itemsize <= 8 else value.astype(np.float64)
        return torch.from_numpy(np.array(number_kind, order="C"))
    assert isinstance(value, torch.Tensor)
    kind = f"{value.layout} tensor on {value.device} of {value.dtype}".replace("torch.", "")
    if value.is_meta or value.is_quantized or value.is_complex() or value.is_nested:
        raise TypeError(f"it returned a {kind}; return an ordinary tensor of numbers")
    if value.numel() > MOST_ITEMS:
        raise TypeError(f"it returned a {kind} with {value.numel():,} items; return fewer")
    dense = value.detach().cpu().to_dense() if value.layout is not torch.strided else value
    found = dense.detach().cpu().as_subclass(torch.Tensor).resolve_neg().contiguous()
    if str(found.dtype).removeprefix("torch.") not in _DTYPES:
        raise TypeError(f"it returned a {kind}; return one of float32")
    return found


# -------------------------------------------------------------------------------- as bytes


def encoded(value: object) -> bytes:
    """What ``plain`` gives, as bytes."""
    tensors: list[bytes] = []
    text = dumps(_to_json(value, tensors)).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *tensors])


def decoded(data: bytes) -> object:
    """The value again. Raises ValueError for bytes that ``encoded`` has not made."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        text, rest = data[_LENGTH.size :][:length], data[_LENGTH.size + length :]
        return _Reader(rest).value(loads(text))
    except (ValueError, TypeError, KeyError, struct.error, RecursionError, RuntimeError) as error:
        raise ValueError(f"these bytes are no plain data: {error}") from None


def _to_json(value: object, tensors: list[bytes]) -> object:
    if type(value) is int:
        return {"int": hex(value)}  # JSON's own are limited to 4,300 digits
    if isinstance(value, list):
        return [_to_json(item, tensors) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_to_json(k, tensors), _to_json(v, tensors)] for k, v in value.items()]}
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        tensors.append(raw_bytes(value).numpy().tobytes())
        return {"tensor": [dtype, *value.shape]}
    return value


class _Reader:
    """Turns JSON into values, and takes tensors' bytes from ``rest`` on the way."""

    def __init__(self, rest: bytes):
        self._rest = rest

    def value(self, found: object) -> object:
        """The value that a part of the text stands for."""
        if isinstance(found, list):
            return [self.value(item) for item in found]
        if isinstance(found, str):
            return found.encode("utf-8", "replace").decode()  # half a pair cannot be printed
        if not isinstance(found, dict):
            return found
        ((kind, content),) = found.items()
        match kind:
            case "int":
                return int(content, 16)
            case "dict":
                return {self.value(key): self.value(item) for key, item in content}
            case "tensor":
                return self._tensor(*content)
        raise ValueError(f"there is no kind {kind!r}")

    def _tensor(self, dtype: str, *shape: int) -> torch.Tensor:
        number = math.prod(map(int, shape))
        size = number * _DTYPES[dtype].itemsize
        raw, self._rest = self._rest[:size], self._rest[size:]
        if min((0, *shape)) < 0 or len(raw) != size:
            raise ValueError(f"{len(raw)} bytes for a tensor {shape} of {dtype}")
        if not raw:
            return torch.empty(shape, dtype=_DTYPES[dtype])
        return torch.frombuffer(bytearray(raw), dtype=_DTYPES[dtype]).reshape(shape)

"""What travels between layers: a tensor, or tuples, lists and dicts of them."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Value = Tensor | Sequence["Value"] | Mapping[str, "Value"] | int | float | None
"""A gradient flows through its tensors of floats; numbers and None go along as they are."""


def tensors_of(value: Value) -> list[Tensor]:
    """All tensors in a value, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for part in value.values() for tensor in tensors_of(part)]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors_of(part)]
    return []


def map_tensors(function: Callable[[Tensor], Tensor], value: Value) -> Value:
    """A value of the same build, each tensor replaced by what the function makes of it.

    >>> map_tensors(lambda t: t * 2, {"a": (Tensor([1]), None)})
    {'a': (tensor([2.]), None)}
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [map_tensors(function, part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value

"""The state of each stage's optimizer in a saved training, by the parameters' names.

    "stage 2"      StageState: one optimizer, its groups, what it remembers of each parameter
    "loss scale"   fp16's scale, the same on all ranks

Parameters go by the model's own names, so a stage of another cut finds its own. All of it is made
of tensors and plain values, which a file can give back without running code.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor


def stage_key(stage: int) -> str:
    """Where the state of a stage's optimizer is."""
    return f"stage {stage}"


def only(saved: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A saved training without the stages that have other keys."""
    return {k: v for k, v in saved.items() if k in keys or not k.startswith("stage ")}


class Group(TypedDict):
    """One of an optimizer's groups: whose parameters it has, and with which settings."""

    names: list[str]
    settings: dict[str, Any]


class ScheduleState(TypedDict):
    """A schedule of learning rates: its class, and its own ``state_dict``."""

    kind: str
    state: dict[str, Any]


class StageState(TypedDict):
    """One stage's optimizer: its class, its groups, and its state by the parameters' names.

    ``shared``: what the optimizer keeps for no parameter.
    """

    kind: str
    groups: list[Group]
    state: dict[str, dict[str, Any]]
    shared: dict[Any, Any]
    lr_schedule: NotRequired[ScheduleState]


def are_stages(found: dict[str, dict[str, Any]]) -> bool:
    """Whether what a file gave has this form."""
    return all(
        isinstance(state.get("kind"), str)
        and isinstance(state.get("groups"), list)
        and all(_is_group(group) for group in state["groups"])
        and all(isinstance(state.get(key), dict) for key in ("state", "shared"))
        and isinstance(state.get("lr_schedule", {}), dict)
        for key, state in found.items()
        if key.startswith("stage ")
    )


def _is_group(group: object) -> bool:
    return (
        isinstance(group, dict)
        and isinstance(group.get("names"), list)
        and isinstance(group.get("settings"), dict)
    )


class Unsavable(NamedTuple):
    """Stands where a value was that a file cannot give back without running code."""

    what: str


_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial, type)
_PLAIN = (bool, int, str, bytes, complex, torch.dtype, torch.device, torch.Size)


def plain(value: Any) -> Any:
    """A copy in host memory, made of tensors and plain values.

    A function is left out of its dict: whoever loads this has made it already, as torch's LambdaLR
    does. What else is not plain becomes ``Unsavable``.

    >>> plain({"lr": 0.1, "rule": max, "steps": [1, (2, None)], "file": range(3)})
    {'lr': 0.1, 'steps': [1, (2, None)], 'file': Unsavable(what='a range')}
    """
    kind = type(value)
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if value is None or kind in _PLAIN:
        return value
    if isinstance(value, float):
        return float(value)  # one of numpy's, too: it counts alike
    if kind in (dict, OrderedDict, Counter):
        pairs = [(plain(k), plain(v)) for k, v in value.items() if not isinstance(v, _FUNCTIONS)]
        return kind(dict(pairs)) if kind is Counter else kind(pairs)
    if kind in (list, tuple, set):
        return kind(None if isinstance(x, _FUNCTIONS) else plain(x) for x in value)
    if _is_numpys(value):
        return value.item()
    return Unsavable(f"a {kind.__name__}")


def _is_numpys(value: object) -> bool:
    """Whole numbers and truths alone: a float32 of numpy's counts otherwise than a float."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.integer | numpy.bool_)


def unsavable(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Where in a state something stands that cannot be saved, and what it is."""
    if isinstance(value, Unsavable):
        yield path, value.what
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from unsavable(inner, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from unsavable(inner, path)


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)

"""What belongs to a module: all that a copy of it copies too, and what of that has changed.

A module holds more than parameters and buffers: lists, dicts, objects of any class, functions with
variables of their surroundings. When a stage is sent to its rank, all of these are copied.
"""

import dis
import functools
import pickle
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum

import numpy as np
import torch
from torch import Tensor, nn

from pipelab.partition.tree import raw_bytes

_ATOMS = (
    str, bytes, int, float, complex, bool, Enum, type, types.ModuleType, types.BuiltinFunctionType,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
_CONTAINERS = (Mapping, list, tuple, set, frozenset, deque)
_FUNCTIONS = (functools.partial, types.FunctionType, types.MethodType)
_IN_MODULES = ("_parameters", "_buffers", "_modules")  # they hold what is named without them
_OF_MODULES = vars(nn.Module()).keys() - {*_IN_MODULES}

_LARGE = 1 << 24  # bytes: of a larger tensor, only the number of its changes is kept

Snapshot = dict[str, object]
"""The values at each path: of tensors and arrays copies, of what is walked through its type."""


def walk(root: object, path: str = "") -> Iterator[tuple[str, object]]:
    """All values that belong to ``root``, itself first, each with its path; objects once.

    >>> layer = nn.Linear(2, 3)
    >>> [path for path, value in walk(layer, "0") if isinstance(value, Tensor)]
    ['0.weight', '0.bias']
    """
    seen: dict[int, object] = {}  # holds the objects too, so that no number is used twice
    stack = [(path, root)]
    while stack:
        path, value = stack.pop()
        if not is_atom(value):
            if id(value) in seen:
                continue
            seen[id(value)] = value
        yield path.removeprefix("."), value
        stack += reversed([(path + step, child) for step, child in _parts(value)])


def is_atom(value: object) -> bool:
    """Whether a value cannot change, or is not copied: numbers, texts, classes."""
    if isinstance(value, types.FunctionType):
        return not any(True for _ in _parts_of_function(value))
    return value is None or isinstance(value, _ATOMS)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, with the step of the path that leads there."""
    match value:
        case Tensor():
            return
        case nn.Module():
            yield from _parts_of_module(value)
        case Mapping():
            yield from ((f"[{key!r}]", child) for key, child in value.items())
        case list() | tuple() | set() | frozenset() | deque():
            yield from ((f"[{i}]", child) for i, child in enumerate(value))
        case functools.partial():
            yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
        case types.FunctionType():
            yield from _parts_of_function(value)
        case types.MethodType():
            yield ".__self__", value.__self__
        case _ if not is_atom(value) and not _pickles_itself(value):
            yield from (
                (f".{name}", child) for name, child in getattr(value, "__dict__", {}).items()
            )
            yield from _slots(value)


def _parts_of_module(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Parameters, buffers and modules by name; of the rest, what is not every module's own."""
    for name, value in vars(module).items():
        if name in _IN_MODULES:
            yield from ((f".{key}", child) for key, child in value.items())
        elif name not in _OF_MODULES or (isinstance(value, dict) and value):  # hooks
            yield f".{name}", value
    for kind in type(module).__mro__:
        if not kind.__module__.startswith("torch."):
            for function in vars(kind).values():
                if isinstance(function, types.FunctionType):
                    yield from _globals(function)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """The variables of its surroundings, and the layers and tensors among its globals."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that has no value yet
            yield f".{name}", cell.cell_contents
    yield from _globals(function)


def _globals(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name in _global_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, nn.Module | Tensor):
            yield f".{name}", value


@functools.cache
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    """The globals that a code reads, functions within it included."""
    names = [x.argval for x in dis.get_instructions(code) if x.opname == "LOAD_GLOBAL"]
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return (*dict.fromkeys(names), *(name for code in inner for name in _global_names(code)))


def _slots(value: object) -> Iterator[tuple[str, object]]:
    for kind in type(value).__mro__:
        names = getattr(kind, "__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def snapshot(root: object, path: str) -> Snapshot:
    """All values that belong to ``root``, as they are now; trained parameters are left out."""
    return {path: _kept(value) for path, value in walk(root, path) if not is_trained(value)}


def change(before: Snapshot, now: Snapshot) -> str | None:
    """The path of the first difference between two snapshots, or None."""
    for path in before | now:
        if path not in before or path not in now or not _same(before[path], now[path]):
            return path
    return None


def _pickles_itself(value: object) -> bool:
    """Whether its class says how it is copied, as a random generator's, a path's or a logger's."""
    kind = type(value)
    is_plain = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    is_walked = isinstance(value, (nn.Module, types.SimpleNamespace, *_CONTAINERS, *_FUNCTIONS))
    return not is_plain and not is_walked and not is_atom(value)


def is_trained(value: object) -> bool:
    """Whether a value is a parameter that an optimizer changes."""
    return isinstance(value, nn.Parameter) and value.requires_grad


def _kept(value: object) -> object:
    if isinstance(value, Tensor):
        return value._version if value.nbytes > _LARGE else value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if _pickles_itself(value):
        with suppress(Exception):  # whatever a learner's __reduce__ raises
            return pickle.dumps(value)
    is_walked = hasattr(value, "__dict__") or isinstance(value, _CONTAINERS)
    return type(value) if is_walked and not is_atom(value) else value


def _same(a: object, b: object) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a.shape, a.dtype) == (b.shape, b.dtype) and _same_bits(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    with suppress(Exception):  # whatever a learner's __eq__ raises
        return bool(a == b) or bool(a != a and b != b)  # a NaN is not equal to itself
    return False


def _same_bits(a: Tensor, b: Tensor) -> bool:
    bits = [raw_bytes(x.to_dense().contiguous()) for x in (a, b)]
    return torch.equal(*bits)

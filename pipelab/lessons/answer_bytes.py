"""An answer as bytes, for its own process: what it uses travels with it, or is named if it cannot.

A function of a notebook refers to its globals and to the variables around it. They are copied
with it: helpers with a cache, classes, numbers, tensors. A lock, an open file or an open Pipeline
cannot be copied.
"""

import functools
import io
import pickletools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, MethodType
from typing import Any

from pipelab.engine.protocol.pickling import Pickler
from pipelab.errors import LessonError

MOST_BYTES = 200_000_000
_CACHED = type(functools.cache(len))
_OF_PIPELAB = re.compile(r"pipelab(\.\w+)*")


class _AnswerPickler(Pickler):
    """With functions that ``functools.cache`` has wrapped, which pickle knows by name alone."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, _CACHED) and not _is_importable(obj):
            limits = obj.cache_parameters()
            return _cached, (obj.__wrapped__, limits["maxsize"], limits["typed"])
        return super().reducer_override(obj)


def as_bytes(answer: Callable[..., object]) -> bytes:
    """The answer, with all that it uses.

    Raises:
        LessonError: something that it uses cannot be copied; by name.
    """
    try:
        found = _dumps(answer)
    except Exception as error:  # whatever a learner's __reduce__ raises
        raise LessonError(_unsendable(answer, error)) from None
    if len(found) > MOST_BYTES:
        raise LessonError(
            f"your answer and all that it uses have {len(found):,} bytes, at most {MOST_BYTES:,} "
            f"are copied to its process: does it use a large tensor or list of the notebook?"
        )
    return found


def arguments_as_bytes(arguments: tuple[object, ...]) -> bytes:
    """The arguments of one call; each call gets a copy of its own."""
    return _dumps(arguments)


def uses_pipelab(answer: Callable[..., object]) -> bool:
    """Whether an answer refers to a module or a function of pipelab's."""
    try:
        words = [argument for _, argument, _ in pickletools.genops(_dumps(answer))]
    except Exception:  # said by as_bytes
        return False
    return any(isinstance(w, str) and _OF_PIPELAB.fullmatch(w) for w in words)


def _dumps(value: object) -> bytes:
    buffer = io.BytesIO()
    _AnswerPickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _cached(function: Callable[..., object], maxsize: int | None, typed: bool) -> object:
    """In the answer's process: the function, with an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def _is_importable(obj: Any) -> bool:
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    is_file = getattr(module, "__file__", None) is not None
    return is_file and getattr(module, getattr(obj, "__qualname__", ""), None) is obj


def _unsendable(answer: Callable[..., object], error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"[:300]
    for name, value in _used(answer, set()):
        if isinstance(value, FunctionType | MethodType | _CACHED):
            continue  # what it uses comes before it
        try:
            _dumps(value)
        except Exception:
            return (
                f"your answer uses {name}, a {type(value).__name__}, which cannot be copied to "
                f"the process that runs it: make it inside the function, or leave it out"
            )
    return f"your answer cannot be copied to the process that runs it: {said}"


def _used(value: object, seen: set[int]) -> Iterator[tuple[str, object]]:
    """All that a function uses of what is around it, by name, what its helpers use first."""
    inner = getattr(value, "__wrapped__", getattr(value, "__func__", value))
    if id(inner) in seen or not isinstance(inner, FunctionType):
        return
    seen.add(id(inner))
    found: dict[str, object] = {}
    for name in _names(inner.__code__):
        if name in inner.__globals__:
            found[name] = inner.__globals__[name]
    for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            found[name] = cell.cell_contents
    if isinstance(value, MethodType):
        found["self"] = value.__self__
    for name, part in found.items():
        yield from _used(part, seen)
        yield name, part


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)

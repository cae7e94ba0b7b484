"""An answer as bytes, for its own process: what it uses travels with it, or is named if it cannot.

A function of a notebook refers to its globals and to the variables around it. They are copied
with it: helpers with a cache, classes, numbers, tensors. A lock, an open file or an open Pipeline
cannot be copied.
"""

import functools
import io
import pickle
import pickletools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, MethodType
from typing import Any

import cloudpickle

from pipelab.errors import LessonError
from pipelab.lessons.stop import StopNoted
from pipelab.tracebacks import reduced_code

MOST_BYTES = 200_000_000
_CACHED = type(functools.cache(len))
_OF_PIPELAB = re.compile(r"pipelab(\.\w+)*")
_HELPERS = {__name__, reduced_code.__module__}  # in every answer's bytes
_NO_NAME, _LONGEST_NAME = "answer", 60
_UNSENDABLE = "your answer cannot be copied to the process that runs it"
_GIVEN = {"pipelab.lessons.unproven"}  # the programs that lesson 10 hands out


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """With functions that ``functools.cache`` has wrapped, which pickle knows by name alone."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, _CACHED) and not _is_importable(obj):
            limits = obj.cache_parameters()
            return _cached, (obj.__wrapped__, limits["maxsize"], limits["typed"])
        if type(obj) is functools.cached_property:  # until Python 3.12 it has a lock
            return _cached_property, (obj.func, obj.attrname)
        if type(obj) is CodeType:
            return reduced_code(obj, self.dispatch_table)
        return super().reducer_override(obj)


class Packed:
    """An answer that is bytes here, and itself again only in the process that runs it."""

    def __init__(self, data: bytes, name: str):
        self.data = data
        self.__name__ = name

    def __call__(self, *arguments: object) -> object:
        """Not here: this process trusts no answer."""
        raise TypeError(f"{self.__name__} is called in another process")

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return pickle.loads, (self.data,)


def pack(answer: Callable[..., object]) -> Packed:
    """The answer with all that it uses, after which nothing of it runs in this process.

    To copy it runs some of its code, such as a ``__reduce__``: whatever that raises is caught.

    Raises:
        LessonError: something that it uses cannot be copied; by name.
    """
    if type(answer) is Packed:
        return answer
    with StopNoted() as stop:
        try:
            found = Packed(_dumps(answer), _name(answer))
        except BaseException as error:  # also an exit(), and a KeyboardInterrupt without a Ctrl-C
            words = "" if stop.was_pressed else _in_words(answer, error)
            if stop.was_pressed:
                raise KeyboardInterrupt from None
            raise LessonError(words) from None
    if len(found.data) > MOST_BYTES:
        raise LessonError(
            f"your answer and all that it uses have {len(found.data):,} bytes, at most "
            f"{MOST_BYTES:,} are copied to its process: does it use a large tensor or list of the "
            f"notebook?"
        )
    return found


def kind_name(value: object) -> str:
    """The name of its class, which no metaclass can change."""
    name: str = vars(type)["__name__"].__get__(type(value))
    return name


def arguments_as_bytes(arguments: tuple[object, ...]) -> bytes:
    """The arguments of one call; each call gets another copy."""
    return _dumps(arguments)


def uses_pipelab(answer: Callable[..., object]) -> bool:
    """Whether an answer refers to a module or a function of pipelab's."""
    try:
        words = [argument for _, argument, _ in pickletools.genops(pack(answer).data)]
    except Exception:  # said by the check
        return False
    names = {word for word in words if isinstance(word, str) and _OF_PIPELAB.fullmatch(word)}
    return bool(names - _HELPERS - _GIVEN)


def _dumps(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _cached(function: Callable[..., object], maxsize: int | None, typed: bool) -> object:
    """In the answer's process: the function, with an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def _cached_property(function: Callable[[Any], object], name: str | None) -> object:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _is_importable(obj: Any) -> bool:
    name = getattr(obj, "__module__", None) or "__main__"
    module = sys.modules.get(name)
    return name != "__main__" and getattr(module, getattr(obj, "__qualname__", ""), None) is obj


def _name(answer: object) -> str:
    try:
        name = getattr(answer, "__name__", _NO_NAME)
    except Exception:  # whatever its attributes raise
        return _NO_NAME
    return str.__str__(name)[:_LONGEST_NAME] if isinstance(name, str) else _NO_NAME


def _in_words(answer: object, error: BaseException) -> str:
    """Why an answer cannot be copied; an error that is an answer's may have no words."""
    try:
        return _unsendable(answer, error)
    except BaseException:
        return f"{_UNSENDABLE}: a {kind_name(error)}"


def _unsendable(answer: object, error: BaseException) -> str:
    if type(error) is LessonError:  # where it was copied from, this was found already
        return str(error)
    for name, value in _used(answer, set()):
        if isinstance(value, FunctionType | MethodType | _CACHED):
            continue  # what it uses comes before it
        try:
            _dumps(value)
        except BaseException:
            return (
                f"your answer uses {name}, a {kind_name(value)}, which cannot be copied to "
                f"the process that runs it: make it inside the function, or leave it out"
            )
    said = f"{kind_name(error)}: {error}"[:300].removesuffix(": ")
    return f"{_UNSENDABLE}: {said}"


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
    names = inner.__code__.co_varnames[: inner.__code__.co_argcount]
    found |= zip(reversed(names), reversed(inner.__defaults__ or ()), strict=False)
    found |= inner.__kwdefaults__ or {}
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

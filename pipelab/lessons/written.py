"""Values and calls in the words of an answer: as a learner would write them, and never endless.

A failing call is shown ready to copy, so numbers stand as Python writes them.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from fractions import Fraction

import torch

from pipelab.words import number

__all__ = ["call_text", "form_of", "short", "written"]

MOST = 400  # characters of one value
_ITEMS = 40  # of a list
_MOST_BITS = 400  # of a number that is written out


def written(value: object, most: int = MOST) -> str:
    """The value as Python text, cut after ``most`` characters.

    >>> written([1, 2.5, (True, "0F1")])
    "[1, 2.5, (True, '0F1')]"
    """
    text = _text(value, repr)
    return text if len(text) <= most else text[: most - 1] + "…"


def short(value: object, most: int = MOST) -> str:
    """The same with six digits of each number, which is what a table has room for.

    >>> short([1 / 3, "1F0"])
    '[0.333333, 1F0]'
    """
    text = _text(value, lambda x: f"{x:.6g}" if isinstance(x, float) else str(x))
    return text if len(text) <= most else text[: most - 1] + "…"


def call_text(name: str, arguments: Sequence[object], most: int = MOST) -> str:
    """A call, ready to copy.

    >>> call_text("split", ([1.0, 4.0], 2))
    'split([1.0, 4.0], 2)'
    """
    texts = [written(argument, most) for argument in arguments]
    if sum(map(len, texts)) > most:  # a short one leaves its room to the others
        each = max(40, most // max(1, len(arguments)))
        texts = [written(argument, each) for argument in arguments]
    return f"{name}({', '.join(texts)})"


def form_of(value: object) -> str:
    """What kind of thing it is, in words.

    >>> form_of("8"), form_of([1, 2]), form_of(None)
    ("the text '8'", 'a list of 2 items', 'None')
    """
    match value:
        case None:
            return "None"
        case bool():
            return f"the truth value {value}"
        case str():
            return f"the text {written(value, 60)}"
        case list() | tuple():
            return f"a list of {number(len(value), 'item')}"
        case dict():
            return f"a dict of {number(len(value), 'item')}"
        case torch.Tensor():
            return f"a tensor of the shape {tuple(value.shape)}"
        case int() if value.bit_length() > _MOST_BITS:
            return written(value)
        case int() | float() | Fraction():
            return f"the number {written(value, 60)}"
        case _:
            return f"an object of the type {type(value).__name__}"


def _text(value: object, leaf: Callable[[object], str]) -> str:
    match value:
        case Enum():
            return leaf(str(value.value))
        case tuple() if hasattr(value, "_fields"):  # an Event: what is left out has a default
            items = list(value)
            defaults = getattr(value, "_field_defaults", {})
            while (
                items
                and value._fields[len(items) - 1] in defaults
                and (items[-1] == defaults[value._fields[len(items) - 1]])
            ):
                items.pop()
            return f"{type(value).__name__}({_joined(items, leaf)})"
        case int() if value.bit_length() > _MOST_BITS:
            return f"a whole number of about {value.bit_length() * 3 // 10} digits"
        case list():
            return f"[{_joined(value, leaf)}]"
        case tuple():
            return f"({_joined(value, leaf)}{',' if len(value) == 1 else ''})"
        case dict():
            pairs = (f"{_text(k, leaf)}: {_text(v, leaf)}" for k, v in [*value.items()][:_ITEMS])
            return "{" + ", ".join(pairs) + ("" if len(value) <= _ITEMS else ", …") + "}"
        case torch.Tensor():
            return (
                f"tensor({_text(value.tolist(), leaf)})"
                if value.numel() <= _ITEMS
                else (f"tensor of the shape {tuple(value.shape)}")
            )
        case _:
            return leaf(value)


def _joined(values: Iterable[object], leaf: Callable[[object], str]) -> str:
    items = [*values]
    texts = [_text(item, leaf) for item in items[:_ITEMS]]
    return ", ".join(texts + ["…"] * (len(items) > _ITEMS))

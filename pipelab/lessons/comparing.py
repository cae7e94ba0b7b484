"""Is a value the one that was expected? The result says what was expected, what came, and why not.

``equal`` and ``ratio`` are what chapters use most; ``against`` makes a comparison of a reference.
"""

import math
from collections.abc import Callable, Sequence

import torch

from pipelab.lessons.answer_process import Outcome
from pipelab.lessons.results import Result
from pipelab.lessons.written import call_text, form_of, short

__all__ = ["Compare", "against", "compared", "equal", "ratio", "same", "whole"]

Compare = Callable[..., Result]  # compare(name, value, *arguments)

_STEPS = 2  # that a float of few bits may be off, of its smallest difference
AN_ANSWER, A_FORM = "an answer", "the form asked for"  # expected, where something else came
NOTHING = "None"
ROUNDING = 1e-9  # of a number: sums in another order differ by less
_NO_RETURN = "the function returned nothing: did you write return? print only shows"
_FORM = "look at the example above the exercise: is what you return of the same form?"


def equal(name: str, expected: object, got: object, hint: str = "") -> Result:
    """Equal or not; numbers that differ by rounding are equal.

    >>> equal("sum", 0.3, 0.1 + 0.2).ok
    True
    """
    is_same = same(expected, got)
    shown = short(got) if is_same else _difference(expected, got)
    return Result(name, short(expected), shown, is_same, hint)


def ratio(name: str, got: float, low: float, high: float, hint: str = "") -> Result:
    """In range or not: real ranks are never exact, so times are judged as ratios."""
    return Result(name, f"{low:g} to {high:g}", f"{got:.2f}", low <= got <= high, hint)


def against(reference: Callable[..., object], hint: str) -> Compare:
    """The comparison with what ``reference`` returns for the same arguments."""

    def compare(name: str, value: object, *arguments: object) -> Result:
        return equal(name, reference(*arguments), value, hint)

    return compare


def compared(
    compare: Compare,
    name: str,
    outcome: Outcome,
    arguments: Sequence[object],
    call: str,
) -> Result:
    """The result for one call; one that failed, or returned a wrong form, says what to do next."""
    if outcome.problem:
        hint = _next_step(outcome.problem, call)
        return Result(name, AN_ANSWER, outcome.problem, False, hint)
    value = outcome.value
    if value is None or (isinstance(value, list) and value and all(v is None for v in value)):
        return Result(name, AN_ANSWER, NOTHING, False, _NO_RETURN)
    try:
        result = compare(name, value, *arguments)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return Result(name, A_FORM, f"{form_of(value)}: {short(value)}", False, _FORM)
    if result.ok or result.hint:
        return result
    return result._replace(hint=f"follow it on paper: {call}")


def _next_step(problem: str, call: str) -> str:
    """What to do about a call that returned nothing."""
    if "not written" in problem:
        return "write it in the cell above, and run that cell before this one"
    return f"{'which loop does not end' if 'running' in problem else 'see it in a cell'}: {call}"


def call_of(function: object, arguments: Sequence[object]) -> str:
    """A call of the learner's function, ready to copy.

    A function that wraps the learner's says itself what is called, by its attribute ``as_written``.
    """
    as_written = getattr(function, "as_written", None)
    if callable(as_written):
        return str(as_written(*arguments))
    return call_text(name_of(function), arguments)


def name_of(function: object) -> str:
    """Its name; "answer" if it has none."""
    return str(getattr(function, "__name__", "answer")).replace("<lambda>", "answer")


def whole(value: object) -> object:
    """A whole number as an int, whatever kind of number it came as; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def same(a: object, b: object) -> bool:
    """Equal, or different by rounding alone; lists item by item."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= ROUNDING * max(1.0, abs(a)) or _rounded(a, b)
    return type(a) is type(b) and a == b


def _rounded(expected: float, got: float) -> bool:
    """Whether a float of fewer bits came, as numpy and torch have them, that is as near as it can.

    It is one if it loses nothing by being stored with so few bits.
    """
    if not isinstance(got, float) or not isinstance(expected, float):
        return False
    for kind in (torch.float32, torch.float16):
        same = torch.tensor(got, dtype=kind).item() == got
        if same and abs(got - expected) <= _STEPS * torch.finfo(kind).eps * abs(expected):
            return True
    return False


def _difference(expected: object, got: object) -> str:
    """What came, so that it reads differently from what was expected."""
    text = short(got)
    numbers = isinstance(expected, int | float), isinstance(got, int | float)
    if not all(numbers):
        return text if type(expected) is type(got) else form_of(got)
    assert isinstance(expected, int | float) and isinstance(got, int | float)
    if isinstance(expected, bool) or isinstance(got, bool):
        return form_of(got) if type(expected) is not type(got) else text
    if text == short(expected) and math.isfinite(got):
        return f"{text} and {got - expected:.2g}"
    return text

"""Is a value the one that was expected? The result says what was expected, what came, and why not.

``equal`` and ``ratio`` are what chapters use most; ``against`` makes a comparison of a reference,
and ``ask`` refuses what is not of the form that an exercise asks for.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from pipelab.lessons.answer_process import Outcome
from pipelab.lessons.results import Result
from pipelab.lessons.written import call_text, form_of, short, written

__all__ = [
    "NUMBER",
    "Compare",
    "against",
    "ask",
    "compared",
    "equal",
    "of_few_bits",
    "ratio",
    "rounding",
    "same",
    "whole",
]

Compare = Callable[..., Result]  # compare(name, value, *arguments)

NUMBER = (int, float)  # a form, for ``ask``
# Floats of few bits, with the steps of their smallest difference that one may be off.
_FEW_BITS = {torch.float32: 4, torch.float16: 4, torch.bfloat16: 2}
_MOST_BITS = 1000  # of a whole number that a float can hold
_MOST_DIGITS = 4  # after the point: to which a number was rounded by intention
AN_ANSWER, A_FORM = "an answer", "the form asked for"  # expected, where something else came
NOTHING = "None"
ROUNDING = 1e-9  # of a number: sums in another order differ by less
_NO_RETURN = "the function returned nothing: did you write return? print only shows"
_FORM = "look at the example above the exercise: is what you return of the same form?"
ROUNDED = "(It is the right number, rounded: return all of its digits.)"


class OtherForm(TypeError):
    """A value that is not of the form asked for; the message says which one is."""


def ask(value: object, form: object, words: str) -> None:
    """Refuse a value that is not of a form: a type, one of several, or a list of items of a form.

    Args:
        value: what an answer returned.
        form: ``str``, ``NUMBER``, ``[NUMBER]`` for a list of numbers, ``[[str]]``, and so on.
        words: the form in words; they complete "return ...".

    Raises:
        OtherForm: it is not.

    >>> ask([1, 2.5], [NUMBER], "a list of numbers")
    """
    if not _fits(value, form):
        raise OtherForm(words)


def _fits(value: object, form: object) -> bool:
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(item, form[0]) for item in value)
    kinds = form if isinstance(form, tuple) else (form,)
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def equal(name: str, expected: object, got: object, hint: str = "") -> Result:
    """Equal or not; numbers that differ by rounding are equal.

    >>> equal("sum", 0.3, 0.1 + 0.2).ok
    True

    Raises:
        OtherForm: a number is expected, and something else came.
    """
    if _fits(expected, NUMBER):
        ask(got, NUMBER, "a number")
    is_same = same(expected, got)
    shown = short(got) if is_same else _difference(expected, got)
    return Result(name, short(expected), shown, is_same, hint, rounding(expected, got))


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
    except OtherForm as error:
        return Result(name, f"{A_FORM}: {error}", _seen(value), False, f"return {error}")
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return Result(name, A_FORM, _seen(value), False, _FORM)
    if result.ok or result.hint:
        return result
    return result._replace(hint=f"follow it on paper: {call}")


def _seen(value: object) -> str:
    """A value of another form, with its kind: '1' and 1 read differently."""
    text = form_of(value)
    return f"{text}: {written(value)}" if isinstance(value, list | dict) else text


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
        if isinstance(b, int) and b.bit_length() > _MOST_BITS:
            return a == b  # no float can hold it
        exact = isinstance(a, int)  # asked for as a whole number
        return abs(a - b) <= ROUNDING * max(1.0, abs(a)) or (not exact and of_few_bits(a, b))
    return type(a) is type(b) and a == b


def of_few_bits(expected: float, got: object) -> bool:
    """Whether a float of fewer bits came, as numpy and torch have them, that is as near as it can.

    It is one if it loses nothing by being stored with so few bits.
    """
    if not isinstance(got, float) or not math.isfinite(got):
        return False
    for kind, steps in _FEW_BITS.items():
        same = torch.tensor(got, dtype=kind).item() == got
        if same and abs(got - expected) <= steps * torch.finfo(kind).eps * abs(expected):
            return True
    return False


def rounding(expected: object, got: object) -> str:
    """What to say where each number that is wrong is the right one, rounded; "" elsewhere."""
    pairs = [(a, b) for a, b in _pairs(expected, got) if not same(a, b)]
    return ROUNDED if pairs and all(_is_rounded(a, b) for a, b in pairs) else ""


def _pairs(a: object, b: object) -> Iterator[tuple[object, object]]:
    """The items of two nested lists, side by side."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for x, y in zip(a, b, strict=True):
            yield from _pairs(x, y)
    else:
        yield a, b


def _is_rounded(expected: object, got: object) -> bool:
    if not isinstance(expected, float) or not isinstance(got, int | float):
        return False
    return any(got == round(expected, digits) for digits in range(_MOST_DIGITS + 1))


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

"""Is a value the one that was expected? The result says what was expected, what came, and why not.

``equal`` and ``ratio`` are what chapters use most; ``against`` makes a comparison of a reference.
"""

import math
from collections.abc import Callable, Sequence

from pipelab.lessons.answer_process import Outcome
from pipelab.lessons.results import Result
from pipelab.lessons.written import call_text, form_of, short

__all__ = ["Compare", "against", "compared", "equal", "ratio"]

Compare = Callable[..., Result]  # compare(name, value, *arguments)

ROUNDING = 1e-9  # of a number: sums in another order differ by less
_NO_RETURN = "the function returned nothing: did you write return? print only shows"
_FORM = "look at the example above the exercise: is what you return of the same form?"


def equal(name: str, expected: object, got: object, hint: str = "") -> Result:
    """Equal or not; numbers that differ by rounding are equal.

    >>> equal("sum", 0.3, 0.1 + 0.2).ok
    True
    """
    same = _same(expected, got)
    shown = short(got) if same else _difference(expected, got)
    return Result(name, short(expected), shown, same, hint)


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
        endless = "running" in outcome.problem
        hint = f"{'which loop does not end' if endless else 'see it in a cell'}: {call}"
        return Result(name, "an answer", outcome.problem, False, hint)
    value = outcome.value
    if value is None or (isinstance(value, list) and value and all(v is None for v in value)):
        return Result(name, "an answer", "None", False, _NO_RETURN)
    try:
        result = compare(name, value, *arguments)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return Result(name, "the form asked for", f"{form_of(value)}: {short(value)}", False, _FORM)
    if result.ok or result.hint:
        return result
    return result._replace(hint=f"follow it on paper: {call}")


def call_of(function: object, arguments: Sequence[object]) -> str:
    """A call of the learner's function, ready to copy."""
    return call_text(
        getattr(function, "__name__", "answer").replace("<lambda>", "answer"), arguments
    )


def _same(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= ROUNDING * max(1.0, abs(a))
    return type(a) is type(b) and a == b


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

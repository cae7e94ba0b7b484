"""Results in one line: what judges say most often."""

from collections.abc import Callable, Iterator, Mapping

from pipelab.lessons.fresh import NOT_TRIED, Function, call
from pipelab.lessons.verdict import Result

_NOTHING = "the function gave nothing back: did you write return? print only shows"


def equal(name: str, expected: object, got: object, hint: str = "") -> Result:
    """Equal or not; numbers that differ by rounding are equal.

    >>> equal("sum", 0.3, 0.1 + 0.2).ok
    True
    """
    return Result(name, _text(expected), _text(got), _same(expected, got), hint)


def ratio(name: str, got: float, low: float, high: float, hint: str = "") -> Result:
    """In range or not: real ranks are never exact, so times are judged as ratios."""
    return Result(name, f"{low:g} to {high:g}", f"{got:.2f}", low <= got <= high, hint)


def function_of(answer: object, wants: str) -> tuple[Function | None, list[Result]]:
    """The answer as a function; or None, and the result that says so."""
    if callable(answer):
        return answer, []
    look = "give the function itself, without brackets behind its name"
    return None, [Result("a function", wants, type(answer).__name__, False, look)]


def each(
    function: Function,
    cases: Mapping[str, tuple[object, ...]],
    judge: Callable[..., Result],
) -> Iterator[tuple[Result, object]]:
    """For each case its result, and the value that the function returned.

    A case that ends as the one before it, in the same error, is left out.

    Args:
        function: of the learner; called in a fresh process with the arguments of each case.
        cases: arguments, by the name of the result.
        judge: ``judge(name, value, *arguments)``.
    """
    outcomes, before = call(function, list(cases.values())), ""
    for (name, case), outcome in zip(cases.items(), outcomes, strict=True):
        if outcome.problem:
            if outcome.problem not in (before, NOT_TRIED):
                yield Result(name, "an answer", outcome.problem, False), None
            before = outcome.problem
            continue
        try:
            yield judge(name, outcome.value, *case), outcome.value
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            wrong = f"an answer of another form: {_text(outcome.value)}"
            look = _NOTHING if outcome.value is None else str(error)
            yield Result(name, "the form asked for", wrong, False, look), None


def _same(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-9 * max(1.0, abs(a))
    return type(a) is type(b) and a == b


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""An exercise, and how a chapter judges an answer to it: case by case, in a fresh process.

each(function, cases, compare)      one result for each case
equal(...)   ratio(...)             the two comparisons that chapters use most
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipelab.lessons.answer_process import NOT_TRIED, Function, call
from pipelab.lessons.results import Result, Shown

Cases = Mapping[str, tuple[object, ...]]  # arguments of a call, by the name of its result
Judge = Callable[[Function], Iterator[Result | Shown]]

TRY_AGAIN = "other programs on this machine? run the check again"  # the hint beside a time
_NO_RETURN = "the function returned nothing: did you write return? print only shows"


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its answer is a function.

    Attributes:
        title: in a few words.
        wants: what kind of function, such as "a function gpipe(rank, p, m)".
        judge: calls an answer and yields one result for each thing that it judges.
        hints: three, each nearer to the answer than the one before; none is the answer.
    """

    title: str
    wants: str
    judge: Judge
    hints: tuple[str, str, str]


class Tried(NamedTuple):
    """What a function returned for each case that it answered, and whether all was right."""

    values: list[object]
    right: bool


def each(
    function: Function, cases: Cases, compare: Callable[..., Result]
) -> Generator[Result, None, Tried]:
    """One result for each case; at the end the values, which ``yield from`` returns.

    A case that fails with the same error as the one before it is left out.

    Args:
        function: of the learner; called in a fresh process with the arguments of each case.
        cases: arguments, by the name of the result.
        compare: ``compare(name, value, *arguments)`` gives the result.
    """
    values: list[object] = []
    right = True
    before = ""
    outcomes = call(function, list(cases.values()))
    for (name, arguments), outcome in zip(cases.items(), outcomes, strict=True):
        if not outcome.problem:
            result = _compared(compare, name, outcome.value, arguments)
            values.append(outcome.value)
            right = right and result.ok
            yield result
            continue
        right = False
        if outcome.problem not in (before, NOT_TRIED):
            yield Result(name, "an answer", outcome.problem, False)
        before = outcome.problem
    return Tried(values, right)


def equal(name: str, expected: object, got: object, hint: str = "") -> Result:
    """Equal or not; numbers that differ by rounding are equal.

    >>> equal("sum", 0.3, 0.1 + 0.2).ok
    True
    """
    return Result(name, _text(expected), _text(got), _same(expected, got), hint)


def ratio(name: str, got: float, low: float, high: float, hint: str = "") -> Result:
    """In range or not: real ranks are never exact, so times are judged as ratios."""
    return Result(name, f"{low:g} to {high:g}", f"{got:.2f}", low <= got <= high, hint)


def _compared(
    compare: Callable[..., Result], name: str, value: object, arguments: tuple[object, ...]
) -> Result:
    """The result of a comparison, or one that says that the value has the wrong form."""
    try:
        return compare(name, value, *arguments)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        hint = _NO_RETURN if value is None else str(error)
        wrong_form = f"an answer of another form: {_text(value)}"
        return Result(name, "the form asked for", wrong_form, False, hint)


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

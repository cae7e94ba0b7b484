"""An exercise, and how a chapter judges an answer to it: case by case, in a fresh process.

each(function, cases, compare)               one result for each named case
each(function, cases, compare, draws, seed)  and one for about thirty inputs that are drawn
equal(...)   ratio(...)   against(...)       the comparisons that chapters use most
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipelab.lessons.answer_process import NOT_TRIED, Function, call
from pipelab.lessons.comparing import (
    A_FORM,
    AN_ANSWER,
    ROUNDED,
    Compare,
    against,
    call_of,
    compared,
    equal,
    ratio,
)
from pipelab.lessons.drawn import Draws, Idea, Judged
from pipelab.lessons.results import Result, Shown

__all__ = [
    "TRY_AGAIN",
    "Cases",
    "Draws",
    "Exercise",
    "Idea",
    "Judge",
    "Tried",
    "against",
    "each",
    "equal",
    "ratio",
]

Cases = Mapping[str, tuple[object, ...]]  # arguments of a call, by the name of its result
Judge = Callable[[Function, int], Iterator[Result | Shown]]  # of an answer, with a seed

_LONGEST_CALL = 200  # characters that are shown beside a row; what is drawn is made smaller
TRY_AGAIN = "other programs on this machine? run the check again"  # the hint beside a time


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its answer is a function.

    Attributes:
        title: in a few words.
        wants: what kind of function, such as "a function gpipe(rank, p, m)".
        judge: calls an answer and yields one result for each thing that it judges. It is given a
            seed for the inputs that it draws.
        hints: three, each nearer to the answer than the one before; none is the answer.
        draws: what the judge draws beside its named cases.
        may_use_pipelab: its own functions are a part of the answer; nobody asks to do without.
    """

    title: str
    wants: str
    judge: Judge
    hints: tuple[str, str, str]
    draws: Draws | None = None
    may_use_pipelab: bool = False


class Tried(NamedTuple):
    """What a function returned for each named case that it answered, and whether that was right.

    Attributes:
        values: of the named cases.
        named: whether all named cases were right.
        right: whether the drawn inputs were right, too.
    """

    values: list[object]
    named: bool
    right: bool


def each(
    function: Function,
    cases: Cases,
    compare: Compare,
    draws: Draws | None = None,
    seed: int = 0,
) -> Generator[Result, None, Tried]:
    """One result for each case; at the end the values, which ``yield from`` returns.

    A case that fails with the same error as the one before it is left out, and so are drawn inputs
    if none of them gets further.

    Args:
        function: of the learner; called in a fresh process with the arguments of each case.
        cases: arguments, by the name of the result.
        compare: ``compare(name, value, *arguments)`` gives the result.
        draws: what is drawn beside the named cases.
        seed: of the draws.
    """
    inputs = draws.inputs(seed) if draws else []
    drawn = [draws.arguments(*one) for one in inputs] if draws else []
    outcomes = call(function, [*cases.values(), *drawn])
    rows: list[Result] = []
    values: list[object] = []
    right = True
    before = ""
    for (name, arguments), outcome in zip(cases.items(), outcomes, strict=False):
        if not outcome.problem:
            values.append(outcome.value)
        text = call_of(function, arguments)
        result = _with_call(compared(compare, name, outcome, arguments, text), text)
        right = right and result.ok
        if not outcome.problem or outcome.problem not in (before, NOT_TRIED):
            rows.append(result)
        before = outcome.problem
    named = right
    outcomes = outcomes[len(cases) :]
    if draws and any(outcome.problem not in (before or None, NOT_TRIED) for outcome in outcomes):
        judged = Judged(function, draws, draws.compare or compare, seed)
        row = judged.row(inputs, outcomes, call)
        right = right and row.ok
        rows.append(row)
    yield from _sure(rows)
    return Tried(values, named, right)


def _with_call(result: Result, call: str) -> Result:
    """The result with the call that it judged, if that is short and nothing says it yet."""
    is_value = not result.ok and not result.expected.startswith((A_FORM, AN_ANSWER))
    is_new = len(call) <= _LONGEST_CALL and call not in result.hint
    return result._replace(call=call) if is_value and is_new else result


def _sure(rows: list[Result]) -> list[Result]:
    """The rows; where not all that fail are rounded, one that seems to be is so by chance."""
    if all(row.ok or row.note == ROUNDED for row in rows):
        return rows
    return [row._replace(note="") if row.note == ROUNDED else row for row in rows]

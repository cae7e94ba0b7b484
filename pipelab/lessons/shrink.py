"""The smallest input that still fails: each round tries all inputs that are one step simpler.

An input is plain data. A list may lose items, a number may come nearer to 0 or 1 or lose digits; a
tuple (an Event too) keeps its length, and text stays as it is. Greedy, as property-based testing
does it (MacIver and Donaldson 2020, "Test-Case Reduction via Test-Case Generation", ECOOP).
"""

import math
from collections.abc import Callable, Iterator, Sequence

Input = tuple[object, ...]
Failing = Callable[[Sequence[Input]], list[bool]]

ROUNDS = 40
_AT_ONCE = 150  # inputs that one round tries


def shrink(start: Input, failing: Failing, allowed: Callable[..., bool]) -> Input:
    """The smallest input found that fails, from one that does.

    Args:
        start: the arguments that fail.
        failing: for several inputs at once, whether each fails.
        allowed: ``allowed(*input)``: whether the exercise is about such an input at all.
    """
    best = start
    for _ in range(ROUNDS):
        options = [option for option in simpler(best) if _is(allowed, option)]
        options = _spread(sorted(options, key=size), _AT_ONCE)
        failed = failing(options) if options else []
        first = next((o for o, fails in zip(options, failed, strict=True) if fails), None)
        if first is None:
            return best
        best = first
    return best


def simpler(value: Input) -> list[Input]:
    """All inputs that are one step simpler, each once.

    >>> simpler(([2], 1))
    [([], 1), ([0], 1), ([1], 1), ([2], 0)]
    """
    found: dict[str, Input] = {}
    for option in _simpler(value):
        if isinstance(option, tuple) and size(option) < size(value):
            found.setdefault(repr(option), option)
    return [*found.values()]


def size(value: object) -> float:
    """How much there is to read in a value; simpler values are smaller.

    >>> size([1, 1]) < size([2, 1]) < size([2, 1.5]) < size([1, 1, 1, 1])
    True
    """
    match value:
        case bool() | None | str():
            return 0.0
        case int():
            return math.log2(1 + abs(value)) + (value < 0)
        case float():
            digits = len(repr(value).partition(".")[2].rstrip("0"))
            return math.log2(1 + abs(value)) + (value < 0) + 1.5 * digits
        case dict():
            return sum(2.0 + size(item) for item in value.values())
        case list() | tuple():
            return sum(2.0 + size(item) for item in value)
        case _:
            return 0.0


def _simpler(value: object) -> Iterator[object]:
    match value:
        case bool() | None | str():
            return
        case int():
            yield from (n for n in (0, 1, value // 2, value - 1, -value) if size(n) < size(value))
        case float():
            rounded = (round(value, digits) for digits in range(4))
            numbers = (0.0, 1.0, float(int(value)), float(int(value / 2)), value - 1.0, *rounded)
            yield from (x for x in numbers if size(x) < size(value))
        case dict():
            for key in value:
                yield {k: v for k, v in value.items() if k != key}
            for key, item in value.items():
                yield from (value | {key: option} for option in _simpler(item))
        case list():
            half = len(value) // 2
            yield from (value[:half], value[half:]) if half > 1 else ()
            yield from _ranked(value)
            yield from (value[:i] + value[i + 1 :] for i in range(len(value)))
            yield from (list(items) for items in _one_simpler(value))
        case tuple():
            make = getattr(type(value), "_make", tuple)  # a named tuple stays one
            yield from (make(items) for items in _one_simpler(value))


def _ranked(items: list[object]) -> Iterator[list[object]]:
    """Numbers replaced by 1.0, 2.0, ... in their order: often it is the order that matters."""
    numbers = [item for item in items if isinstance(item, float)]
    if numbers and len(numbers) == len(items):
        ranks = {number: float(i) for i, number in enumerate(sorted(set(numbers)), 1)}
        yield [ranks[number] for number in numbers]


def _one_simpler(items: Sequence[object]) -> Iterator[list[object]]:
    for i, item in enumerate(items):
        yield from ([*items[:i], option, *items[i + 1 :]] for option in _simpler(item))


def _spread(options: list[Input], most: int) -> list[Input]:
    """At most so many, from the smallest to the largest."""
    step = max(1.0, len(options) / most)
    return [options[int(i * step)] for i in range(min(most, len(options)))]


def _is(allowed: Callable[..., bool], option: Input) -> bool:
    try:
        return allowed(*option)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False  # nothing that a condition could be asked about

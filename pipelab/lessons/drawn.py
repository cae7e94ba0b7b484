"""Inputs drawn anew for each check, so that no table of answers passes; and the smallest failure.

An exercise names its *ideas*, the hard points that a teacher would ask about. Each idea gets its
share of about thirty inputs, first alone and then together with others. If some inputs fail, the
idea that agrees best with which of them fail is named, with the smallest failing input about it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import NamedTuple

from pipelab.lessons.answer_process import NOT_TRIED, Function, Outcome
from pipelab.lessons.comparing import A_FORM, NOTHING, Compare, call_of, compared
from pipelab.lessons.results import Result
from pipelab.lessons.shrink import Input, shrink, size

__all__ = ["Draws", "Idea", "far", "new_seed", "unlimited"]

NAME = "drawn inputs"  # of the row
SECONDS = 6.0  # for the search of a smaller input
_HIGHEST = 0.25  # of the numbers that have no limit
_TRIES = 200  # draws until one is about an idea
_TWINS = 12
_CHOICE = 6  # inputs about an idea, from which the one with the fewest others is taken
_WIDE_CHOICE = 24  # from which the one with the largest number is taken
_DIGITS = 6  # of a seed

Call = Callable[[Function, Sequence[Input]], list[Outcome]]


def far(random: Random, low: int, high: int) -> int:
    """A whole number from low to high, each order of magnitude as likely as another.

    Where an exercise sets no limit, some numbers are drawn like this: an answer that is right only
    up to some number has to meet a larger one. So one of four is the highest, whatever is between.
    """
    if random.random() < _HIGHEST:
        return high
    return round(math.exp(random.uniform(math.log(low), math.log(high))))


def always(*_: object) -> bool:
    """About every input: the idea of the exercise itself, which stands last."""
    return True


class Idea(NamedTuple):
    """A hard point.

    Attributes:
        name: completes "these inputs are about ...", such as "a slow cook who comes first".
        hint: where to look, never the answer.
        about: ``about(*input)``: whether an input has this point.
        much: ``much(*input)``: of several inputs, the one that has most of it is taken.
    """

    name: str
    hint: str
    about: Callable[..., bool] = always
    much: Callable[..., float] | None = None


def unlimited(
    name: str, about: Callable[..., bool], much: Callable[..., float] | None = None
) -> Idea:
    """That a number, ``much``, may be large, such as "more than six ranks"."""
    return Idea(name, "the number has no upper limit", about, much)


@dataclass(frozen=True)
class Draws:
    """How inputs of an exercise are drawn and made smaller.

    An input is plain data (see ``shrink``), so that it can be made smaller and printed.

    Attributes:
        draw: one input, from a source of random numbers.
        ideas: from the most special to the last, which is about all inputs.
        allowed: ``allowed(*input)``: whether the exercise is about such an input at all.
        arguments: ``arguments(*input)``: those of the call, if they are not the input itself.
        compare: ``compare(name, value, *input)``, if not the one of the named cases.
        explains: the comparison's own hint says what is wrong, and stands before the idea.
        number: how many inputs; at least three for each idea.
    """

    draw: Callable[[Random], Input]
    ideas: tuple[Idea, ...]
    allowed: Callable[..., bool] = always
    arguments: Callable[..., Input] = lambda *case: case
    compare: Compare | None = None
    explains: bool = False
    number: int = 30

    def inputs(self, seed: int) -> list[Input]:
        """The inputs of a seed, the simplest first."""
        random = Random(seed)
        found: dict[str, Input] = {}
        for i in range(max(self.number, 3 * len(self.ideas))):
            turn, place = divmod(i, len(self.ideas))
            idea = self.ideas[place]
            if idea is self.ideas[-1]:
                one = self._telling_apart([*found.values()], random)
            else:
                one = self._about(idea, turn % 2 == 0, random, found)
            found.setdefault(repr(one), one)
        found |= {repr(one): one for one in self._twins([*found.values()], random)}
        return sorted(found.values(), key=size)

    def _twins(self, known: Sequence[Input], random: Random) -> list[Input]:
        """Inputs that differ from a known one a little.

        What keeps something from one call to the next may take them for the same.
        """
        twins: list[Input] = []
        for _ in range(_TRIES):
            one, other = random.sample(known, 2)
            twin = _twin(one, other, random)
            if twin not in known and self.allowed(*twin):
                twins.append(twin)
            if len(twins) == _TWINS:
                break
        return twins

    def _about(self, idea: Idea, alone: bool, random: Random, known: dict[str, Input]) -> Input:
        """An input with this idea, and much of it; alone: with as few others as can be."""
        wanted = _CHOICE if alone else _WIDE_CHOICE if idea.much else 1
        found: list[Input] = []
        for _ in range(_TRIES):
            one = self.draw(random)
            if repr(one) not in known and idea.about(*one):
                found.append(one)
            if len(found) == wanted:
                break
        if not found:
            return self.draw(random)

        def others(one: Input) -> int:
            return alone * sum(other.about(*one) for other in self.ideas)

        def much(one: Input) -> float:
            return idea.much(*one) if idea.much else 0.0

        return min(found, key=lambda one: (others(one), -much(one)))

    def _telling_apart(self, known: Sequence[Input], random: Random) -> Input:
        """An input that is about one of two ideas, which all inputs so far were about alike."""
        seen: dict[tuple[bool, ...], list[Idea]] = {}
        for idea in self.ideas:
            seen.setdefault(tuple(idea.about(*one) for one in known), []).append(idea)
        alike = [ideas for ideas in seen.values() if len(ideas) > 1]
        for _ in range(_TRIES):
            one = self.draw(random)
            apart = [ideas for ideas in alike if len({idea.about(*one) for idea in ideas}) > 1]
            if apart or not alike:
                return one
        return one

    def idea_of(self, inputs: Sequence[Input], failed: Sequence[bool]) -> Idea:
        """The idea whose inputs agree best with those that fail (by Jaccard's index)."""

        def agreement(idea: Idea) -> float:
            about = [idea.about(*one) for one in inputs]
            both = sum(a and f for a, f in zip(about, failed, strict=True))
            return both / max(1, sum(a or f for a, f in zip(about, failed, strict=True)))

        general_first = self.ideas[::-1]  # of several that agree as well, the most general
        return max(general_first, key=agreement)


def _twin(one: Input, other: Input, random: Random) -> Input:
    """One with an argument of the other, with another list much like it, or a number changed."""
    place = random.randrange(len(one))
    new = other[place]
    if isinstance(old := one[place], list) and random.random() < 0.7:
        new = _alike(old, random)
    elif len(one) == 1:  # the other one is known
        new = _one_less(old, random)
    return (*one[:place], new, *one[place + 1 :])


def _one_less(value: object, random: Random) -> object:
    """The value with one of its numbers, wherever it stands, less by 1, as ``shrink`` makes it."""
    match value:
        case int() | float() if value >= 1 and not isinstance(value, bool):
            return value - 1
        case dict() if value:
            key = random.choice([*value])
            return value | {key: _one_less(value[key], random)}
        case list() | tuple() if value:
            items, i = [*value], random.randrange(len(value))
            items[i] = _one_less(items[i], random)
            return getattr(type(value), "_make", type(value))(items)
    return value


def new_seed() -> int:
    """A seed that nobody knows before; short enough to copy by hand."""
    return SystemRandom().randrange(10**_DIGITS)


@dataclass(frozen=True)
class Judged:
    """One exercise's drawn inputs, compared with what a function returned for them."""

    function: Function
    draws: Draws
    compare: Compare
    seed: int

    def row(self, inputs: Sequence[Input], outcomes: Sequence[Outcome], call: Call) -> Result:
        """The row of the verdict; ``call`` runs the function on smaller inputs if some fail."""
        tried = [i for i, outcome in enumerate(outcomes) if outcome.problem != NOT_TRIED]
        results = [self.result(inputs[i], outcomes[i]) for i in tried]
        failed = [not result.ok for result in results]
        if not any(failed):
            whole = len(inputs)
            right = f"{len(tried)} of {whole} right, seed {self.seed}"
            return Result(NAME, f"{whole} of {whole} right", right, len(tried) == whole)
        idea = self.draws.idea_of([inputs[i] for i in tried], failed)
        worst = [n for n, fails in enumerate(failed) if fails]
        first = next((n for n in worst if idea.about(*inputs[tried[n]])), worst[0])
        start, outcome = inputs[tried[first]], outcomes[tried[first]]
        if self._is_right_alone(start, outcome, call):
            return self._kept_something(start, results[first], f"{len(worst)} of {len(tried)}")
        smallest = self._smallest(start, outcome, results[first], idea, call)
        notes = {results[n].note for n in worst}
        note = notes.pop() if len(notes) == 1 else ""  # what all of them have in common
        return self._failure(smallest, idea, f"{len(worst)} of {len(tried)}", note)

    def _is_right_alone(self, one: Input, outcome: Outcome, call: Call) -> bool:
        if "running" in _way(outcome):
            return False  # it would only take as long again
        (alone,) = call(self.function, [self.draws.arguments(*one)])
        return self.result(one, alone).ok

    def _kept_something(self, one: Input, result: Result, how_many: str) -> Result:
        """Right if called alone: what is wrong is what other calls have left."""
        hint = (
            f"{how_many} fail, and each may be right alone, as {self._call_text(one)} is: does the "
            f"function keep something from one call to the next, such as a list, a counter or "
            f"earlier results, or draw random numbers? (The same inputs again: seed={self.seed}.)"
        )
        return Result(NAME, result.expected, result.got, False, hint)

    def result(self, one: Input, outcome: Outcome) -> Result:
        """Of one input."""
        return compared(self.compare, NAME, outcome, one, self._call_text(one))

    def _call_text(self, one: Input) -> str:
        return call_of(self.function, self.draws.arguments(*one))

    def _smallest(
        self, start: Input, outcome: Outcome, result: Result, idea: Idea, call: Call
    ) -> tuple[Input, Result]:
        """A smaller input that is about the idea and fails in the same way, or the same one."""
        known = {repr(start): result}
        deadline = time.monotonic() + SECONDS
        way = _way(outcome)

        def failing(options: Sequence[Input]) -> list[bool]:
            if time.monotonic() > deadline:
                return [False] * len(options)
            found = call(self.function, [self.draws.arguments(*one) for one in options])
            fails = []
            for one, new in zip(options, found, strict=True):
                known[repr(one)] = judged = self.result(one, new)
                fails.append(not judged.ok and _way(new) == way)
            return fails

        def allowed(*one: object) -> bool:
            return self.draws.allowed(*one) and idea.about(*one)

        smallest = start if "running" in way else shrink(start, failing, allowed)
        return smallest, known[repr(smallest)]

    def _failure(
        self, smallest: tuple[Input, Result], idea: Idea, how_many: str, note: str
    ) -> Result:
        one, result = smallest
        next_step = f"They are about {idea.name}: {_sentence(idea.hint)}"
        other_form = result.expected.startswith(A_FORM) or result.got == NOTHING
        if other_form and idea is self.draws.ideas[-1]:
            next_step = _sentence(f"{result.hint[0].upper()}{result.hint[1:]}")
        elif self.draws.explains:
            next_step = f"There: {_sentence(result.hint)} {next_step}"
        hint = (
            f"{self._call_text(one)} is the smallest input found that fails; {how_many} fail. "
            f"{next_step} (The same inputs again: seed={self.seed}.)"
        )
        return Result(NAME, result.expected, result.got, False, hint, note)


def _alike(items: list[object], random: Random) -> list[object]:
    """Another list with the same items, the same set of items, or the same length and sum."""
    if len(items) < 2:
        return items
    i, j = random.sample(range(len(items)), 2)
    one, other = items[i], items[j]
    match random.randrange(4):
        case 0:
            changed = {i: other}
        case 1:
            return [*items, other]
        case 2 if isinstance(one, float) and isinstance(other, float):
            changed = {i: (one + other) / 2, j: (one + other) / 2}
        case _:
            return random.sample(items, len(items))
    return [changed.get(k, item) for k, item in enumerate(items)]


def _sentence(text: str) -> str:
    return text if text[-1] in ".?" else f"{text}."


def _way(outcome: Outcome) -> str:
    """How a call failed: "" if it returned something."""
    return outcome.problem.partition(":")[0].partition(" in line ")[0]

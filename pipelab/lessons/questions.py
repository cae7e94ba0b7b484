"""What a lesson asks before a run: a choice, a number, or several shares, each with explanations.

Every kind of question has the same four methods:

    accept(value)             the prediction, or LessonError if it is no answer to the question
    listing()                 what the learner has to write
    drawn(value)              the prediction as ``Timeline(trace, over=...)`` draws it, or None
    explain(value, measured)  what to say after the run; ``value`` None: nothing was predicted
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pipelab.errors import LessonError

if TYPE_CHECKING:
    from pipelab.widgets.overlay import Over


_RIGHT = ": well predicted."
_MOST_OF_SHARES = 4.0  # idle over busy time, which some call the bubble, is more than 1


class Choice(NamedTuple):
    """A possible answer, and the explanation of it that is shown after the run."""

    text: str
    explanation: str


@dataclass(frozen=True)
class Choose:
    """A prediction among a few choices; every wrong one stands for a misconception.

    Attributes:
        question: as the lesson asks it.
        choices: by their letter.
        settle: from the number measured to the letter that it supports.
        unit: of the number measured.
        source: where the number comes from.
        expected: the number that undisturbed runs give, where a busy machine can spoil it.
    """

    question: str
    choices: Mapping[str, Choice]
    settle: Callable[[float], str]
    unit: str = ""
    source: str = "Measured"
    expected: float | None = None

    def accept(self, value: object) -> str:
        """The letter. Raises LessonError if it is none of the choices."""
        letter = value.strip().lower() if isinstance(value, str) else ""
        if letter in self.choices:
            return letter
        raise LessonError(f"{value!r} is none of the choices: write {self.listing()}")

    def listing(self) -> str:
        """The letters, as they are typed."""
        *first, last = map(repr, self.choices)
        return f"{', '.join(first)} or {last}"

    def drawn(self, value: object) -> None:
        """Nothing: a choice is not drawn, ``reveal`` puts it in words."""

    def explain(self, value: object, measured: float) -> str:
        """What to say after the run; ``value`` None: nothing was predicted."""
        right = self.settle(measured)
        say = f"{self.source}: {measured:.3g}{self.unit}."
        if self.expected is not None and right != self.settle(self.expected):
            right = self.settle(self.expected)
            say += _disturbed(f"{self.expected:.3g}{self.unit}")
        say += f" That is {right!r}: {self.choices[right].text}."
        if value == right:
            return f"{say} You said so. {self.choices[right].explanation}"
        if isinstance(value, str) and value in self.choices:
            own = self.choices[value]
            say += f" You said {value!r}: {own.text}. {own.explanation}"
        return f"{say} {self.choices[right].explanation}"


@dataclass(frozen=True)
class Estimate:
    """A prediction that is a number.

    Attributes:
        question: as the lesson asks it.
        explanation: why the number is what it is.
        slips: numbers that a known misconception leads to, and what to say about each.
        tolerance: how near counts as right, as a share of what was measured.
        unit: of the number.
        digits: as many of what was measured are shown.
        most: the largest number that makes sense.
        over: from the number to what can be drawn over a run, if it can.
        expected: what an undisturbed run gives, and the explanation explains.
    """

    question: str
    explanation: str
    slips: Mapping[float, str] = field(default_factory=dict)
    tolerance: float = 0.15
    unit: str = ""
    digits: int = 3
    most: float = 1e12
    over: "Callable[[float], Over | None] | None" = None
    expected: float | None = None

    def accept(self, value: object) -> float:
        """The number. Raises LessonError if it is none."""
        return _number(value, self.most)

    def listing(self) -> str:
        """What the learner has to write."""
        return "a number"

    def drawn(self, value: object) -> "Over | None":
        """The number as it is drawn over a run. Raises LessonError if it is none."""
        return None if self.over is None else self.over(self.accept(value))

    def explain(self, value: object, measured: float) -> str:
        """What to say after the run; ``value`` None: nothing was predicted."""
        say = f"Measured: {measured:.{self.digits}g}{self.unit}."
        right = measured
        if self.expected and abs(measured - self.expected) > self.tolerance * self.expected:
            right = self.expected
            say += _disturbed(f"{right:.{self.digits}g}{self.unit}")
        if isinstance(value, int | float):
            near = abs(value - right) <= self.tolerance * abs(right)
            say += f" You predicted {value:.3g}{self.unit}{_RIGHT if near else '.'}"
            slip = next((w for n, w in self.slips.items() if abs(n - value) < 1e-6), "")
            say += f" {slip}" if slip and not near else ""
        return f"{say} {self.explanation}"


@dataclass(frozen=True)
class Estimates:
    """A prediction of several shares, one for each of a few settings.

    Attributes:
        question: as the lesson asks it.
        settings: in words, one for each share.
        explanation: why the shares are what they are.
        slips: all the shares that a known misconception leads to, and what to say about them.
        tolerance: how near counts as right, in shares.
        most: the largest number that makes sense.
        over: from the shares to what can be drawn over a run.
        expected: what undisturbed runs give, and the explanation explains.
    """

    question: str
    settings: tuple[str, ...]
    explanation: str
    slips: Mapping[tuple[float, ...], str]
    tolerance: float = 0.12
    most: float = 1.0
    over: "Callable[[tuple[float, ...]], Over] | None" = None
    expected: tuple[float, ...] = ()

    def accept(self, value: object) -> tuple[float, ...]:
        """The shares. Raises LessonError if it is no list of as many numbers."""
        if not isinstance(value, list | tuple) or len(value) != len(self.settings):
            raise LessonError(f"{value!r} is no such list: write {self.listing()}")
        return tuple(_number(share, self.most) for share in value)

    def listing(self) -> str:
        """What the learner has to write."""
        return f"a list of {len(self.settings)} numbers, for {', '.join(self.settings)}"

    def drawn(self, value: object) -> "Over | None":
        """The shares as they are drawn over a run. Raises LessonError if they are none."""
        return None if self.over is None else self.over(self.accept(value))

    def explain(self, value: object, measured: tuple[float, ...]) -> str:
        """What to say after the run; ``value`` None: nothing was predicted."""
        say = f"Measured: {self._row(measured)}."
        right = measured
        if self.expected and not _near(measured, self.expected, self.tolerance):
            right = self.expected
            say += _disturbed(self._row(right))
        if isinstance(value, list | tuple) and len(value) == len(right):
            near = _near(value, right, self.tolerance)
            say += f" You predicted {self._row(value)}{_RIGHT if near else '.'}"
            slip = next((w for n, w in self.slips.items() if _near(value, n, 0.03)), "")
            say += f" {slip}" if slip and not near else ""
        return f"{say} {self.explanation}"

    def _row(self, shares: Sequence[float]) -> str:
        pairs = zip(self.settings, shares, strict=True)
        return ", ".join(f"{share:.2f} for {setting}" for setting, share in pairs)


Question = Choose | Estimate | Estimates


def _disturbed(expected: str) -> str:
    """What to say of a measurement that the explanation does not explain.

    The number that it does explain stands last: what follows is about that one.
    """
    return (
        " Your machine was busy, or something else was changed: run the cells again. An "
        f"undisturbed run gives {expected}."
    )


def _near(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def _number(value: object, most: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
        if value <= most:
            return float(value)
        percent = value if most < value <= 100 else 30  # what was meant, or an example
        raise LessonError(
            f"{value!r} is too large for a share: write {percent:g} % as {percent / 100:g}"
        )
    which = "between 0 and 1, such as 0.3" if most <= _MOST_OF_SHARES else "such as 12 or 0.5"
    raise LessonError(f"{value!r} is no number that fits here: write one {which}")

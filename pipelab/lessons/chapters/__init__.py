"""One module per lesson, ``chNN_name``: targets, hints and explanations, never an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipelab.errors import LessonError

if TYPE_CHECKING:
    from pipelab.lessons.exercise import Exercise
    from pipelab.lessons.questions import Question

__all__ = ["FIRST_STEPS", "MODULES", "Chapter", "chapter_of", "exercise_names", "questions_of"]

FIRST_STEPS = "00"  # predicts, and has no exercises
MODULES = {
    "01": "ch01_relay",
    "02": "ch02_split",
    "03": "ch03_waiting",
    "04": "ch04_microbatches",
    "05": "ch05_gradient",
    "06": "ch06_payoff",
    "07": "ch07_one_f_one_b",
    "08": "ch08_balance",
    "09": "ch09_overlap",
    "10": "ch10_hangs",
    "11": "ch11_fewer_bubbles",
    "12": "ch12_capstone",
}


@dataclass(frozen=True)
class Chapter:
    """The exercises and predictions of one lesson, by name."""

    exercises: "Mapping[str, Exercise]"
    predictions: "Mapping[str, Question]"


def chapter_of(name: str) -> Chapter:
    """The chapter of an exercise or a prediction. Raises LessonError if there is none."""
    chapter: Chapter = import_module(f"{__name__}.{MODULES[_number(name)]}").CHAPTER
    return chapter


def exercise_names(number: str = "") -> list[str]:
    """The exercises of a lesson, or of all: two each. Loads nothing.

    Raises LessonError if there is no such lesson.
    """
    numbers = [_number(number)] if number else list(MODULES)
    return [f"{number}.{i}" for number in numbers for i in (1, 2)]


def questions_of(name: str) -> "Mapping[str, Question]":
    """The predictions of the same lesson. Raises LessonError if there is none.

    Those that have a module ``chNN_questions`` need no torch, which takes seconds to load. The
    first steps, "00", have nothing else.
    """
    number = FIRST_STEPS if name == FIRST_STEPS else _number(name)
    module = f"{__name__}.ch{number}_questions"
    if find_spec(module) is None:
        return chapter_of(name).predictions
    questions: Mapping[str, Question] = import_module(module).QUESTIONS
    return questions


def _number(name: str) -> str:
    number = name.partition(".")[0] if isinstance(name, str) else ""
    if number not in MODULES:
        raise LessonError(f"{name!r} belongs to no lesson: the lessons are {', '.join(MODULES)}")
    return number

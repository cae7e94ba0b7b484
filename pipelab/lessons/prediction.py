"""Predictions: saved before the run, drawn over it, explained after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from pipelab.errors import LessonError
from pipelab.lessons import progress_file
from pipelab.lessons.chapters import questions_of
from pipelab.lessons.questions import Estimates, Question
from pipelab.trace import Trace

if TYPE_CHECKING:
    from pipelab.widgets.overlay import Over


@dataclass(frozen=True)
class Card:
    """A few sentences, shown as the last line of a cell."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.text)}</p>"


def predict(name: str, value: object) -> Card:
    """Save a prediction before the run. ``...`` saves nothing.

    Raises:
        LessonError: no such prediction, or a value that is no answer to its question.
    """
    question = _question(name)
    parts = value if isinstance(value, list | tuple) else [value]
    if any(part is ... or part is None for part in parts):
        return Card(f"No prediction yet: write {question.listing()} in place of the dots.")
    accepted = question.accept(value)
    progress_file.save_prediction(name, accepted)
    shown = f"{accepted:g}" if isinstance(accepted, float) else repr(accepted)
    return Card(f"Your prediction is saved: {shown}. Now run it and compare.")


def predicted(name: str) -> "Over | None":
    """What was predicted, to be drawn over a run: ``Timeline(trace, over=predicted("03"))``.

    None if nothing was predicted, or nothing that can be drawn: ``reveal`` puts a choice in words.

    Raises:
        LessonError: no such prediction.
    """
    question = _question(name)
    value = progress_file.saved_prediction(name)
    try:
        return None if value is None else question.drawn(value)
    except LessonError:  # saved by an older edition, which asked another question
        return None


def reveal(name: str, measured: float | Sequence[float], *runs: Trace) -> Card:
    """What the run says about the prediction, and about the idea behind it.

    Args:
        name: of the prediction, such as ``"06.speed"``.
        measured: what the runs gave: a number, or one for each share that was asked for.
        runs: where it was measured; a disturbed one among them is named first.

    Raises:
        LessonError: no such prediction, or fewer or more numbers than were asked for.
    """
    question = _question(name)
    value = progress_file.saved_prediction(name)
    busy = next((f"{run.warning} " for run in runs if run.warning), "")
    if isinstance(question, Estimates):
        shares = question.accept(measured)
        progress_file.save_measured(name, shares)
        return Card(busy + question.explain(value, shares))
    if isinstance(measured, Sequence):
        raise LessonError(f"prediction {name!r} is one number: give what was measured as one")
    progress_file.save_measured(name, float(measured))
    return Card(busy + question.explain(value, float(measured)))


def _question(name: str) -> Question:
    predictions = questions_of(name)
    if name not in predictions:
        known = ", ".join(predictions)
        raise LessonError(f"there is no prediction {name!r}: choose one of {known}")
    return predictions[name]

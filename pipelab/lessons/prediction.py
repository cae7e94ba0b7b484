"""Predictions: recorded before the run, drawn over it, explained after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipelab.errors import LessonError
from pipelab.lessons import ledger
from pipelab.lessons.chapters import chapter_of
from pipelab.lessons.exercise import Choose, Estimate, Estimates
from pipelab.widgets.overlay import Over


@dataclass(frozen=True)
class Card:
    """A few sentences, to be the last line of a cell."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.text)}</p>"


def predict(name: str, value: object) -> Card:
    """Record a prediction before the run. ``...`` records nothing.

    Raises:
        LessonError: no such prediction, or a value that is none of its choices.
    """
    prediction = _find(name)
    parts = value if isinstance(value, list | tuple) else [value]
    if any(part is ... or part is None for part in parts):
        return Card(f"No prediction yet: write {prediction.listing()} in place of the dots.")
    accepted = prediction.accept(value)
    ledger.note_prediction(name, accepted)
    return Card(f"Noted: {accepted!r}. Now let the ranks decide.")


def predicted(name: str) -> Over | None:
    """What was predicted, to be drawn over a run: ``Timeline(trace, over=predicted("03"))``.

    None if nothing was, or nothing that could be drawn: a choice is told in words by ``reveal``.

    Raises:
        LessonError: no such prediction.
    """
    prediction, value = _find(name), ledger.prediction(name)
    try:
        return None if value is None else prediction.drawn(value)
    except LessonError:  # of an older edition, which asked another question
        return None


def reveal(name: str, measured: float | Sequence[float]) -> Card:
    """What the run says about the prediction, and about the idea behind it.

    Raises:
        LessonError: no such prediction, or fewer or more numbers than were asked for.
    """
    prediction, value = _find(name), ledger.prediction(name)
    if isinstance(prediction, Estimates):
        shares = prediction.accept(measured)
        ledger.note_measured(name, shares)
        return Card(prediction.explain(value, shares))
    if isinstance(measured, Sequence):
        raise LessonError(f"prediction {name!r} is one number: give what was measured as one")
    ledger.note_measured(name, float(measured))
    return Card(prediction.explain(value, float(measured)))


def _find(name: str) -> Choose | Estimate | Estimates:
    predictions = chapter_of(name).predictions
    if name not in predictions:
        raise LessonError(f"there is no prediction {name!r}: take one of {', '.join(predictions)}")
    return predictions[name]

"""Predictions: recorded before the run, explained after it."""

from dataclasses import dataclass
from html import escape

from pipelab.errors import LessonError
from pipelab.lessons import ledger
from pipelab.lessons.chapters import chapter_of
from pipelab.lessons.exercise import Choose, Estimate


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
    if value is ... or value is None:
        return Card(f"No prediction yet: write {prediction.listing()} in place of the dots.")
    accepted = prediction.accept(value)
    ledger.note_prediction(name, accepted)
    return Card(f"Noted: {accepted!r}. Now let the ranks decide.")


def reveal(name: str, measured: float) -> Card:
    """What the run says about the prediction, and about the idea behind it.

    Raises:
        LessonError: no such prediction.
    """
    prediction = _find(name)
    value = ledger.prediction(name)
    ledger.note_measured(name, float(measured))
    return Card(prediction.explain(value, float(measured)))


def _find(name: str) -> Choose | Estimate:
    predictions = chapter_of(name).predictions
    if name not in predictions:
        raise LessonError(f"there is no prediction {name!r}: take one of {', '.join(predictions)}")
    return predictions[name]

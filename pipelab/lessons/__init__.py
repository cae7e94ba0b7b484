"""What a lesson does apart from running pipelines: ask, check, help, and keep the progress.

    predict  >  a run  >  reveal      predict first, then compare with what was recorded;
                                      predicted: the same, to be drawn over the run
    hint     >  check                 an exercise, judged by running the answer

The chapters hold targets and hints, never answers. Each name is loaded when it is first used: the
progress file alone needs no torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelab.lessons.checking import check, hint
    from pipelab.lessons.prediction import predict, predicted, reveal
    from pipelab.lessons.results import Verdict

__all__ = ["Verdict", "check", "hint", "predict", "predicted", "reveal"]

_HOME = {
    "Verdict": "results",
    "check": "checking",
    "hint": "checking",
    "predict": "prediction",
    "predicted": "prediction",
    "reveal": "prediction",
}


def __getattr__(name: str) -> object:
    """Load a public name with its module, when it is first used."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""What a lesson does besides running pipelines: ask, check, help, and remember.

    predict  >  a run  >  reveal      commit first, then compare with what was recorded;
                                      predicted: the same, to be drawn over the run
    hint     >  check                 an exercise, judged by running the answer

The chapters hold targets and hints, never answers. Loaded when first asked for: the ledger alone
needs no torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelab.lessons.checking import check
    from pipelab.lessons.hints import hint
    from pipelab.lessons.prediction import predict, predicted, reveal
    from pipelab.lessons.verdict import Verdict

__all__ = ["Verdict", "check", "hint", "predict", "predicted", "reveal"]

_HOME = {
    "Verdict": "verdict",
    "check": "checking",
    "hint": "hints",
    "predict": "prediction",
    "predicted": "prediction",
    "reveal": "prediction",
}


def __getattr__(name: str) -> object:
    """Load a public name with its module, when it is first asked for."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

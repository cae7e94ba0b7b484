"""What a lesson does apart from running pipelines: ask, check, help, and keep the progress.

    predict  >  a run  >  reveal      predict first, then compare with what was recorded;
                                      predicted: the same, to be drawn over the run
    hint     >  check                 an exercise, judged by running the answer

The chapters hold targets and hints, never answers. Nothing here loads torch before an answer is
judged; in a notebook it is loaded in the background meanwhile.
"""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names
from pipelab.lessons import warm_up
from pipelab.widgets import new_kernel

if TYPE_CHECKING:
    from pipelab.lessons.checking import check, hint
    from pipelab.lessons.prediction import predict, predicted, reveal
    from pipelab.lessons.results import Verdict

__all__ = ["Verdict", "check", "hint", "predict", "predicted", "reveal"]

__getattr__ = lazy_names(
    __name__,
    {
        "Verdict": "results",
        "check": "checking",
        "hint": "checking",
        "predict": "prediction",
        "predicted": "prediction",
        "reveal": "prediction",
    },
)

warm_up.begin()
new_kernel.begin()

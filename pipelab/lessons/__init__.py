"""What a lesson does apart from running pipelines: ask, check, help, and keep the progress.

    predict  >  a run  >  reveal      predict first, then compare with what was recorded;
                                      predicted: the same, to be drawn over the run
    hint     >  check  >  solution    an exercise, judged by running the answer; then the course's
    progress                          what of a lesson is done, and what is left
    busy                              a mark for printed figures of a busy machine

The chapters hold targets and hints, never answers. Nothing here loads torch before an answer is
judged; in a notebook it is loaded in the background meanwhile.
"""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names
from pipelab.lessons import warm_up

if TYPE_CHECKING:
    from pipelab.lessons.busy_mark import busy
    from pipelab.lessons.checking import check, hint
    from pipelab.lessons.prediction import predict, predicted, reveal
    from pipelab.lessons.results import Verdict
    from pipelab.lessons.standing import progress, solution

__all__ = [
    "Verdict",
    "busy",
    "check",
    "hint",
    "predict",
    "predicted",
    "progress",
    "reveal",
    "solution",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Verdict": "results",
        "busy": "busy_mark",
        "check": "checking",
        "hint": "checking",
        "predict": "prediction",
        "predicted": "prediction",
        "progress": "standing",
        "reveal": "prediction",
        "solution": "standing",
    },
)

warm_up.begin()

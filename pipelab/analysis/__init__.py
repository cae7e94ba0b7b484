"""WHY: what a recorded pipeline's bubble is made of, and what to change.

order.py        the schedule that a trace followed, and its name
own_costs.py    what its actions and messages took: the prices of all predictions here
what_if.py      the step time, if one thing were different
slowest.py      the rank, the stage and the kind that take longest against the others
slowdown.py     against a job whose ranks are all alike, and which ranks that is due to
diagnosis.py    all of it, of all steps and replicas of a recording
screen.py       the same on one screen
"""

from pipelab.analysis.diagnosis import Diagnosis, diagnose
from pipelab.analysis.what_if import WhatIf

__all__ = ["Diagnosis", "WhatIf", "diagnose"]

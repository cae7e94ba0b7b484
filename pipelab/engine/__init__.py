"""Record: a schedule and a model become training on real ranks, one process each.

    pipeline  >  launch  >  rank  >  worker (THE MAIN LOOP)  >  stage  >  p2p, mesh, recorder

Importing this starts the fork server in the background, so that the first launch is fast too.
"""

from pipelab.engine.launch import warm_up
from pipelab.engine.pipeline import Pipeline, StepResult
from pipelab.engine.verify import GradientReport, verify_gradients

__all__ = ["GradientReport", "Pipeline", "StepResult", "verify_gradients"]

warm_up()

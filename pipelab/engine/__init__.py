"""Record: a schedule and a model become training on real ranks, one process each.

    pipeline  >  launch  >  rank  >  worker (THE MAIN LOOP)  >  stage  >  p2p, mesh, recorder

Importing this starts the fork server in the background, so that the first launch is fast too.
"""

from contextlib import suppress

from pipelab.engine import fork_server
from pipelab.errors import LaunchError

with suppress(LaunchError):  # raised again by the first launch
    fork_server.start()  # first of all: it loads torch while this process does the same

from pipelab.engine.pipeline import Pipeline
from pipelab.engine.profile import Profile, profile_step
from pipelab.engine.result import StepResult
from pipelab.engine.verify import GradientReport, verify_gradients

__all__ = [
    "GradientReport",
    "Pipeline",
    "Profile",
    "StepResult",
    "profile_step",
    "verify_gradients",
]

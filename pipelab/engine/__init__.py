"""Record: a schedule and a model become training on real ranks, one process each.

    pipeline.py verify.py profile.py ranks.py    the public face
    driver/     the process that asks: checks, microbatches, plan, results, checkpoints
    launch/     ranks that this process starts: fork server, processes, their end
    torchrun/   ranks that torchrun has started: key-value store, clocks
    failures/   why a call failed: one deadline, one search for the cause, its sentences
    rank/       what one rank runs: THE MAIN LOOP (worker.py), stages, update, recorder
    transport/  how tensors travel
    protocol/   what both sides know: commands, trees of tensors, devices, progress, logs

    driver | launch | torchrun  >  failures | rank  >  transport  >  protocol

Importing this starts the fork server in the background, so that the first launch is fast too.
"""

from contextlib import suppress

from pipelab.engine.launch import fork_server
from pipelab.errors import LaunchError

with suppress(LaunchError):  # raised again by the first launch
    fork_server.start()  # first of all: it loads torch while this process does the same

from pipelab.engine.driver.result import StepResult
from pipelab.engine.pipeline import Pipeline
from pipelab.engine.profile import Profile, profile_step
from pipelab.engine.verify import GradientReport, verify_gradients

__all__ = [
    "GradientReport",
    "Pipeline",
    "Profile",
    "StepResult",
    "profile_step",
    "verify_gradients",
]

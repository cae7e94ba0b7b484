"""Record: a schedule and a model become training on real ranks, one process each.

    pipeline.py verify/ profile.py script_recording.py ranks.py      the public face
    driver/     the process that asks: checks, microbatches, plan, results, checkpoints
    launch/     ranks that this process starts: fork server, processes, their end
    torchrun/   ranks that torchrun has started: key-value store, clocks
    failures/   why a call failed: one deadline, one search for the cause, its sentences
    rank/       what one rank runs: THE MAIN LOOP (rank/worker.py), stages, update, recorder
    transport/  how tensors travel
    protocol/   what both sides know: commands, devices, progress, logs,
                THE GRADIENT RULE (protocol/gradient_rule.py)

    driver | launch | torchrun  >  failures | rank  >  transport  >  protocol

One step, from ``pipeline.step(inputs, targets)`` to its result. The code cites these numbers.

    the process that asks                        each rank
    ---------------------                        ---------
    [1] flatten the batch, check its rows
    [2] share it out to replicas and
        microbatches, each with its weight
    [3] a Run for each rank  ──────────────────▶ [4] cut its rows into microbatches
                                                 THE MAIN LOOP, action by action:
                                                 [5]  RECV opens a buffer for a message
                                                 [6]  WAIT until the message is there
                                                 [7]  F: the output, or the loss x weight
                                                 [8]  B, or I and W: the gradients
                                                 [9]  SEND starts to send a result
                                                 [10] REDUCE_GRAD adds over the replicas,
                                                      and over the stages of a tied weight
                                                 [11] STEP: the optimizer
    [13] one loss, one trace  ◀───────────────── [12] Done: its loss, events and bytes

Importing this starts the fork server in the background, so that the first launch is fast too; the
first of its names that is used loads torch.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from pipelab.engine.launch import fork_server
from pipelab.errors import LaunchError
from pipelab.lazy import lazy_names

if TYPE_CHECKING:
    from pipelab.engine.driver.result import StepResult
    from pipelab.engine.pipeline import Pipeline
    from pipelab.engine.profile import Profile, profile_step
    from pipelab.engine.script_recording import Recorded, recording
    from pipelab.engine.verify import GradientReport, verify_gradients
    from pipelab.partition.rows import Rows, Whole

with suppress(LaunchError):  # raised again by the first launch
    fork_server.begin()  # it loads torch while this process does the same, or is still asking

__all__ = [
    "GradientReport",
    "Pipeline",
    "Profile",
    "Recorded",
    "Rows",
    "StepResult",
    "Whole",
    "profile_step",
    "recording",
    "verify_gradients",
]

__getattr__ = lazy_names(
    __name__,
    {
        "GradientReport": "verify",
        "Pipeline": "pipeline",
        "Profile": "profile",
        "Recorded": "script_recording",
        "Rows": ".partition.rows",
        "StepResult": "driver.result",
        "Whole": ".partition.rows",
        "profile_step": "profile",
        "recording": "script_recording",  # another name than its module's
        "verify_gradients": "verify",
    },
)

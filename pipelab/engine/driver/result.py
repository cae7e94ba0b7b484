"""What one step gave."""

import platform
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

import pipelab
from pipelab.engine.protocol.commands import Done, Options
from pipelab.engine.rank.affinity import cores
from pipelab.engine.rank.recorder import event_of
from pipelab.schedules import Schedule
from pipelab.simulator import Cost
from pipelab.trace import Setting, Trace
from pipelab.trace.trace import in_order


@dataclass(frozen=True)
class StepResult:
    """What one step gave.

    Attributes:
        loss: the mean over all rows of the batch (or over what ``count=`` says).
        gradient_norm: of the whole model, before clipping; None without ``clip_norm``.
        trace: what each rank did and when.
    """

    loss: float
    gradient_norm: float | None
    _answers: list[Done] = field(repr=False)
    _setting: Setting = field(repr=False)

    @property
    def skipped(self) -> bool:
        """Whether the update was left out, since fp16 gradients had overflowed."""
        return any(answer.skipped for answer in self._answers)

    @property
    def allocated(self) -> tuple[int, ...]:
        """For each rank, the most bytes that CUDA's allocator had given out; 0 without a GPU."""
        return tuple(answer.allocated for answer in self._answers)

    @cached_property
    def trace(self) -> Trace:
        """What each rank did and when, seconds from the first event."""
        events = [event_of(row) for answer in self._answers for row in answer.events]
        began = min((event.start for event in events), default=0.0)
        memory = tuple(answer.memory for answer in self._answers)
        ranks = [answer.disturbance for answer in self._answers]
        late, timed, lost = map(sum, zip(*ranks, strict=True))
        setting = replace(self._setting, late=late, timed=timed, lost=lost)
        return Trace(in_order(events), "recorded", setting, memory, began)


def setting_of(
    schedule: Schedule, replicas: int, options: Options, pace: Cost | None, clock_error: float
) -> Setting:
    """What a trace was recorded with."""
    place = options.place
    torchs = "torch.distributed.pipelining, " if options.worker == "torch" else ""
    return Setting(
        schedule=schedule.name,
        ranks=schedule.num_ranks * replicas,
        microbatches=schedule.num_microbatches,
        slices=schedule.slices,
        replicas=replicas,
        device=place.device,
        backend=torchs + place.backend,
        paced=str(pace) if pace else "",
        cpus=cores(),
        versions={
            "pipelab": pipelab.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        clock_error=clock_error,
    )


def step_result(answers: list[Done], setting: Setting) -> StepResult:
    """The answers of all ranks as one."""
    losses = [answer.loss for answer in answers if answer.loss is not None]
    norms = [answer.gradient_norm for answer in answers if answer.gradient_norm is not None]
    return StepResult(sum(losses), norms[0] if norms else None, answers, setting)


def merged(answers: list[Done], add: bool = False) -> dict[str, Any]:
    """What all ranks found, by name. Replicas find the same, or parts that ``add`` up."""
    found: dict[str, Any] = {}
    for answer in answers:
        for name, value in answer.found.items():
            found[name] = found[name] + value if add and name in found else value
    return found

"""Record a script's own pipeline under torchrun: no Pipeline of ours, no change to the model.

with recording(schedule) as recorded:      schedule: of torch.distributed.pipelining
schedule.step(x)
recorded.trace.save("trace.json")          the last step, all ranks, their clocks aligned
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from pipelab.engine.torchrun.clocks import Clock, measure
from pipelab.engine.torchrun.members import machine
from pipelab.errors import TraceError
from pipelab.schedules.catalogue import BUILDERS
from pipelab.trace import Event, Setting, Trace
from pipelab.trace.trace import in_order

if TYPE_CHECKING:
    from pipelab.engine.rank.script_steps import ScriptSteps

_TIMEOUT = 60.0  # seconds that one message between the ranks may take at the end


@dataclass
class Recorded:
    """The steps that were recorded; filled at the end of ``recording``, on every rank alike.

    Attributes:
        traces: one for each step, in order; of all ranks of this rank's pipeline.
    """

    traces: list[Trace] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        """The last step. Raises TraceError if none was recorded."""
        if not self.traces:
            raise TraceError(
                "no step was recorded: call schedule.step within `with recording(schedule):`, and "
                "read the trace after it"
            )
        return self.traces[-1]


@contextmanager
def recording(schedule: Any) -> Iterator[Recorded]:
    """Record every ``schedule.step(...)`` within the block; all ranks enter it together.

    Works with the schedules of torch.distributed.pipelining, on CPUs and GPUs; there each step ends
    with a wait for the GPU. On a CPU an event (an action, a message or a wait) costs its rank 1 to
    2 microseconds by itself, about 0.1 % of a step of a small GPT on four ranks. Whole steps took
    1 to 3 % longer in the median, no more than what differs by chance there
    (``python -m tests.benchmarks recording``). The first step of a schedule finds out shapes as
    well: record a later one. At the end of the block, in no step, the ranks of the pipeline
    exchange what they saw.

    Args:
        schedule: whose ``step`` the script calls, such as ``Schedule1F1B(stage, 8, loss_fn)``.

    Raises:
        TraceError: it is no schedule of torch.distributed.pipelining.
    """
    if not (hasattr(schedule, "_stages") or hasattr(schedule, "_stage")):
        raise TraceError(
            f"recording() takes a schedule of torch.distributed.pipelining, such as "
            f"Schedule1F1B(stage, 8, loss_fn), not {type(schedule).__name__}"
        )
    from pipelab.engine.rank.script_steps import ScriptSteps  # imports torch's, which takes 1 s

    steps = ScriptSteps(schedule)
    recorded = Recorded()
    with steps.attached():
        yield recorded
    recorded.traces = _gathered(steps)


def _gathered(steps: "ScriptSteps") -> list[Trace]:
    """What all ranks of the pipeline recorded, on the clock of its first rank."""
    group = steps.stages[0].group or dist.distributed_c10d._get_default_group()
    ranks = dist.get_process_group_ranks(group)
    control = group
    if dist.get_backend(group) != "gloo":
        control = dist.new_group(ranks, backend="gloo", use_local_synchronization=True)
    machines: list[str] = [""] * len(ranks)
    dist.all_gather_object(machines, machine(), group=control)
    clock = Clock()
    if len(set(machines)) > 1:
        clock = measure(control, steps.rank, len(ranks), _TIMEOUT)
    own = [[_shifted(event, clock.offset) for event in step] for step in steps.steps]
    found: list[Any] = [None] * len(ranks)
    dist.all_gather_object(found, (own, clock.error), group=control)
    error = max(error for _, error in found)
    return [
        Trace(
            in_order(event for events, _ in found for event in events[number]),
            "recorded",
            _setting(steps, len(ranks), error, number),
        )
        for number in range(min(len(events) for events, _ in found))
    ]


def _shifted(event: Event, seconds: float) -> Event:
    return event._replace(start=event.start + seconds, end=event.end + seconds)


def _setting(steps: "ScriptSteps", num_ranks: int, error: float, number: int) -> Setting:
    schedule, stage = steps.schedule, steps.stages[0]
    return Setting(
        schedule=_name(type(schedule).__name__, len(steps.stages)),
        ranks=num_ranks,
        microbatches=int(schedule._n_microbatches),
        device=stage.device.type,
        backend=dist.get_backend(stage.group),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        versions={"torch": torch.__version__},
        clock_error=error,
        step=number,
    )


def _name(kind: str, stages: int) -> str:
    """Our name of torch's class, where the order is the same."""
    for builder in BUILDERS.values():
        if builder.torch == kind and builder.stages_per_rank in (None, stages):
            return builder.name
    return "custom"

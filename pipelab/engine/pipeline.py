"""A pipeline: a schedule and a model become training on real ranks, and a trace of each step."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

import pipelab
from pipelab.action import Kind
from pipelab.engine import checks
from pipelab.engine.commands import Build, Done, Fetch, Loss, Optimizer, Run, Use
from pipelab.engine.launch import Ranks, cores
from pipelab.errors import PipelineClosed
from pipelab.partition import split
from pipelab.schedules import Schedule, validate
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost
from pipelab.trace import Setting, Trace
from pipelab.trace.trace import in_order


@dataclass(frozen=True)
class StepResult:
    """What one step gave: ``loss``, the mean over all rows of the batch, and its ``trace``."""

    loss: float
    _answers: list[Done] = field(repr=False)
    _setting: Setting = field(repr=False)

    @cached_property
    def trace(self) -> Trace:
        """What each rank did and when, seconds from the first event."""
        events = in_order(event for answer in self._answers for event in answer.events)
        memory = tuple(answer.memory for answer in self._answers)
        return Trace(events, "recorded", self._setting, memory)


class Pipeline:
    """A model cut into stages, each on a rank of its own, following a schedule.

    Use it in a ``with`` block: at its end, however it comes, no process is left.

    Args:
        model: an ``nn.Sequential``. Its layers are copied to the ranks; the model itself stays
            as it is (``state_dict`` brings the trained parameters home).
        schedule: who runs what, in which order; one process is started for each of its ranks.
        loss: ``loss(output, target)`` -> scalar tensor, the mean over the rows it was given.
        optimizer: called on each rank with the list of its stage's parameters, such as
            ``partial(torch.optim.SGD, lr=0.1)``. Without one, steps compute gradients alone.
        pace: pad each F and B to this cost, as a device of that speed would take it. Latency
            is not paced yet.
        device: ``"auto"`` or ``"cpu"``.
        timeout: seconds that any wait may take before the step is given up.

    Raises:
        PipelabError: a schedule, model or loss that cannot run, before any process starts.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        *,
        loss: Loss,
        optimizer: Optimizer | None = None,
        pace: Cost | None = None,
        device: str = "auto",
        timeout: float = 30.0,
    ):
        checks.check_device(device)
        validate(schedule)
        modules = split(model, schedule.num_stages)
        checks.check_loss(loss)
        self.schedule = schedule
        self.pace = pace
        self._names = {
            "state": list(model.state_dict()),
            "gradients": [name for name, _ in model.named_parameters()],
        }
        self._ranks = Ranks(schedule.num_ranks, timeout)
        stages: list[dict[int, nn.Module]] = [
            {stage: modules[stage] for stage in schedule.stages_of(rank)}
            for rank in range(schedule.num_ranks)
        ]
        self._ask(Build(own, schedule.num_stages, loss, optimizer) for own in stages)
        self.use(schedule)
        self._ranks.ready()

    def step(self, inputs: Tensor, targets: Tensor) -> StepResult:
        """Train on one batch: all microbatches forward and backward, then one optimizer step.

        The gradient is that of the mean loss over all rows of the batch. The batch is cut into
        microbatches by rows, as equal as can be, the larger ones first.

        Raises:
            BatchError: an empty batch, or fewer rows than microbatches.
            RankError: a rank failed; the pipeline is closed then.
        """
        answers = self._run(inputs, targets, train=True)
        loss = next(answer.loss for answer in answers if answer.loss is not None)
        return StepResult(loss, answers, self._setting)

    def evaluate(self, inputs: Tensor, targets: Tensor) -> float:
        """The mean loss over a batch, in eval mode; nothing is learnt."""
        answers = self._run(inputs, targets, train=False)
        return next(answer.loss for answer in answers if answer.loss is not None)

    def predict(self, inputs: Tensor) -> Tensor:
        """The model's output for a batch, in eval mode: (rows, ...)."""
        answers = self._run(inputs, None, train=False, collect=True)
        return next(answer.outputs for answer in answers if answer.outputs is not None)

    def use(self, schedule: Schedule) -> None:
        """Follow another schedule from the next step on: same stages, no relaunch."""
        validate(schedule)
        checks.check_same_stages(self.schedule, schedule)
        self.schedule = schedule
        rows = zip(lower(schedule).ranks, _forward_only(schedule).ranks, strict=True)
        self._ask(Use(step, forward, schedule.rank_of_stage, self.pace) for step, forward in rows)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last step, under the model's own parameter names."""
        return self._fetch("gradients")

    def state_dict(self) -> dict[str, Tensor]:
        """The model's parameters and buffers as they are now, under its own names."""
        return self._fetch("state")

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the ranks, in rank order; empty once closed."""
        processes = () if self._ranks.is_closed else self._ranks.processes
        return tuple(process.pid for process in processes if process.pid is not None)

    def close(self) -> None:
        """End all processes. May be called twice."""
        self._ranks.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(
        self, inputs: Tensor, targets: Tensor | None, train: bool, collect: bool = False
    ) -> list[Done]:
        self._check_open()
        m = self.schedule.num_microbatches
        rows = checks.check_batch(inputs, targets, m, train)
        sizes = checks.microbatch_sizes(rows, min(m, rows))
        weights = tuple(size / rows for size in sizes)
        inputs = inputs.detach()
        targets = None if targets is None else targets.detach()
        home = self.schedule.rank_of_stage
        first, last = home[0], home[self.schedule.num_stages - 1]
        signature = (tuple(inputs.shape[1:]), inputs.dtype)
        return self._ask(
            Run(
                train,
                inputs if rank == first else None,
                targets if rank == last else None,
                sizes,
                weights,
                signature,
                collect,
            )
            for rank in range(self.schedule.num_ranks)
        )

    def _fetch(self, what: str) -> dict[str, Tensor]:
        answers = self._ask(Fetch(what) for _ in range(self.schedule.num_ranks))
        found = {name: tensor for answer in answers for name, tensor in answer.tensors.items()}
        return {name: found[name] for name in self._names[what] if name in found}

    def _ask(self, commands: Iterable[object]) -> list[Done]:
        self._check_open()
        return self._ranks.ask(list(commands))

    def _check_open(self) -> None:
        if self._ranks.is_closed:
            raise PipelineClosed("this pipeline is closed: open a new Pipeline to go on")

    @property
    def _setting(self) -> Setting:
        return Setting(
            schedule=self.schedule.name,
            ranks=self.schedule.num_ranks,
            microbatches=self.schedule.num_microbatches,
            paced=str(self.pace) if self.pace else "",
            cpus=cores(),
            versions=_VERSIONS,
        )


_VERSIONS = {
    "pipelab": pipelab.__version__,
    "python": platform.python_version(),
    "torch": torch.__version__,
}


def _forward_only(schedule: Schedule) -> Schedule:
    """The schedule's forwards with their messages, for evaluation."""
    rows = tuple(tuple(a for a in row if a.kind is Kind.F) for row in schedule.ranks)
    lowered = lower(Schedule(rows, schedule.name))
    return Schedule(
        tuple(tuple(a for a in row if a.kind is not Kind.STEP) for row in lowered.ranks)
    )

"""The limit of a step: its computation alone, each rank by itself and all at once.

The same forwards, backwards and updates of the same stages on the same cores, in the schedule's
order, by plain PyTorch: no message, no wait, no driver, nothing recorded. What a step takes longer
than this is what a pipeline adds: its bubble, its messages and its engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import backward

from pipelab.action import COMPUTE, Action, Kind
from pipelab.bench.workloads import OPTIMIZER, Workload
from pipelab.engine.protocol.commands import Loss, Optimizer
from pipelab.partition import split
from pipelab.schedules import Schedule


@dataclass(frozen=True)
class Computation:
    """What one rank computes in a step.

    Attributes:
        actions: F, B, I and W, in order.
        inputs: of each stage, one microbatch, which stands for all.
        target: of the last stage, where this rank has it, likewise.
    """

    stages: dict[int, nn.Module]
    actions: Sequence[Action]
    inputs: dict[int, Tensor]
    target: Tensor | None
    loss: Loss
    optimizer: Optimizer


def computations(work: Workload, schedule: Schedule) -> list[Computation]:
    """What each rank computes."""
    m = schedule.num_microbatches
    stages = split(work.model, schedule.num_stages)
    inputs, value = dict[int, Tensor](), work.inputs.tensor_split(m)[0]
    with torch.no_grad():
        for number, stage in enumerate(stages):
            inputs[number], value = value, stage(value)
    last = schedule.num_stages - 1
    return [
        Computation(
            {number: stages[number] for number in schedule.stages_of(rank)},
            [action for action in row if action.kind in COMPUTE],
            {number: inputs[number] for number in schedule.stages_of(rank)},
            work.targets.tensor_split(m)[0] if schedule.rank_of_stage[last] == rank else None,
            work.loss,
            OPTIMIZER,
        )
        for rank, row in enumerate(schedule.ranks)
    ]


class Alone:
    """One rank that computes by itself."""

    def __init__(self, computation: Computation):
        self.computation = computation
        self.last = max(computation.stages) if computation.target is not None else -1
        stages = computation.stages.values()
        self.parameters = [p for stage in stages for p in stage.parameters()]
        self.optimizer = computation.optimizer(self.parameters)
        self.gradients = {n: self._gradient(n) for n in computation.stages}
        self.kept: dict[tuple[int, int | None], Tensor] = {}
        self.run = {
            Kind.F: self.forward,
            Kind.B: self.backward,
            Kind.I: self.backward,  # all of it: both halves cost the same here as one by one
            Kind.W: self.nothing,
        }

    def step(self) -> float | None:
        """One step; the last rank turns its loss into a number, as training loops do."""
        for parameter in self.parameters:
            parameter.grad = None
        self.total = torch.zeros(())
        for action in self.computation.actions:
            self.run[action.kind](action)
        self.optimizer.step()
        return self.total.item() if self.last >= 0 else None

    def forward(self, action: Action) -> None:
        """From the stage's input to its output, on the last stage to the loss."""
        stage, _, microbatch = action
        output = self._output(stage)
        if stage == self.last:
            self.total += output.detach()
        self.kept[stage, microbatch] = output

    def backward(self, action: Action) -> None:
        """From the output to the weights and the input."""
        stage, _, microbatch = action
        backward(self.kept.pop((stage, microbatch)), self.gradients[stage])

    def nothing(self, action: Action) -> None:
        """W: its I has done it."""

    def _output(self, stage: int) -> Tensor:
        inputs = self.computation.inputs[stage].detach()
        if inputs.is_floating_point() and stage > 0:
            inputs.requires_grad_()
        output: Tensor = self.computation.stages[stage](inputs)
        if stage == self.last:
            return self.computation.loss(output, self.computation.target)
        return output

    def _gradient(self, stage: int) -> Tensor | None:
        with torch.no_grad():
            output = self._output(stage)
        return None if stage == self.last else torch.ones_like(output)

"""Optimizers and their schedules of learning rates, as a learner's makers give them.

optimizer=partial(SGD, lr=0.1)      called with a stage's parameters
optimizer=make                      def make(parameters, names): ... gets their names as well
lr_schedule=partial(StepLR, ...)    called with the optimizer that the first one made
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipelab.engine.protocol import commands

Named = Sequence[tuple[str, nn.Parameter]]
"""A stage's parameters, under the model's own names."""

_LOSS = ("metrics", "metric", "loss")  # what a step() that wants the loss calls it


def is_trained(named: Named) -> bool:
    """Whether a stage has anything for an optimizer: not where all is frozen."""
    return any(parameter.requires_grad for _, parameter in named)


def make_optimizer(maker: commands.Optimizer, named: Named) -> Optimizer:
    """The optimizer of one stage."""
    parameters = [parameter for _, parameter in named]
    has_them = isinstance(maker, partial) and "names" in maker.keywords
    if "names" in parameters_of(maker) and not has_them:
        return maker(parameters, names=[name for name, _ in named])  # type: ignore[call-arg]
    return maker(parameters)


def takes_loss(schedule: LRScheduler) -> bool:
    """Whether its ``step`` gets the loss, as that of ReduceLROnPlateau does."""
    return isinstance(schedule, ReduceLROnPlateau) or any(x in _LOSS for x in wanted(schedule.step))


def wanted(function: Callable[..., object]) -> list[str]:
    """The names of the arguments without which a function cannot be called."""
    return [name for name, x in parameters_of(function).items() if x.default is x.empty]


def parameters_of(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function by name, without ``*args`` and ``**kwargs``."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # what is written in C may have none
        return {}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: x for name, x in found.items() if x.kind not in variable}

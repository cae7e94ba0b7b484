"""Make each stage's optimizer once before a process starts: refuse what cannot train.

The ranks will make them again, from the same makers. Nothing is trained here: an optimizer is made
of the stage's own parameters, and thrown away, with the hooks that it has set. Then step_trial.py
tries whether it can take a step.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipelab.engine.driver.step_trial import (
    check_step,
    error_in_words,
    kind_of,
    sparse_gradients,
    stage_in_words,
)
from pipelab.engine.protocol.commands import Options
from pipelab.engine.rank.optimizer_state import settings_by_name
from pipelab.engine.rank.optimizers import Named, is_trained, make_optimizer, takes_loss, wanted
from pipelab.errors import OptimizerError
from pipelab.partition.sharing import Tie

_KEPT_OUT = "__dynamo_disable"  # where torch keeps its function without the compiler
_HOW = "give what makes one of a stage's parameters: partial(torch.optim.SGD, lr=0.1)"
_HOW_RATES = "give what makes one of an optimizer: partial(StepLR, step_size=10)"


def tried(options: Options, stages: Sequence[nn.Module], ties: Sequence[Tie] = ()) -> Options:
    """The options, and whether their schedule of learning rates takes the loss.

    ``ties``: weights of several stages, which the first of these updates.

    Raises:
        OptimizerError: a maker that fails on a stage, gives something else, forgets the stage's
            parameters, or an optimizer that needs a closure or other gradients.
    """
    _check_makers(options)
    if options.optimizer is None:
        return options
    found: list[Optimizer] = []
    names, rates, settings = _names(stages), list[LRScheduler](), dict[str, dict[str, Any]]()
    with _without_compiler():
        for number, stage in enumerate(stages):
            named = _updated(number, stage, ties)
            if is_trained(named):
                where = stage_in_words(number, named)
                with _no_hooks_left(named):
                    found.append(optimizer := _optimizer(options, where, named, names))
                check_step(options, where, sparse_gradients(number, stages, ties), optimizer, named)
                if options.lr_schedule is not None:
                    rates.append(_rates(options, number, optimizer))
                settings |= settings_by_name(optimizer, named)
    _check_trained(found)
    return replace(options, lr_takes_loss=any(map(takes_loss, rates)), settings=settings)


def _check_makers(options: Options) -> None:
    """Raise OptimizerError for what cannot be called, and for rates of no optimizer."""
    optimizer, rates = options.optimizer, options.lr_schedule
    if isinstance(optimizer, Optimizer):
        raise OptimizerError(
            f"optimizer= is {kind_of(optimizer)} that was made of this process's parameters, and "
            f"ranks train\ncopies of these: {_HOW}"
        )
    if isinstance(rates, LRScheduler):
        raise OptimizerError(
            f"lr_schedule= is {kind_of(rates)} of one optimizer, and each stage has another:\n"
            f"{_HOW_RATES}"
        )
    for name, maker, how in (("optimizer", optimizer, _HOW), ("lr_schedule", rates, _HOW_RATES)):
        if maker is not None and not callable(maker):
            raise OptimizerError(f"{name}= is {kind_of(maker)}, {maker!r}:\n{how}")
    if rates is not None and optimizer is None:
        raise OptimizerError(
            "lr_schedule= sets the learning rates of an optimizer, and there is none:\n"
            "give optimizer= too, or leave lr_schedule= out"
        )


def _optimizer(options: Options, where: str, named: Named, names: dict[int, str]) -> Optimizer:
    """One stage's optimizer, made of its parameters."""
    assert options.optimizer is not None
    try:
        found = make_optimizer(options.optimizer, named)
    except Exception as error:
        empty = "empty parameter list" in str(error)
        hint = "a group may be empty: [{'params': [...]}]" if empty else _HOW
        raise OptimizerError(
            f"optimizer= failed for {where}:\n{error_in_words(error)}\n{hint}"
        ) from error
    missing = [name for name in ("param_groups", "state", "step") if not hasattr(found, name)]
    if missing or isinstance(found, type):
        raise OptimizerError(
            f"optimizer= made {kind_of(found)} for {where},\nand no optimizer: {_HOW}"
        )
    own = {id(parameter) for _, parameter in named}
    given = [parameter for group in found.param_groups for parameter in group["params"]]
    if foreign := [p for p in given if id(p) not in own]:
        what = names.get(id(foreign[0]), f"one of shape {tuple(foreign[0].shape)}")
        raise OptimizerError(
            f"optimizer= made {kind_of(found)} for {where},\nand {len(foreign)} of its "
            f"parameters are not this stage's ({what}):\nmake it of the parameters that it is "
            f"called with, which are one stage's"
        )
    return found


def _check_trained(optimizers: Sequence[Optimizer]) -> None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if optimizers and not any(group["params"] for group in groups):
        raise OptimizerError(
            f"optimizer= made an optimizer without a parameter for each of {len(optimizers)} "
            f"stages, so nothing is\ntrained: make it of the parameters that it is called with"
        )


def _rates(options: Options, number: int, optimizer: Optimizer) -> LRScheduler:
    """One stage's schedule of learning rates."""
    assert options.lr_schedule is not None
    where = f"for stage {number}'s {type(optimizer).__name__}"
    try:
        found = options.lr_schedule(optimizer)
    except Exception as error:
        raise OptimizerError(
            f"lr_schedule= failed {where}:\n{error_in_words(error)}\n{_HOW_RATES}"
        ) from error
    needs = ("step", "state_dict", "load_state_dict")
    if isinstance(found, type) or not all(hasattr(found, name) for name in needs):
        raise OptimizerError(
            f"lr_schedule= made {kind_of(found)} {where},\nand no schedule of learning rates: "
            f"{_HOW_RATES}"
        )
    if getattr(found, "optimizer", optimizer) is not optimizer:
        raise OptimizerError(
            f"lr_schedule= made {kind_of(found)} of another optimizer, {where}:\nmake it of the "
            f"optimizer that it is called with, which is one stage's"
        )
    more = wanted(found.step)
    if len(more) > 1 or (more and not takes_loss(found)):
        raise OptimizerError(
            f"step() of the {type(found).__name__} {where} wants {', '.join(more)}:\nit is called "
            f"with nothing, or with the step's mean loss, if it calls that metrics"
        )
    return found


def _names(stages: Sequence[nn.Module]) -> dict[int, str]:
    return {
        id(parameter): f"{name} of stage {number}"
        for number, stage in enumerate(stages)
        for name, parameter in stage.named_parameters()
    }


def _updated(number: int, stage: nn.Module, ties: Sequence[Tie]) -> Named:
    """What a stage's optimizer updates: of a tied weight, the first of its stages does."""
    others = {tie.names[number] for tie in ties if number in tie.names and tie.owner != number}
    return [(name, p) for name, p in stage.named_parameters() if name not in others]


@contextmanager
def _no_hooks_left(named: Named) -> Iterator[None]:
    """Remove what a maker attaches to parameters: the ranks' makers will do it there."""
    before = [vars(parameter).copy() for _, parameter in named]
    try:
        yield
    finally:
        for (_, parameter), attributes in zip(named, before, strict=True):
            parameter._backward_hooks = None
            parameter._post_accumulate_grad_hooks = None  # type: ignore[assignment]
            vars(parameter).clear()
            vars(parameter).update(attributes)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Let torch make an optimizer without torch._dynamo, which it loads for that, for a second.

    It wants to keep the compiler out of some functions, and where no compiler is loaded it is out.
    """
    wrapped = getattr(Optimizer.add_param_group, "__wrapped__", None)
    is_loaded = sys.modules.get("torch._dynamo") is not None
    if wrapped is None or is_loaded or hasattr(wrapped, _KEPT_OUT):
        yield
        return
    setattr(wrapped, _KEPT_OUT, wrapped)
    try:
        yield
    finally:
        delattr(wrapped, _KEPT_OUT)

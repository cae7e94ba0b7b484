"""Make each stage's optimizer once before a process starts: refuse what cannot train.

The ranks will make them again, from the same makers. Nothing is trained here: an optimizer is made
of the stage's own parameters, and thrown away. Whether it can take a step is tried on parameters of
one number each, and only where that may fail: with sparse gradients, or with a ``step`` that is not
torch's.
"""

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, SparseAdam
from torch.optim.lr_scheduler import LRScheduler

from pipelab.engine.protocol.commands import Options
from pipelab.engine.rank.optimizer_state import settings_by_name
from pipelab.engine.rank.optimizers import Named, is_trained, make_optimizer, takes_loss, wanted
from pipelab.errors import OptimizerError

_KEPT_OUT = "__dynamo_disable"  # where torch keeps its function without the compiler
_HOW = "give what makes one of a stage's parameters: partial(torch.optim.SGD, lr=0.1)"
_HOW_RATES = "give what makes one of an optimizer: partial(StepLR, step_size=10)"


def tried(options: Options, stages: Sequence[nn.Module]) -> Options:
    """The options, and whether their schedule of learning rates takes the loss.

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
            if is_trained(named := list(stage.named_parameters())):
                found.append(optimizer := _optimizer(options, number, named, names))
                _check_step(options, number, stage, optimizer)
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
            f"optimizer= is {_a(optimizer)} that was made of this process's parameters, and "
            f"ranks train\ncopies of these: {_HOW}"
        )
    if isinstance(rates, LRScheduler):
        raise OptimizerError(
            f"lr_schedule= is {_a(rates)} of one optimizer, and each stage has another:\n"
            f"{_HOW_RATES}"
        )
    for name, maker, how in (("optimizer", optimizer, _HOW), ("lr_schedule", rates, _HOW_RATES)):
        if maker is not None and not callable(maker):
            raise OptimizerError(f"{name}= is {_a(maker)}, {maker!r}:\n{how}")
    if rates is not None and optimizer is None:
        raise OptimizerError(
            "lr_schedule= sets the learning rates of an optimizer, and there is none:\n"
            "give optimizer= too, or leave lr_schedule= out"
        )


def _optimizer(options: Options, number: int, named: Named, names: dict[int, str]) -> Optimizer:
    """One stage's optimizer, made of its parameters."""
    assert options.optimizer is not None
    try:
        found = make_optimizer(options.optimizer, named)
    except Exception as error:
        empty = "empty parameter list" in str(error)
        hint = "a group may be empty: [{'params': [...]}]" if empty else _HOW
        raise OptimizerError(
            f"optimizer= failed for {_stage(number, named)}:\n{_words(error)}\n{hint}"
        ) from error
    missing = [name for name in ("param_groups", "state", "step") if not hasattr(found, name)]
    if missing or isinstance(found, type):
        raise OptimizerError(
            f"optimizer= made {_a(found)} for {_stage(number, named)},\nand no optimizer: {_HOW}"
        )
    own = {id(parameter) for _, parameter in named}
    given = [parameter for group in found.param_groups for parameter in group["params"]]
    if foreign := [p for p in given if id(p) not in own]:
        what = names.get(id(foreign[0]), f"one of shape {tuple(foreign[0].shape)}")
        raise OptimizerError(
            f"optimizer= made {_a(found)} for {_stage(number, named)},\nand {len(foreign)} of its "
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
            f"lr_schedule= failed {where}:\n{_words(error)}\n{_HOW_RATES}"
        ) from error
    needs = ("step", "state_dict", "load_state_dict")
    if isinstance(found, type) or not all(hasattr(found, name) for name in needs):
        raise OptimizerError(
            f"lr_schedule= made {_a(found)} {where},\nand no schedule of learning rates: "
            f"{_HOW_RATES}"
        )
    if getattr(found, "optimizer", optimizer) is not optimizer:
        raise OptimizerError(
            f"lr_schedule= made {_a(found)} of another optimizer, {where}:\nmake it of the "
            f"optimizer that it is called with, which is one stage's"
        )
    more = wanted(found.step)
    if len(more) > 1 or (more and not takes_loss(found)):
        raise OptimizerError(
            f"step() of the {type(found).__name__} {where} wants {', '.join(more)}:\nit is called "
            f"with nothing, or with the step's mean loss, if it calls that metrics"
        )
    return found


def _check_step(options: Options, number: int, stage: nn.Module, optimizer: Optimizer) -> None:
    """Raise OptimizerError for an optimizer that needs a closure, or other gradients."""
    kind, named, step = type(optimizer).__name__, list(stage.named_parameters()), optimizer.step
    where = f"{kind}, for {_stage(number, named)},"
    if more := wanted(step):
        raise (
            _needs_closure(where)
            if "closure" in more
            else OptimizerError(
                f"step() of {where}\nwants {', '.join(more)}: here it is called with nothing"
            )
        )
    is_sparse = _sparse(stage)
    only_sparse = isinstance(optimizer, SparseAdam)
    is_torchs = getattr(step, "__module__", "").startswith("torch.optim")
    if is_torchs and not only_sparse and not any(is_sparse.values()):
        return
    assert options.optimizer is not None
    small = [
        (name, _one_number(p, is_sparse.get(name, None if only_sparse else False)))
        for name, p in named
    ]
    try:
        tiny = make_optimizer(options.optimizer, small)
    except Exception:  # it wants other shapes: nothing is learnt from this try
        return
    if error := _error_of(tiny.step):
        if _error_of(partial(tiny.step, partial(_closure, small))) is None:
            raise _needs_closure(where) from error
        if "sparse" in str(error).lower():
            raise OptimizerError(f"{where}\ncannot step: {_words(error)}\n{_gradients(is_sparse)}")


def _needs_closure(where: str) -> OptimizerError:
    return OptimizerError(
        f"{where}\nwants a closure that runs the model again within its step; here each microbatch "
        f"runs once:\nuse an optimizer whose step() needs none"
    )


def _error_of(step: Callable[[], object]) -> Exception | None:
    try:
        step()
    except Exception as error:
        return error
    return None


def _closure(named: Named) -> Tensor:
    """Stands for one that runs the model again."""
    return torch.stack([parameter.detach().abs().sum() for _, parameter in named]).sum()


def _sparse(stage: nn.Module) -> dict[str, bool]:
    """Whether a parameter's gradient will be sparse, where its layer is torch's own."""
    return {
        name: bool(getattr(module, "sparse", False))
        for path, module in stage.named_modules()
        if type(module).__module__.startswith("torch.nn")
        for name, _ in module.named_parameters(path, recurse=False)
    }


def _one_number(parameter: nn.Parameter, is_sparse: bool | None) -> nn.Parameter:
    """A parameter of one number and as many dimensions, with a gradient; without, if unknown."""
    size = torch.Size([1] * parameter.dim())
    small = nn.Parameter(
        torch.zeros(size, dtype=parameter.dtype), requires_grad=parameter.requires_grad
    )
    if parameter.requires_grad and is_sparse is not None:
        ones = torch.ones_like(small)
        small.grad = ones.to_sparse(1) if is_sparse else ones
    return small


def _gradients(is_sparse: dict[str, bool]) -> str:
    """Which parameters have which gradients, and what to do."""
    sparse, dense = (
        _some([n for n, x in is_sparse.items() if x == kind]) for kind in (True, False)
    )
    return (
        f"Sparse gradients: {sparse}; dense ones: {dense}. Let optimizer=\nmake another kind for "
        f"this stage, or leave sparse=True out"
    )


def _names(stages: Sequence[nn.Module]) -> dict[int, str]:
    return {
        id(parameter): f"{name} of stage {number}"
        for number, stage in enumerate(stages)
        for name, parameter in stage.named_parameters()
    }


def _stage(number: int, named: Named) -> str:
    return f"stage {number} ({_some([name for name, _ in named])})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more if names else "none"


def _a(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" or name[:2].isupper() else "a"
    return "nothing (None)" if value is None else f"{article} {name}"


def _words(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" ...")


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

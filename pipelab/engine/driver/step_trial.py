"""Whether an optimizer can take a step, tried where that may fail.

That is with sparse gradients, with some settings, or with a ``step`` that is not torch's. It is
tried on parameters of one number each, so that it costs nothing.
"""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, SparseAdam

from pipelab.engine.protocol.commands import Options
from pipelab.engine.rank.optimizers import Named, make_optimizer, wanted
from pipelab.errors import OptimizerError
from pipelab.partition.sharing import Tie


def check_step(
    options: Options, where: str, is_sparse: dict[str, bool], optimizer: Optimizer, named: Named
) -> None:
    """Raise OptimizerError for an optimizer that needs a closure, or cannot step on this stage.

    ``is_sparse``: whether a parameter's gradient will be, where that is known.
    """
    where = f"{type(optimizer).__name__}, for {where},"
    if more := wanted(optimizer.step):
        raise _needs_closure(where) if "closure" in more else _needs_more(where, more)
    if not _may_fail(options, optimizer, any(is_sparse.values())):
        return
    # of a learner's own layer nothing is known: SparseAdam gets no gradient there, others a dense
    other = None if isinstance(optimizer, SparseAdam) else False
    small = [(name, _one_number(p, is_sparse.get(name, other))) for name, p in named]
    assert options.optimizer is not None
    try:
        tiny = make_optimizer(options.optimizer, small)
    except Exception:  # it wants other shapes: nothing is learnt from this try
        return
    if error := _error_of(tiny.step):
        if _error_of(partial(tiny.step, partial(_closure, small))) is None:
            raise _needs_closure(where) from error
        if _is_torchs(optimizer) or "sparse" in str(error).lower():
            hint = _gradients(is_sparse) if any(is_sparse.values()) else ""
            raise OptimizerError(f"{where}\ncannot step:\n{error_in_words(error)}{hint}") from error


def _may_fail(options: Options, optimizer: Optimizer, has_sparse: bool) -> bool:
    asked = {key for group in optimizer.param_groups for key in group if group[key] is True}
    if "capturable" in asked and options.place.device != "cpu":
        return False  # it works there, and not here
    odd = asked & {"capturable", "differentiable"}
    return bool(odd) or has_sparse or isinstance(optimizer, SparseAdam) or not _is_torchs(optimizer)


def _is_torchs(optimizer: Optimizer) -> bool:
    return getattr(optimizer.step, "__module__", "").startswith("torch.optim")


def _needs_closure(where: str) -> OptimizerError:
    return OptimizerError(
        f"{where}\nwants a closure that runs the model again within its step; here each microbatch "
        f"runs once:\nuse an optimizer whose step() needs none"
    )


def _needs_more(where: str, more: Sequence[str]) -> OptimizerError:
    return OptimizerError(
        f"{where}\nhas a step() that wants {', '.join(more)}: here it is called with nothing"
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


def sparse_gradients(
    number: int, stages: Sequence[nn.Module], ties: Sequence[Tie]
) -> dict[str, bool]:
    """Whether the parameters of a stage will have sparse gradients, where that is known.

    The gradient of a tied weight is a sum over stages: sparse if all of its parts are.
    """
    found = _sparse(stages[number])
    for tie in ties:
        if number in tie.names:
            parts = [_sparse(stages[other]).get(name, False) for other, name in tie.names.items()]
            found[tie.names[number]] = all(parts)
    return found


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
    sparse = some([name for name, x in is_sparse.items() if x])
    dense = some([name for name, x in is_sparse.items() if not x])
    return (
        f"\nSparse gradients: {sparse}; dense ones: {dense}. Let optimizer=\nmake another kind for "
        f"this stage, or leave sparse=True out"
    )


def stage_in_words(number: int, named: Named) -> str:
    """``stage 1 (3.weight, 3.bias and 2 more)``."""
    return f"stage {number} ({some([name for name, _ in named])})"


def some(names: Sequence[str]) -> str:
    """The first two of some names."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more if names else "none"


def kind_of(value: object) -> str:
    """``a str``, ``an SGD``, ``the class SGD``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" or name[:2].isupper() else "a"
    return "nothing (None)" if value is None else f"{article} {name}"


def error_in_words(error: Exception) -> str:
    """The beginning of it, in a few short lines."""
    text = textwrap.shorten(f"{type(error).__name__}: {error}", 170, placeholder=" ...")
    return textwrap.fill(text, 88)

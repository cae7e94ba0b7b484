"""Layers that mix rows: what they give for one row depends on the other rows of the batch.

A pipeline cuts a batch by rows, so such a layer computes something else on microbatches than on the
whole batch. Each layer gets the whole batch, and the same rows in parts; it mixes rows if the two
outputs differ by more than rounding.

BatchNorm mixes rows as long as it trains, and dropout draws other numbers: both are turned off for
this, and named beside. So are other layers that draw.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipelab.engine.driver.microbatches import share_out
from pipelab.engine.verify.reference import Batch, Reference
from pipelab.partition.chain import layer_calls
from pipelab.partition.tree import map_tensors, tensors_of

_LISTED = 3  # layers of a kind in a report


@dataclass(frozen=True)
class RowMixing:
    """Why microbatches and the whole batch may give different gradients.

    Attributes:
        layers: those that mix rows, as ``"3 (Attention)"``.
        batchnorms: those that normalize each microbatch by itself, as they do by definition.
        random: those that draw random numbers, other ones for each microbatch.
        problem: why the whole batch could not be compared, or "".
    """

    layers: tuple[str, ...] = ()
    batchnorms: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    problem: str = ""

    @property
    def lines(self) -> list[str]:
        """For each kind, which layers they are."""
        found = []
        if self.layers:
            found += [
                f"{_listed(self.layers)}: other outputs for the whole batch than for its parts.",
                "It mixes rows, changes from call to call, or gets an input cut the wrong way.",
            ]
        if self.batchnorms:
            found.append(f"BatchNorm normalizes each microbatch: {_listed(self.batchnorms)}")
        if self.random:
            found.append(f"whole batch not compared, random numbers: {_listed(self.random)}")
        return found + [f"whole batch not compared, {self.problem}"] * bool(self.problem)


def _listed(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - _LISTED} more" if len(layers) > _LISTED else ""
    return f"layer{'s' * (len(layers) > 1)} {', '.join(layers[:_LISTED])}{more}"


def row_mixing(
    reference: Reference, batch: Batch, num_microbatches: int, replicas: int
) -> RowMixing:
    """Run each layer on the whole batch and on the same rows in parts, and compare."""
    model = reference.copied()
    device = reference.device
    batchnorms = _turned_off(model, _BatchNorm, device)
    walk = _Walk(reference, [], _turned_off(model, _DropoutNd, device))
    shares = share_out(*batch, num_microbatches, replicas, reference.rule)
    parts = [part for share in shares for part in share.inputs.cut(share.sizes)]
    value = batch[0].to(device).unflatten(), [part.to(device).unflatten() for part in parts]
    with (
        torch.no_grad(), reference.precision(), reference.own_random_numbers(),
        suppress(Exception),  # a layer that fails alone has no rows to compare
    ):  # fmt: skip
        for name, layer, run in layer_calls(model):
            value = walk.step(f"{name} ({type(layer).__name__})", layer, run, *value)
    return RowMixing(tuple(walk.mixing), tuple(batchnorms), tuple(walk.random))


def _turned_off(model: nn.Module, kind: type[nn.Module], device: str) -> list[str]:
    """Put all modules of a kind that train into eval mode; returns their names."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, kind) and module.training and getattr(module, "p", 1.0) > 0.0
    ]
    for _, module in found:
        module.eval()
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            # without running statistics it would take the batch's even now
            module.running_mean = torch.zeros(module.num_features)
            module.running_var = torch.ones(module.num_features)
        module.to(device)
    return [f"{name} ({type(module).__name__})" for name, module in found]


@dataclass
class _Walk:
    """From layer to layer, with the output for the whole batch and the same rows in parts."""

    reference: Reference
    mixing: list[str]
    random: list[str]

    def step(
        self, name: str, layer: nn.Module, run: Callable[[Any], Any], whole: Any, parts: list[Any]
    ) -> tuple[Any, list[Any]]:
        """One layer. Returns its output for the whole batch, and this in the same parts."""
        output, draws = _run(run, whole)
        if draws:
            self.random.append(name)
            layer.eval()
            output, draws = _run(run, whole)
        columns = zip(*(tensors_of(run(_copy(part))) for part in parts), strict=True)
        pieces = []
        for tensor, column in zip(tensors_of(output), columns, strict=True):
            pieces.append(_pieces(tensor, column))
            if not draws and any(map(self._differ, pieces[-1], column)) and name not in self.mixing:
                self.mixing.append(name)
        return output, [_rebuilt(output, row) for row in zip(*pieces, strict=True)]

    def _differ(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors differ by more than rounding; NaN and infinities are themselves."""
        if a.shape != b.shape:
            return True
        other = (a != b) & ~(a.isnan() & b.isnan())
        if not bool(other.any()):
            return False
        if not (a.is_floating_point() or a.is_complex()):
            return True
        size = a[a.isfinite()].abs().max().item()
        return not (a - b)[other].abs().max().item() <= self.reference.rounding(a.dtype) * size


def _run(run: Callable[[Any], Any], value: Any) -> tuple[Any, bool]:
    """What a layer returns, and whether it drew random numbers."""
    before = _random_states()
    output = run(_copy(value))
    return output, not all(map(torch.equal, before, _random_states()))


def _random_states() -> list[Tensor]:
    has_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if has_gpu else [])]


def _pieces(whole: Tensor, parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """The rows of the whole that stand in each part, in whichever dimension these add up.

    All of it for each part, if none does: a mask, or a number.
    """
    for dim in range(whole.dim()):
        sizes = [part.shape[dim] for part in parts if part.dim() == whole.dim()]
        if len(sizes) == len(parts) and sum(sizes) == whole.shape[dim]:
            return torch.split(whole, sizes, dim)
    return [whole] * len(parts)


def _rebuilt(value: Any, tensors: Sequence[Tensor]) -> Any:
    """A value of the same build, with other tensors."""
    rest = iter(tensors)
    return map_tensors(lambda _: next(rest), value)


def _copy(value: Any) -> Any:
    """A copy that a layer may change in place."""
    return map_tensors(Tensor.clone, value)

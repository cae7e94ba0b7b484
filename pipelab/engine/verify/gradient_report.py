"""What the comparison of gradients found, as a table of two columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.engine.verify.mixing import RowMixing
from pipelab.engine.verify.reference import Found, Reference
from pipelab.partition import whole_model

# For the same microbatches; relative to the largest entry of the gradient.
_CLOSE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
_ROUNDED_TIMES = 4  # as far apart as two roundings of one gradient may be, over one of them
_SMALL = 1e-3  # of the model's largest entry: what a layer's own gradient rounds with


class ParameterCheck(NamedTuple):
    """One parameter, compared with one process.

    Attributes:
        exact: bit for bit what the same microbatches give.
        close: or within a tolerance of its dtype: 1e-12 of its largest entry for float64, 1e-6 for
            float32, 2e-3 and 2e-2 for float16 and bfloat16.
        max_difference: to these.
        whole_close: within rounding, what the whole batch gives; None where it was not compared.
        whole_difference: the largest difference to this.
    """

    name: str
    exact: bool
    close: bool
    max_difference: float
    whole_close: bool | None = None
    whole_difference: float | None = None

    @property
    def result(self) -> str:
        """``exact``, ``close`` or ``WRONG``."""
        return "exact" if self.exact else "close" if self.close else "WRONG"

    def __str__(self) -> str:
        text = f"{self.name}  {self.result}  max difference {self.max_difference:.1e}"
        if self.whole_close is None:
            return text
        if self.whole_close:
            return f"{text}  whole batch close"
        return f"{text}  whole batch OTHER, {self.whole_difference:.1e}"


@dataclass(frozen=True)
class GradientReport:
    """Each gradient of a pipeline beside those of one process.

    Attributes:
        parameters: one row each.
        loss: the pipeline's, ``reference_loss`` that of a loop over the same microbatches, and
            ``whole_loss`` that of the whole batch, or None.
        mixing: the layers whose output for a row depends on other rows, or on random numbers.
        tolerance: of the losses, relative.
    """

    parameters: tuple[ParameterCheck, ...]
    loss: float
    reference_loss: float
    whole_loss: float | None = None
    mixing: RowMixing = field(default_factory=RowMixing)
    tolerance: float = 1e-6

    @property
    def ok(self) -> bool:
        """Whether the pipeline computed the gradient of one process.

        That is, of the same microbatches; and, within rounding, of the whole batch. BatchNorm and
        layers that draw random numbers may differ from the whole batch: that is what they do.
        """
        near = abs(self.loss - self.reference_loss) <= self.tolerance * max(1.0, abs(self.loss))
        same = bool(self.parameters) and near and all(row.close for row in self.parameters)
        if self.whole_loss is None:
            return same and not self.mixing.layers
        is_known = bool(self.mixing.batchnorms) and not self.mixing.layers
        return same and (self.is_whole or is_known)

    @property
    def is_whole(self) -> bool:
        """Whether all gradients are close to those of the whole batch; False if not compared."""
        return all(row.whole_close is True for row in self.parameters)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.parameters], default=4)
        rows = [str(row._replace(name=row.name.ljust(width))) for row in self.parameters]
        losses = f"loss {self.loss:.6f}, one process {self.reference_loss:.6f}"
        if self.whole_loss is not None:
            losses += f", whole batch {self.whole_loss:.6f}"
        why = [] if self.is_whole else self.mixing.lines
        return "\n".join([*rows, losses, *why])


def compared(
    gradients: Mapping[str, Tensor],
    loss: float,
    loop: Found,
    whole: Found | None,
    mixing: RowMixing,
    reference: Reference,
    nudged: Found | None = None,
) -> GradientReport:
    """The report: ``gradients`` of a pipeline beside those of both ways of one process.

    ``nudged`` are those of the whole batch with parameters changed in their last digit: a gradient
    that is as far from itself then is 0 but for rounding, which a layer may have made larger.
    """
    names = [name for name, _ in whole_model(reference.model).named_parameters()]
    rows = [_compare(name, gradients.get(name), loop.gradients.get(name)) for name in names]
    if whole is not None:
        scales = _scales(whole.gradients)
        for place, row in enumerate(rows):
            ours, theirs = gradients.get(row.name), whole.gradients.get(row.name)
            difference = _difference(ours, theirs)
            rounding = reference.rounding(torch.float32 if ours is None else ours.dtype)
            allowed = rounding * scales.get(row.name, 0.0)
            if nudged is not None and theirs is not None:
                moved = _difference(nudged.gradients.get(row.name), theirs)
                allowed = max(allowed, _ROUNDED_TIMES * moved)
            is_close = difference <= allowed
            rows[place] = row._replace(whole_close=is_close, whole_difference=difference)
    tolerance = max((_close(g.dtype) for g in gradients.values()), default=_close(torch.float32))
    whole_loss = None if whole is None else whole.loss
    return GradientReport(tuple(rows), loss, loop.loss, whole_loss, mixing, tolerance)


def _compare(name: str, ours: Tensor | None, reference: Tensor | None) -> ParameterCheck:
    if ours is None or reference is None:  # unused or frozen: right only if in both
        same = ours is reference
        return ParameterCheck(name, same, same, 0.0 if same else float("inf"))
    difference = _difference(ours, reference)
    tolerance = _close(ours.dtype) * _largest(reference)
    exact = torch.equal(ours, reference)
    return ParameterCheck(name, exact, exact or difference <= tolerance, difference)


def _scales(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """The size by which each gradient is judged: the largest entry of the gradients of its layer.

    A bias before a normalization has a gradient of 0: what is left of it is rounding of others.
    """
    sizes = {name: _largest(gradient) for name, gradient in gradients.items()}
    least = _SMALL * max(sizes.values(), default=0.0)
    layers: dict[str, float] = {}
    for name, size in sizes.items():
        layer = name.rpartition(".")[0]
        layers[layer] = max(layers.get(layer, least), size)
    return {name: layers[name.rpartition(".")[0]] for name in sizes}


def _difference(ours: Tensor | None, theirs: Tensor | None) -> float:
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else float("inf")
    return (ours - theirs).abs().max().item() if ours.numel() else 0.0


def _largest(gradient: Tensor) -> float:
    return gradient.abs().max().item() if gradient.numel() else 0.0


def _close(dtype: torch.dtype) -> float:
    """The tolerance for a dtype; a complex number has that of its parts."""
    return _CLOSE.get(dtype.to_real() if dtype.is_complex else dtype, _CLOSE[torch.float32])

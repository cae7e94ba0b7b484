"""Try a loss: is it the mean over rows that THE GRADIENT RULE takes it for?

Microbatches are parts of a batch, so the rule (protocol/gradient_rule.py) is right only if

    loss of some rows  =  sum over parts of   what the part counts / what all rows count  x its loss

for any parts. Cross entropy with class weights, a root of a mean square, a contrastive loss over
the rows of a batch are none, unless ``count=`` says what they average. Tried on a few rows: cut
into single rows, unevenly, and in halves. A cut on which the loss raises is left out: that is
raised again where it matters.

A copy of the loss is tried, and the random numbers of PyTorch are put back: the training is the
same as without a trial. Only what a loss keeps in a module that ranks import is not copied.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from pipelab.engine.protocol.commands import Loss, Reduction, Trial
from pipelab.errors import LossError
from pipelab.partition.tree import Flat, flatten, join

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}  # of the terms' size; for complex, too
_TOLERANCE_OF_TF32 = 4e-3  # convolutions of a GPU round float32 to it: a few of its 2**-10
_TOLERANCE_OF_HALF = 0.03


class Rows:
    """The first rows that the last stage sees, from as many microbatches as it takes."""

    def __init__(self, trial: Trial, loss: Loss):
        self.trial = trial
        self.takes = trial.takes
        self.parts: dict[int, tuple[Flat, Flat]] = {}
        self.loss: Loss | None = None
        with suppress(Exception):  # after an evaluation it may hold what cannot be copied
            self.loss = cloudpickle.loads(cloudpickle.dumps(loss))

    def add(self, microbatch: int, output: Any, target: Flat) -> None:
        """Take a microbatch's rows; with the last that is missing, try the loss.

        Raises:
            LossError: the loss is no mean (or sum) over rows.
        """
        if microbatch >= len(self.takes) or self.loss is None:
            return
        rows = _first_rows(self.takes[microbatch], output, target)
        if rows is None:
            self.takes = ()  # nothing to compare
            return
        self.parts[microbatch] = rows
        if len(self.parts) == len(self.takes):
            outputs, targets = zip(*(self.parts[i] for i in sorted(self.parts)), strict=True)
            self.takes = ()
            self.parts.clear()
            try_loss(self.loss, join(outputs), join(targets), self.trial)


def _first_rows(take: int, output: Any, target: Flat) -> tuple[Flat, Flat] | None:
    """Some rows of a microbatch; None if its outputs are not tensors with one entry a row."""
    dims = {leaf.dim for leaf in target.form.tensors if leaf.dim is not None}
    dim = dims.pop()
    try:
        flat = flatten(output, dim)
    except TypeError:
        return None
    if dims or any(x.dim() <= dim or x.shape[dim] != target.rows for x in flat.tensors):
        return None
    return flat.first(take), target.first(take)


def try_loss(loss: Loss, output: Flat, target: Flat, trial: Trial) -> None:
    """Compare the loss of some rows with those of their parts; a loss that draws is not judged.

    Raises:
        LossError: the loss is no mean (or sum) over rows.
    """
    gpus = list({x.device for x in output.tensors if x.device.type == "cuda"})
    with torch.no_grad(), _eager(), torch.random.fork_rng(gpus):
        before = _random_states(gpus)
        whole, again = _value(loss, output, target), _value(loss, output, target)
        draws = not all(map(torch.equal, before, _random_states(gpus)))
        if whole is None or whole != again or draws or not math.isfinite(whole):
            return
        rows = len(trial.counts)
        for sizes in ([1] * rows, [1, rows - 1], [rows // 2, rows - rows // 2]):
            parts = _of_parts(loss, output, target, sizes, trial)
            if parts is not None and _differ(whole, parts, output):
                raise LossError(_no_mean(whole, sum(parts), sizes, trial.reduction))


def _of_parts(
    loss: Loss, output: Flat, target: Flat, sizes: Sequence[int], trial: Trial
) -> list[float] | None:
    """The losses of parts, weighted by the rule; None if the loss fails on one."""
    found, first = [], 0
    for size, some, theirs in zip(sizes, output.cut(sizes), target.cut(sizes), strict=True):
        count = sum(trial.counts[first : first + size])
        first += size
        if count == 0.0:
            continue  # all ignored: its own mean would be 0/0
        value = _value(loss, some, theirs)
        if value is None:
            return None
        found.append(value if trial.reduction == "sum" else value * count / sum(trial.counts))
    return found


def _value(loss: Loss, output: Flat, target: Flat) -> float | None:
    try:
        value = loss(output.unflatten(), target.unflatten())
    except Exception:  # raised again where the loss is needed
        return None
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        return None
    return value.item()


def _eager() -> AbstractContextManager[None]:
    """A compiled loss is tried as it is written: it would be compiled for each shape of a part."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()  # nothing is compiled here, and the import takes seconds
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _random_states(gpus: Sequence[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]


def _differ(whole: float, parts: Sequence[float], output: Flat) -> bool:
    """Whether they differ by more than the rounding of their terms, which may cancel each other."""
    size = max(abs(whole), sum(map(abs, parts)), 0.1)
    return not abs(whole - sum(parts)) <= _tolerance(output) * size  # a NaN differs


def _tolerance(output: Flat) -> float:
    """That of the least exact numbers which the loss may compute with."""
    found = 0.0
    for tensor in output.tensors:
        if tensor.is_floating_point() or tensor.is_complex():
            found = max(found, _TOLERANCE.get(tensor.real.dtype, _TOLERANCE_OF_HALF))
        if torch.is_autocast_enabled(tensor.device.type):
            return _TOLERANCE_OF_HALF
        if tensor.device.type == "cuda" and tensor.dtype is torch.float32:
            found = max(found, _TOLERANCE_OF_TF32)
    return found


def _no_mean(whole: float, parts: float, sizes: Sequence[int], reduction: Reduction) -> str:
    cut = "single rows" if len(sizes) == sum(sizes) else f"parts of {sizes[0]} and {sizes[1]} rows"
    verb, noun = ("averages", "mean") if reduction == "mean" else ("adds up", "sum")
    return (
        f"the loss is no {noun} over its rows:\n"
        f"  {sum(sizes)} rows together give {whole:.6g}\n"
        f"  cut into {cut}, they give {parts:.6g}\n"
        f"Microbatches are such parts, so the loss and its gradient would be wrong.\n"
        f"- Class weights, ignored targets: say with count= what the loss {verb}, as in\n"
        f"  count=lambda targets: weights[targets].sum(), or (targets != -100).sum()\n"
        f"- A root or a logarithm of a mean: train on the mean itself\n"
        f"- Rows that are compared with each other need one microbatch: they cannot be cut"
    )

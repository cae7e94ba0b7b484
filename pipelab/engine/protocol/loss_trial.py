"""Try a loss: is it the mean over rows that THE GRADIENT RULE takes it for?

Microbatches are parts of a batch, so the rule (protocol/gradient_rule.py) is right only if

    loss of some rows  =  sum over parts of   what the part counts / what all rows count  x its loss

for any parts. Cross entropy with class weights, a root of a mean square, a contrastive loss over
the rows of a batch are none, unless ``count=`` says what they average. Tried on a few rows: cut
into single rows, unevenly, and in halves. A cut on which the loss raises is left out: that is
raised again where it matters.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipelab.engine.protocol.commands import Loss, Reduction, Trial
from pipelab.errors import LossError
from pipelab.partition.tree import Flat, join

MOST_ROWS = 8  # enough to judge; each is one more call of the loss
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}  # of one; half precision: 0.03


class Rows:
    """The first rows that the last stage sees, from as many microbatches as it takes."""

    def __init__(self, trial: Trial):
        self.trial = trial
        self.parts: list[tuple[Flat, Flat]] = []
        self.missing = len(trial.counts)

    def add(self, microbatch: int, output: Flat, target: Flat, loss: Loss) -> None:
        """Take a microbatch's rows; with the last that is missing, try the loss.

        Raises:
            LossError: the loss is no mean (or sum) over rows.
        """
        rows = len(target.tensors[0])
        if self.missing <= 0 or microbatch != len(self.parts):
            return
        if any(x.dim() == 0 or len(x) != rows for x in output.tensors):
            self.missing = 0  # outputs that are not cut by rows: nothing to compare
            return
        take = min(self.missing, rows)
        first = (output.map(lambda x: x[:take].detach()), target.map(lambda x: x[:take]))
        self.parts.append(first)
        self.missing -= take
        if self.missing == 0:
            outputs, targets = zip(*self.parts, strict=True)
            try_loss(loss, join(outputs), join(targets), self.trial)


def try_loss(loss: Loss, output: Flat, target: Flat, trial: Trial) -> None:
    """Compare the loss of some rows with those of their parts; a loss that draws is not judged.

    Raises:
        LossError: the loss is no mean (or sum) over rows.
    """
    with torch.no_grad(), torch.random.fork_rng(_gpus(output)):
        loss = copy.deepcopy(loss)  # one with a state, such as running statistics
        whole, again = _value(loss, output, target), _value(loss, output, target)
        if whole is None or whole != again or not math.isfinite(whole):
            return
        rows = len(trial.counts)
        for sizes in ([1] * rows, [1, rows - 1], [rows // 2, rows - rows // 2]):
            parts = _of_parts(loss, output, target, sizes, trial)
            if parts is not None and _differ(whole, parts, output):
                raise LossError(_no_mean(whole, parts, sizes, trial.reduction))


def _of_parts(
    loss: Loss, output: Flat, target: Flat, sizes: Sequence[int], trial: Trial
) -> float | None:
    """What the rule makes of the losses of parts; None if the loss fails on one."""
    total, first = 0.0, 0
    for size, some, theirs in zip(sizes, output.cut(sizes), target.cut(sizes), strict=True):
        count = sum(trial.counts[first : first + size])
        first += size
        if count == 0.0:
            continue  # all ignored: its own mean would be 0/0
        value = _value(loss, some, theirs)
        if value is None:
            return None
        total += value if trial.reduction == "sum" else value * count / sum(trial.counts)
    return total


def _value(loss: Loss, output: Flat, target: Flat) -> float | None:
    try:
        value = loss(output.unflatten(), target.unflatten())
    except Exception:  # raised again where the loss is needed
        return None
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else None


def _gpus(output: Flat) -> list[torch.device]:
    return list({x.device for x in output.tensors if x.device.type == "cuda"})


def _differ(whole: float, parts: float, output: Flat) -> bool:
    tolerance = max(_TOLERANCE.get(x.dtype, 0.03) for x in output.tensors)
    return not abs(whole - parts) <= tolerance * max(abs(whole), 0.1)  # a NaN differs


def _no_mean(whole: float, parts: float, sizes: Sequence[int], reduction: Reduction) -> str:
    cut = "single rows" if len(sizes) == sum(sizes) else f"parts of {sizes[0]} and {sizes[1]} rows"
    verb, noun = ("averages", "mean") if reduction == "mean" else ("adds up", "sum")
    return (
        f"the loss is no {noun} over its rows: {sum(sizes)} rows together give {whole:.6g}; cut "
        f"into {cut}, they give {parts:.6g}. Microbatches are such parts, so the gradient would be "
        f"wrong.\n"
        f"Say with count= what it {verb}: count=lambda targets: weights[targets].sum() for class "
        f"weights, (targets != -100).sum() for ignored targets. A root or a logarithm of a mean: "
        f"train on the mean itself. A loss that compares rows with each other needs them in one "
        f"microbatch: it cannot be cut."
    )

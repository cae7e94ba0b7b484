"""One process: gradients of a plain loop over microbatches. The whole batch is a loop of one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipelab.engine.driver.microbatches import Rule, Share, share_out
from pipelab.engine.protocol.commands import Loss
from pipelab.engine.protocol.copies import copied
from pipelab.engine.protocol.gradient_rule import weighted_loss
from pipelab.engine.rank.stage import on_device, seed_for, seed_layers
from pipelab.partition import Chain, call, split, whole_model
from pipelab.partition.chain import Model
from pipelab.partition.tree import Flat

Batch = tuple[Flat, Flat | None, int]
"""Inputs, targets and rows: what ``check_batch`` gives."""

_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}
_ROUNDING_OF_TF32 = 1e-2
_ROUNDING_OF_HALF = 0.05


class Found(NamedTuple):
    """Gradients by the model's own names, and the loss."""

    gradients: dict[str, Tensor]
    loss: float


@dataclass(frozen=True)
class Reference:
    """A model in one process; each run is on a copy of it, on ``device``.

    Attributes:
        num_stages: random layers draw by stage, as on the ranks.
    """

    model: Model
    loss: Loss
    num_stages: int
    rule: Rule
    autocast: torch.dtype | None
    seed: int
    device: str

    def gradients(
        self, batch: Batch, num_microbatches: int, replicas: int, *, nudged: bool = False
    ) -> Found:
        """Gradients and loss of a plain loop over microbatches.

        Args:
            batch: to cut.
            num_microbatches: of each replica.
            replicas: that share the batch.
            nudged: change each parameter in its last digit before, to see what is only rounding.
        """
        given, loss = self._copied(), on_device(self.loss, torch.device(self.device))
        model = self._prepared(given)
        if nudged:
            _nudge(model)
        stages = split(given, self.num_stages)
        total, number = 0.0, 0
        with self.own_random_numbers():
            for share in share_out(*batch, num_microbatches, replicas, self.rule):
                for value, target, weight in self._microbatches(share):
                    with self.precision():
                        for place, stage in enumerate(stages):
                            # dropout draws what it draws on the ranks
                            seed_layers(seed_for(self.seed, 0, place, number), self.device)
                            torch.clear_autocast_cache()  # each stage casts a tied weight itself
                            value = call(stage, value)
                        scaled = weighted_loss(loss, value, target, weight)
                    scaled.backward()  # type: ignore[no-untyped-call]
                    total += scaled.item()
                    number += 1
        named = model.named_parameters()
        return Found({n: p.grad.to_dense().cpu() for n, p in named if p.grad is not None}, total)

    def copied(self) -> nn.Sequential | Chain:
        """A copy of the model on the device, without gradients."""
        return self._prepared(self._copied())

    def _copied(self) -> Model:
        return copied(self.model, [whole_model(self.model)])

    def _prepared(self, given: Model) -> nn.Sequential | Chain:
        model = whole_model(given)
        model.to(self.device).zero_grad(set_to_none=True)
        return model

    def precision(self) -> AbstractContextManager[None]:
        """Autocast, where it is asked for."""
        on = self.autocast is not None
        return torch.autocast(self.device, self.autocast, enabled=on)

    def rounding(self, dtype: torch.dtype) -> float:
        """How far whole and parts may differ, relative: they add up in another order."""
        real = dtype.to_real() if dtype.is_complex else dtype
        if self.autocast is not None or real not in _ROUNDING:
            return _ROUNDING_OF_HALF
        # convolutions of a GPU round float32 to TF32
        return _ROUNDING_OF_TF32 if self.device == "cuda" else _ROUNDING[real]

    def own_random_numbers(self) -> AbstractContextManager[None]:
        """Give the random numbers of PyTorch back as they were."""
        gpus = [torch.cuda.current_device()] if self.device == "cuda" else []
        return torch.random.fork_rng(gpus)

    def _microbatches(self, share: Share) -> Iterator[tuple[Any, Any, float]]:
        """Inputs, targets and weight of each microbatch of a share."""
        assert share.targets is not None
        # layers may work on their inputs in place: on copies
        inputs = share.inputs.to(self.device).map(Tensor.clone).cut(share.sizes)
        targets = share.targets.to(self.device).cut(share.sizes)
        for value, target, weight in zip(inputs, targets, share.weights, strict=True):
            yield value.unshared().unflatten(), target.unflatten(), weight


@torch.no_grad()
def _nudge(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.mul_(1 + torch.finfo(parameter.dtype).eps)

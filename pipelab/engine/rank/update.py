"""The end of a step: clip the gradients, step the optimizers, set the next learning rates."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipelab.engine.protocol.commands import Options
from pipelab.engine.protocol.training_state import stage_key
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.optimizer_state import check_same, load_into, settings_by_name, state_of
from pipelab.engine.rank.optimizers import is_trained, make_optimizer, takes_loss
from pipelab.engine.rank.stage import Stage
from pipelab.partition.chain import layer_of

START, GROWTH_STEPS = 2.0**16, 2000


@dataclass
class LossScale:
    """fp16: scale the loss up before the backward, and the gradients down after it.

    Half precision has no numbers between 0 and 6e-8, where many gradients are. Scaled up they
    survive; scaled too far they overflow to infinity. Then the update is left out, on all ranks
    alike, and the scale is halved (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2; as
    torch.amp.GradScaler, but one decision for the whole model).
    """

    scale: float = START
    good_steps: int = 0

    def unscale(self, gradients: Sequence[Tensor], data_parallel: DataParallel) -> bool:
        """Scale the gradients down; False if any rank's have overflowed. Sets the next scale."""
        for gradient in gradients:
            gradient.div_(self.scale)
        values = [g._values() if g.is_sparse else g for g in gradients]  # an embedding's may be
        overflowed = sum(not bool(x.isfinite().all()) for x in values)
        if data_parallel.total(float(overflowed)) > 0:
            self.scale, self.good_steps = self.scale / 2, 0
            return False
        self.good_steps += 1
        if self.good_steps == GROWTH_STEPS:
            self.scale, self.good_steps = self.scale * 2, 0
        return True


class Update:
    """The optimizers of one rank's stages, one for each stage that has parameters."""

    def __init__(self, stages: Mapping[int, Stage], options: Options, data_parallel: DataParallel):
        self.stages = stages
        self.options = options
        self.data_parallel = data_parallel
        self.optimizers: dict[int, Optimizer] = {}
        self.lr_schedules: dict[int, LRScheduler] = {}
        for number in stages:
            self._make(number)
        self.loss_scale = LossScale() if options.autocast is torch.float16 else None
        self.gradient_scale = 1.0  # what the gradients that are there are multiplied by
        self.skips = self.must_settle = False
        self.loss = 0.0  # of the whole batch, for the schedules that want it
        self.gradient_norm: float | None = None  # of the whole model in this step, before clipping
        self._grown: set[int] = set()  # the stages whose optimizer has made its state

    def begin(self, train: bool) -> None:
        """Start a step: its backwards, if it trains, begin with the current loss scale."""
        self.skips = False
        self.gradient_norm = None
        self.must_settle = train and self.options.updates_together
        if not train:
            return  # the gradients that are there stay as they are
        self.gradient_scale = self.loss_scale.scale if self.loss_scale else 1.0
        for stage in self.stages.values():
            stage.loss_scale = self.gradient_scale

    def settle(self, loss: float | None) -> None:
        """Prepare the update, together with all ranks: clip by the whole model's norm.

        With fp16 the gradients are scaled down, and the update is left out if any rank's have
        overflowed. ``loss``: this rank's part of it, for the schedules that want the whole.
        """
        gradients = [p.grad for s in self.stages.values() for p in s.updated]
        found = [g for g in gradients if g is not None]
        if self.options.lr_takes_loss:
            self.loss = self.data_parallel.whole_loss(loss)
        if self.loss_scale is not None:
            self.skips = not self.loss_scale.unscale(found, self.data_parallel)
            self.gradient_scale = 1.0
        if self.options.clip_norm is not None and not self.skips:
            self.gradient_norm = self._clip(found, self.options.clip_norm)
        self.must_settle = False

    def _clip(self, found: list[Tensor], clip_norm: float) -> float:
        """Scale the gradients so that the *whole* model's norm is at most ``clip_norm``.

        Each rank knows only its own gradients. Returns the norm before clipping
        (torch.nn.utils.clip_grad_norm_ is the same within one process).
        """
        squares = sum(g.abs().double().square().sum().item() for g in found)  # complex ones, too
        norm = float(self.data_parallel.total(squares) ** 0.5)
        factor = clip_norm / (norm + 1e-6)
        if factor < 1.0:
            for gradient in found:
                gradient.mul_(factor)
        return norm

    def step(self, number: int) -> int:
        """One step of a stage's optimizer; returns the bytes of state first made in it."""
        if number not in self.optimizers or self.skips:
            return 0
        self.optimizers[number].step()
        if number in self.lr_schedules:
            schedule = self.lr_schedules[number]
            schedule.step(self.loss) if takes_loss(schedule) else schedule.step()  # type: ignore[arg-type]
        if number in self._grown:
            return 0
        self._grown.add(number)
        return self.state_bytes(number)

    def state_bytes(self, number: int) -> int:
        """Bytes of the state of one stage's optimizer."""
        entries = self.optimizers[number].state.values() if number in self.optimizers else ()
        return sum(v.nbytes for entry in entries for v in entry.values() if isinstance(v, Tensor))

    def state(self) -> dict[str, Any]:
        """The state of each stage's optimizer (``"stage 2"``), and fp16's ``"loss scale"``."""
        found: dict[str, Any] = {}
        for number, optimizer in self.optimizers.items():
            schedule = self.lr_schedules.get(number)
            found[stage_key(number)] = state_of(optimizer, schedule, self._named(number))
        if self.loss_scale is not None:
            found["loss scale"] = asdict(self.loss_scale)
        return found

    def load(self, state: Mapping[str, Any]) -> None:
        """Begin anew, from what ``state`` gave: a stage that it does not name has no past."""
        for number in self.stages:
            self._make(number)
            saved = state.get(stage_key(number))
            if number in self.optimizers and saved is not None:
                schedule = self.lr_schedules.get(number)
                load_into(self.optimizers[number], schedule, self._named(number), saved)
        if self.loss_scale is not None:
            self.loss_scale = LossScale(**state.get("loss scale", {}))
        self._grown = {number for number, optimizer in self.optimizers.items() if optimizer.state}

    def _make(self, number: int) -> None:
        named, options = self._named(number), self.options
        if options.optimizer is None or not is_trained(named):
            return
        self.optimizers[number] = make_optimizer(options.optimizer, named)
        if options.lr_schedule is not None:
            self.lr_schedules[number] = options.lr_schedule(self.optimizers[number])
        if options.settings is not None:
            check_same(options.settings, settings_by_name(self.optimizers[number], named), named)

    def _named(self, number: int) -> list[tuple[str, nn.Parameter]]:
        stage = self.stages[number]
        own = set(map(id, stage.updated))
        return [(name, p) for name, p in stage.module.named_parameters() if id(p) in own]


def load_state(stages: Mapping[int, Stage], state: Mapping[str, Any]) -> None:
    """Give each stage its part of a model's state_dict, by its own ``load_state_dict``."""
    for stage in stages.values():
        layers = stage.module._modules
        own = OrderedDict((k, v) for k, v in state.items() if layer_of(k) in layers)
        versions = getattr(state, "_metadata", None)
        if versions is not None:
            own._metadata = versions  # type: ignore[attr-defined]
        stage.module.load_state_dict(own)

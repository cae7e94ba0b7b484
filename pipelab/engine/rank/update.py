"""The end of a step: clip the gradients, step the optimizers, set the next learning rates."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelab.engine.protocol.commands import Options
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.stage import Stage

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
        self.clip_norm = options.clip_norm
        self.data_parallel = data_parallel
        self.optimizers = {
            number: options.optimizer(stage.parameters)
            for number, stage in stages.items()
            if options.optimizer and stage.parameters
        }
        self.lr_schedules = {
            number: options.lr_schedule(optimizer)
            for number, optimizer in self.optimizers.items()
            if options.lr_schedule
        }
        self.loss_scale = LossScale() if options.autocast is torch.float16 else None
        self.is_scaled = self.skips = self.must_settle = False
        self.gradient_norm: float | None = None  # of the whole model in this step, before clipping
        self._grown: set[int] = set()  # the stages whose optimizer has made its state

    def begin(self, train: bool) -> None:
        """Start a step: its backwards, if it trains, begin with the current loss scale."""
        self.skips = False
        self.gradient_norm = None
        # whether the ranks must exchange something before they update
        self.must_settle = train and (self.clip_norm is not None or self.loss_scale is not None)
        if not train:
            return  # the gradients that are there stay as they are
        self.is_scaled = self.loss_scale is not None
        for stage in self.stages.values():
            stage.loss_scale = self.loss_scale.scale if self.loss_scale else 1.0

    def settle(self) -> None:
        """Prepare the gradients, together with all ranks: clip them by the whole model's norm.

        With fp16 they are scaled down, and the update is left out if any rank's have overflowed.
        """
        gradients = [p.grad for s in self.stages.values() for p in s.parameters]
        found = [g for g in gradients if g is not None]
        if self.loss_scale is not None:
            self.skips = not self.loss_scale.unscale(found, self.data_parallel)
            self.is_scaled = False
        if self.clip_norm is not None and not self.skips:
            self.gradient_norm = self._clip(found, self.clip_norm)
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
            self.lr_schedules[number].step()
        if number in self._grown:
            return 0
        self._grown.add(number)
        return self.state_bytes(number)

    def state_bytes(self, number: int) -> int:
        """Bytes of the state of one stage's optimizer."""
        entries = self.optimizers[number].state.values() if number in self.optimizers else ()
        return sum(v.nbytes for entry in entries for v in entry.values() if isinstance(v, Tensor))

    def state(self) -> dict[str, Any]:
        """For each parameter, under the model's own name, the state of its optimizer.

        And for each stage (``"stage 2"``), the settings of its optimizer and its schedule.
        """
        found: dict[str, Any] = {}
        for number, optimizer in self.optimizers.items():
            names = {id(p): name for name, p in self._named(number)}
            for parameter, entry in optimizer.state.items():
                found[names[id(parameter)]] = dict(entry)
            groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
            found[f"stage {number}"] = {"kind": type(optimizer).__name__, "groups": groups}
            if number in self.lr_schedules:
                found[f"stage {number}"]["lr_schedule"] = self.lr_schedules[number].state_dict()
        if self.loss_scale is not None:
            found["loss scale"] = asdict(self.loss_scale)
        return found

    def load(self, state: Mapping[str, Any]) -> None:
        """Load what ``state`` gave, also if the model is cut into other stages now."""
        settings = [state[key] for key in state if key.startswith("stage ")]
        if settings:
            for number in self.optimizers:
                self._load_one(number, state, settings[0])
        if self.loss_scale is not None and "loss scale" in state:
            self.loss_scale = LossScale(**state["loss scale"])
        self._grown = {number for number, optimizer in self.optimizers.items() if optimizer.state}

    def _load_one(self, number: int, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Give one stage's optimizer copies of what ``state`` has under its parameters' names."""
        optimizer = self.optimizers[number]
        for group, saved in zip(optimizer.param_groups, settings["groups"], strict=True):
            group.update(saved)
        optimizer.state.clear()
        for name, parameter in self._named(number):
            if name in state:
                optimizer.state[parameter] = {
                    key: _copy(key, value, optimizer, parameter)
                    for key, value in state[name].items()
                }
        if "lr_schedule" in settings and number in self.lr_schedules:
            self.lr_schedules[number].load_state_dict(settings["lr_schedule"])

    def _named(self, number: int) -> list[tuple[str, nn.Parameter]]:
        return list(self.stages[number].module.named_parameters())


def _copy(key: str, value: Any, optimizer: torch.optim.Optimizer, parameter: Tensor) -> Any:
    """One entry of a parameter's state, where torch's optimizers want it, in its own type.

    That is where the parameter is, except for the number of steps, which most keep on the host.
    """
    if not isinstance(value, Tensor):
        return value
    counts_there = any(g.get("fused") or g.get("capturable") for g in optimizer.param_groups)
    at_host = key == "step" and not counts_there
    return value.to("cpu" if at_host else parameter.device, copy=True)


def load_state(stages: Mapping[int, Stage], state: Mapping[str, Any]) -> None:
    """Give each stage its part of a model's state_dict, by its own ``load_state_dict``."""
    for stage in stages.values():
        layers = stage.module._modules
        own = OrderedDict((k, v) for k, v in state.items() if k.partition(".")[0] in layers)
        versions = getattr(state, "_metadata", None)
        if versions is not None:
            own._metadata = versions  # type: ignore[attr-defined]
        stage.module.load_state_dict(own)

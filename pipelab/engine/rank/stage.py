"""A stage on its rank: forward and backward of one microbatch, and what is kept in between."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.checkpoint import checkpoint

from pipelab.engine.protocol.commands import Loss, Options, Trial
from pipelab.engine.protocol.gradient_rule import weighted_loss
from pipelab.engine.protocol.loss_trial import Rows
from pipelab.engine.rank.backward import WeightsLater, run_backward
from pipelab.engine.rank.no_graph import no_graph
from pipelab.engine.rank.run_once import hooks_noted
from pipelab.engine.rank.slice_trial import SliceTrial
from pipelab.models.slices import Slices
from pipelab.partition import call
from pipelab.partition.saved import SavedBytes
from pipelab.partition.tree import Flat, Form, check_finite, flatten, map_tensors, tensors_of

_NOTHING = nullcontext()  # to run something within


class _Kept(NamedTuple):
    """A microbatch in flight: its graph from ``inputs`` that need a gradient to ``outputs``.

    ``entry`` receives the gradients of the inputs. ``run_once``: why not to split the backward.
    """

    entry: list[Tensor | None]
    inputs: list[Tensor]
    outputs: list[Tensor]
    run_once: list[str]

    @property
    def node(self) -> Node | None:
        """Where the graph begins; None on a first stage."""
        return self.inputs[0].grad_fn if self.inputs else None


class Stage:
    """Some layers of the model, and the activations of the microbatches in flight.

    Args:
        number: 0 is the first.
        is_last: this one computes the loss.
    """

    def __init__(self, number: int, module: nn.Module, is_last: bool, options: Options):
        self.number = number
        self.module = module
        self.is_last = is_last
        self.loss = options.loss if is_last else None
        self.autocast = options.autocast
        self.loss_scale = 1.0  # set before each step (rank/update.py)
        self.device_type = options.place.device
        self.random_seed = options.seed
        self.stop_at_nan = options.stop_at_nan
        chosen = options.checkpoint  # True, or the stages that run their forward twice
        self.runs_twice = chosen if isinstance(chosen, bool) else number in chosen
        self.parameters = list(module.parameters())  # of a rank, in one stage (tied_weights.py)
        self.updated = list(self.parameters)  # by this stage's optimizer
        self.splits = False  # whether the schedule runs its backwards as I and W
        self.kept: dict[int, _Kept] = {}
        self.halved: dict[int, WeightsLater] = {}  # after I, before W
        self.slices = Slices()
        self._slice_trial = SliceTrial(number, module, self.loss)
        self._saved_bytes: dict[tuple[Form, int], int] = {}
        self._old_gradient_bytes = 0
        self._has_new_gradients = False
        self._trial: Rows | None = None
        self._has_said = False  # that W is empty

    def begin_step(self, trial: Trial | None) -> int:
        """Start a step; returns the bytes of gradients that its parameters hold already.

        ``trial``: of the loss, on the first rows of this step's output; the last stage does it.
        """
        self._trial = Rows(trial, self.loss) if trial and self.loss else None
        self._old_gradient_bytes = self.gradient_bytes()
        self._has_new_gradients = False
        return self._old_gradient_bytes

    def forward(
        self, microbatch: int, inputs: Flat, target: Flat | None, weight: float
    ) -> tuple[Flat, int]:
        """The output for the next stage, on the last the loss; and the bytes kept for backward.

        The loss is multiplied by ``weight``. The graph from input to output stays until
        ``backward``.
        """
        entry: list[Tensor | None] = []
        self._slice_trial.add(microbatch, inputs, target, weight)
        begun = _enter(inputs, entry)
        alike = inputs.form, getattr(microbatch, "place", 0)  # a later slice keeps more
        measured = None if alike in self._saved_bytes else SavedBytes(self.module)
        part = self.slices.forward(microbatch, inputs.tensors)
        with part, measured or _NOTHING, self.hooks_noted() as hooks:
            output = self._apply(microbatch, inputs, target, weight)
        self._check("output", output.tensors)
        if measured is not None:
            for tensor in self.slices.kept(microbatch):
                measured.keep(tensor)
            self._saved_bytes[alike] = _kept_bytes(measured, inputs, output, target)
        outputs = [x for x in output.tensors if x.requires_grad]
        if len(outputs) == 1 and not self.is_last:
            # A hook of several tensors is not called at the only root of a backward (PyTorch 2.13),
            # and in one process a stage's output is no root: a view takes that place.
            outputs = [outputs[0].view_as(outputs[0])]
        self.kept[microbatch] = _Kept(entry, begun, outputs, hooks)
        return output, self._saved_bytes[alike]

    def evaluate(self, inputs: Any) -> Any:
        """The output alone; nothing is kept."""
        with self._autocast():
            output = call(self.module, inputs)
        self._check("output", output)
        return output

    def try_loss(self, microbatch: int, output: Any, target: Flat) -> None:
        """Give a microbatch to the trial of the loss, where there is one. Raises LossError."""
        if self._trial is not None:
            with self._autocast():
                self._trial.add(microbatch, output, target)

    def weighted_loss(self, output: Any, target: Any, weight: float) -> Tensor:
        """The last stage's loss times its weight, by THE GRADIENT RULE.

        The rule stands in protocol/gradient_rule.py.
        """
        assert self.loss is not None
        with self._autocast():
            return weighted_loss(self.loss, output, target, weight)

    def check_graph(self, loss: Tensor, output: Any, inputs: Any) -> None:
        """Raise LossError if a step would train nothing: no gradient goes back from the loss."""
        if not loss.requires_grad:
            with self._autocast():
                raise no_graph(output, self.module, inputs)

    def backward(self, microbatch: int, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the input's tensors, given those of the output's (none on the last)."""
        kept = self.kept.pop(microbatch)
        roots, theirs = self.slices.roots(microbatch)
        if kept.outputs or roots:  # a first stage of frozen layers has no graph
            own = gradients or self._first_gradients(kept)
            run_backward([*kept.outputs, *roots], [*own, *theirs])
        self.slices.after_backward(microbatch)
        return self._gradients(kept)

    def backward_input(self, microbatch: int, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the input alone; those of the weights wait for ``backward_weight``."""
        kept = self.kept.pop(microbatch)
        own, earlier = gradients or self._first_gradients(kept), self.slices.copies(microbatch)
        half = WeightsLater(kept.outputs, own, kept.node, kept.run_once, earlier)
        self.halved[microbatch] = half
        if half.entry is not None:  # else W does everything
            half.add(*self.slices.roots(microbatch))
            half.backward_input(_anchor())
            self.slices.after_backward(microbatch)
        self.say_if_whole(half.run_once)
        return self._gradients(kept)

    def backward_weight(self, microbatch: int) -> None:
        """The gradients of the weights, and the end of the microbatch's activations."""
        half = self.halved.pop(microbatch)
        if half.entry is None:
            half.add(*self.slices.roots(microbatch))
        half.backward_weight()
        if half.entry is None:
            self.slices.after_backward(microbatch)

    def seed(self, step: int, microbatch: int) -> None:
        """Random layers draw the same numbers wherever, and in whatever order, stages run."""
        seed_layers(seed_for(self.random_seed, step, self.number, microbatch), self.device_type)

    def gradient_bytes(self) -> int:
        """Bytes of the gradients that the parameters hold now."""
        return sum(_nbytes(p.grad) for p in self.parameters if p.grad is not None)

    def new_gradient_bytes(self) -> int:
        """Bytes of gradients first made by the first backward of a step; 0 in later ones.

        Raises RuntimeError if the only stage has none.
        """
        if self._has_new_gradients:
            return 0
        self._has_new_gradients = True
        found = self.gradient_bytes()
        if self.is_last and self.number == 0 and not found:
            raise RuntimeError(
                "no gradient reaches any parameter: the output does not depend on them; "
                "check for detach() or tensors made anew in layers"
            )
        return found - self._old_gradient_bytes

    def _first_gradients(self, kept: _Kept) -> list[Tensor]:
        return [torch.full_like(output, self.loss_scale) for output in kept.outputs]

    def _gradients(self, kept: _Kept) -> list[Tensor]:
        """Those that came to the entry; zeros where a tensor of the input was not used."""
        if kept.inputs:
            self.check_reached(kept.entry)
        pairs = zip(kept.entry, kept.inputs, strict=True)
        found = [torch.zeros_like(x) if gradient is None else gradient for gradient, x in pairs]
        self._check("gradient", found)
        return found

    def check_reached(self, gradients: Sequence[Tensor | None]) -> None:
        """Raise RuntimeError if none came to the inputs that need one."""
        if all(gradient is None for gradient in gradients):
            raise RuntimeError(
                f"no gradient reaches the input of stage {self.number}: its output does not "
                f"depend on it; check for detach() or integer outputs between layers"
            )

    def _check(self, what: str, value: object) -> None:
        """With ``stop_at_nan``, raise FloatingPointError for a NaN or an infinity."""
        if self.stop_at_nan:
            check_finite(what, tensors_of(value))

    def _apply(self, microbatch: int, inputs: Flat, target: Flat | None, weight: float) -> Flat:
        output = self._run(inputs.unflatten())
        if self.is_last:
            assert target is not None, "a training step has targets"
            self.try_loss(microbatch, output, target)
            loss = self.weighted_loss(output, target.unflatten(), weight)
            self.check_graph(loss, output, inputs.unflatten())
            output = loss
        return flatten(output)

    def _run(self, inputs: Any) -> Any:
        with self._autocast():
            if self.runs_twice:
                return checkpoint(
                    call, self.module, inputs, use_reentrant=False, context_fn=self._contexts
                )
            return call(self.module, inputs)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What a forward runs within, and what it does when it runs again in a backward."""
        return nullcontext(), _run_again(self.module, self.slices.again())

    def say_if_whole(self, run_once: Sequence[str]) -> None:
        """Say once that W has nothing to do, and because of what, unless the user asked for it."""
        if run_once and not self.runs_twice and not self._has_said:
            self._has_said = True
            print(
                f"stage {self.number}: I runs the whole backward and W is empty, since its layers "
                f"use {', '.join(dict.fromkeys(run_once))}, which must run once"
            )

    def hooks_noted(self) -> AbstractContextManager[list[str]]:
        """Only where I and W follow, since it costs some microseconds."""
        return hooks_noted() if self.splits else nullcontext([])

    def _autocast(self) -> Any:
        on = self.autocast is not None
        return torch.autocast(self.device_type, self.autocast) if on else _NOTHING


@contextmanager
def _run_again(module: nn.Module, slices: AbstractContextManager[None]) -> Iterator[None]:
    with SpareBuffers(module), slices:
        yield


class SpareBuffers:
    """Copies of a module's buffers within ``with``: a repeated forward leaves no trace.

    BatchNorm would count its microbatch twice.
    """

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        self.own = [(m, dict(m._buffers)) for m in self.module.modules() if m._buffers]
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()

    def __exit__(self, *error: object) -> None:
        for module, buffers in self.own:
            module._buffers.update(buffers)


def on_device(loss: Loss, device: torch.device) -> Loss:
    """The same loss with its tensors on ``device``.

    These are the tensors of a module, such as the weights of the classes, or the arguments of a
    ``partial``.
    """
    if device.type == "cpu":
        return loss
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss).to(device)
    if isinstance(loss, partial):
        args, keywords = map_tensors(lambda t: t.to(device), ([*loss.args], loss.keywords))
        return partial(on_device(loss.func, device), *args, **keywords)
    return loss


def _kept_bytes(saved: SavedBytes, inputs: Flat, output: Flat, target: Flat | None) -> int:
    """Bytes that one microbatch keeps until its backward: what autograd saved, input and output."""
    for tensor in (*inputs.tensors, *output.tensors):
        saved.keep(tensor)
    saved.keep_part((*inputs.tensors, *(target.tensors if target else ())))
    return saved.total


def _nbytes(gradient: Tensor) -> int:
    """A gradient of an embedding may be sparse: rows, and where they belong."""
    if gradient.is_sparse:
        return gradient._values().nbytes + gradient._indices().nbytes
    return gradient.nbytes


def _enter(inputs: Flat, entry: list[Tensor | None]) -> list[Tensor]:
    """Begin a graph at the inputs that need a gradient: replace these, and return them."""
    needed = _needed(inputs.form)
    if not needed:
        return []
    tensors = inputs.tensors
    begun = _Entry.apply(_anchor(), entry, *(tensors[i] for i in needed))  # type: ignore[no-untyped-call]
    for i, tensor in zip(needed, begun, strict=True):
        tensors[i] = tensor
    return list(begun)


@lru_cache(maxsize=64)
def _needed(form: Form) -> list[int]:
    """The places of the tensors that need a gradient."""
    return [i for i, leaf in enumerate(form.tensors) if leaf.needs]


class _Entry(torch.autograd.Function):
    """Where a stage's graph begins: collects the gradients that arrive there in a list.

    A plain ``inputs.requires_grad_()`` would do, but for layers that work in place (such as
    ``ReLU(inplace=True)`` at the start of a stage): those may not touch a leaf.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, entry: list[Tensor | None], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.entry = entry
        ctx.set_materialize_grads(False)
        ctx.mark_dirty(*inputs)
        return inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        ctx.entry.extend(gradients)
        return (None,) * (2 + len(gradients))


@cache
def _anchor() -> Tensor:
    """Makes autograd follow the entry, although the input itself needs no gradient."""
    return torch.zeros((), requires_grad=True)


def seed_for(seed: int, step: int, stage: int, microbatch: int) -> int:
    """One number for each forward of a training, the same on every run and under any schedule."""
    numbers = f"{seed} {step} {stage} {microbatch}".encode()
    # not hash(): Python gives -1 and -2 the same
    return int.from_bytes(hashlib.blake2b(numbers, digest_size=8).digest()) % 2**63


def seed_layers(seed: int, device_type: str) -> None:
    """Seed what random layers draw from, there and on the host."""
    torch.default_generator.manual_seed(seed)
    if device_type == "cuda":
        torch.cuda.manual_seed(seed)

"""The same schedule on torch.distributed.pipelining: torch runs it, and we record what it did.

    its runtime:  RECV_F ─▶ wait ─▶ forward_one_chunk ─▶ SEND_F      (and so on, action by action)
    our events:   RECV_F    WAIT    F                    SEND_F

Torch runs the computing actions and the messages of a training step. What comes after them, adding
up over replicas and the optimizer, and all of an evaluation, is ours.

What pipelab knows of torch's private names is here and in script_steps.py; driver/checks.py lists
the versions that were tried, notebooks/guides/pytorch_comparison.md shows what the comparison gave.

Five things are corrected, since gradients would be wrong otherwise, or runs fail: losses are
weighted by THE GRADIENT RULE (protocol/gradient_rule.py) and never scaled again, they are found by
their microbatch, buffers forget torch's trial forward, its inputs are zeros, not uninitialized, and
what must run once (see ``run_once``) does not run in both I and W.
"""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, schedules

from pipelab.action import SENDS, Action, Kind
from pipelab.engine.rank.backward import children_first
from pipelab.engine.rank.batch import Batch
from pipelab.engine.rank.recorder import Recorder, waiting_for
from pipelab.engine.rank.run_once import python_functions
from pipelab.engine.rank.stage import SpareBuffers, Stage
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import named
from pipelab.engine.transport.p2p import shape_changed
from pipelab.partition.saved import SavedBytes
from pipelab.partition.tree import Flat, tensors_of

_START = schedules._batch_p2p


class TorchSteps:
    """One rank's part of a training step, run by torch."""

    def __init__(self, worker: Worker, group: dist.ProcessGroup, timeout: float):
        self.worker = worker
        self.group = group
        self.messages = _Messages(worker, timeout)
        self.csv = ""
        self.shape: tuple[object, ...] = ()  # of the batches that torch has buffers for
        schedules._batch_p2p = self.messages.start
        schedules._wait_batch_p2p = self.messages.wait
        # it prints the whole schedule at each error: the parent says what went wrong
        logging.getLogger(schedules.__name__).setLevel(logging.CRITICAL)

    def use(self, csv: str) -> None:
        """Follow this schedule from now on."""
        self.csv, self.shape = csv, ()

    def run(self, batch: Batch) -> None:
        """All computing actions of a step, with their messages."""
        run = batch.run
        if self.shape != (run.signature, run.sizes):
            self._load(len(run.sizes))  # torch's buffers are made for one shape
            self.shape = run.signature, run.sizes
        for stage in self.stages:
            stage.layers.batch = batch
        self.runtime.inputs = [tuple(flat.unshared().tensors) for flat in batch.inputs]
        # the last stage takes its own targets: torch only wants to see that there are some
        self.runtime.step(target=torch.zeros(len(run.sizes)), return_outputs=False)
        self.runtime.inputs = ()

    def _load(self, num_microbatches: int) -> None:
        self.stages = [
            _RecordedStage(stage, self.worker, self.messages, self.group)
            for _, stage in sorted(self.worker.stages.items())
        ]
        self.runtime = _Runtime(  # type: ignore[no-untyped-call]
            self.stages, num_microbatches, loss_fn=_is_loss_already, scale_grads=False
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "schedule.csv"
            path.write_text(self.csv, "utf-8")
            self.runtime._load_csv(str(path), format="compute_only")


class _Works(list[dist.Work]):
    """Pending sends or receives, and what they are."""

    def __init__(self, works: list[dist.Work], action: Action, peer: int):
        super().__init__(works)
        self.action, self.peer = action, peer


class _Messages:
    """Replaces two functions of torch: messages become events, and so do the waits for them."""

    def __init__(self, worker: Worker, timeout: float):
        self.worker = worker
        self.timeout = timeout
        self.next: Action | None = None

    def start(self, p2p_ops: list[dist.P2POp], desc: str | None = None) -> list[dist.Work]:
        """SEND or RECV: what torch does, as an event. ``next`` says what it is."""
        action, self.next = self.next, None
        if action is None or not p2p_ops:
            return _START(p2p_ops, desc)
        peer, size = p2p_ops[0].peer, sum(x.tensor.nbytes for x in p2p_ops)
        with self.worker.recorder.record(action) as recorder, named(action, peer):
            works = _START(p2p_ops, desc)
            recorder.report(size, peer)
        return _Works(works, action, peer)

    def wait(self, work: list[dist.Work]) -> None:
        """WAIT, if it is for a message to come. At the end of a step, torch waits for its sends."""
        if not isinstance(work, _Works) or work.action.kind in SENDS:
            self._finish(work)
            return
        with self.worker.recorder.record(waiting_for(work.action)):
            self._finish(work)
            # torch's messages carry no stamp: they cost a paced rank the time that they took
            self.worker.pace.wait_until(time.monotonic())
            self.worker.recorder.report(0, work.peer)

    def _finish(self, works: list[dist.Work]) -> None:
        with named(works.action, works.peer) if isinstance(works, _Works) else nullcontext():
            for work in works:
                groups.wait(work, self.timeout)


class _Runtime(schedules._PipelineScheduleRuntime):
    """Torch's, but a microbatch gets its own loss: torch takes the n-th that was computed.

    ``inputs``: of each microbatch, as the batch was cut; empty except on the first stage's rank.
    """

    inputs: Sequence[tuple[Tensor, ...]] = ()

    def _split_inputs(self, args: object, kwargs: object = None) -> tuple[Any, Any]:
        number = self._n_microbatches
        return [*self.inputs] or [()] * number, [{} for _ in range(number)]

    def _maybe_get_loss(self, stage: "_RecordedStage", mb_index: int) -> Tensor | None:
        return stage.layers.losses.pop(mb_index, None)


class _Layers(nn.Module):
    """A stage's layers as torch wants them: tensors in, tensors out; on the last, the loss."""

    batch: Batch

    def __init__(self, stage: Stage):
        super().__init__()
        self.layers, self.stage = stage.module, stage
        self.microbatch = 0
        self.is_real = False  # not torch's trial forward, on zeros
        self.hooks: list[str] = []  # noted in the forward that runs
        self.loss = torch.zeros(())  # of the last forward
        self.losses: dict[int, Tensor] = {}  # scaled, with their graphs

    def forward(self, *tensors: Tensor) -> Any:
        """Of the microbatch that is set."""
        value: Any = tensors[0] if len(tensors) == 1 else tensors
        if self.stage.number == 0:
            form = self.batch.inputs[self.microbatch].form
            value = Flat([*tensors], form).unflatten()
        output = self.stage.evaluate(value)
        if self.stage.loss is None:
            return self._passed_on(_tensors_or_refuse(output))
        weight = self.batch.run.weights[self.microbatch]
        target = self.batch.targets[self.microbatch]
        if self.is_real:
            self.stage.try_loss(self.microbatch, output, target)
        loss = self.stage.weighted_loss(output, target.unflatten(), weight)
        if torch.is_grad_enabled():
            self.stage.check_graph(loss, output, value)
        self.loss = loss.detach()
        return loss * self.stage.loss_scale  # torch begins each backward with a one

    def _passed_on(self, output: Any) -> Any:
        """The output, or a view: hooks of several tensors are not called at a backward's only root.

        Where I and W follow and there are no hooks, torch detaches it in place, and refuses views.
        """
        may_have_hooks = self.is_real and (self.hooks or not self.stage.splits)
        if may_have_hooks and isinstance(output, Tensor) and output.requires_grad:
            return output.view_as(output)
        return output

    def targets(self) -> list[Tensor]:
        """Those of the microbatch that is set; empty except on the last stage."""
        if self.stage.loss is None:
            return []
        return self.batch.targets[self.microbatch].tensors


class _RecordedStage(PipelineStage):
    """Torch's stage, but what it computes becomes events: F, B, I and W."""

    def __init__(self, stage: Stage, worker: Worker, messages: _Messages, group: dist.ProcessGroup):
        self.layers = _Layers(stage)
        self.stage = stage
        self.worker = worker
        self.messages = messages
        self.kept_bytes = 0
        self.run_once: dict[int, list[str]] = {}  # by microbatch; then I runs the whole backward
        cpu = torch.device("cpu")
        super().__init__(self.layers, stage.number, worker.num_stages, cpu, group=group)

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        """F."""
        run, action = self.layers.batch.run, self._action(Kind.F, fwd_chunk_id)
        self.layers.microbatch = fwd_chunk_id
        self.layers.is_real = True
        with self._recorded(action) as recorder, self.stage.hooks_noted() as hooks:
            self.stage.seed(run.number, run.first + fwd_chunk_id)
            self.layers.hooks = hooks
            try:
                output = super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)
            except RuntimeError as error:
                raise error.__cause__ or error from None  # the learner's own, not torch's wrapping
            self._check_shapes(action, output)
            if self.is_last:
                self.layers.losses[fwd_chunk_id] = output
                self.layers.batch.losses.append(self.layers.loss)
            self.worker.shared.after_forward(self.stage.number, train=True)
            recorder.report(self.kept_bytes)
        if self.stage.splits and not self.is_first:  # a first stage's I does nothing
            roots = [x.grad_fn for x in tensors_of(output) if x.grad_fn is not None]
            self.run_once[fwd_chunk_id] = [*hooks, *python_functions(children_first(roots))]
        return output

    def backward_one_chunk(
        self,
        bwd_chunk_id: int,
        loss: Any = None,
        full_backward: bool = True,
        last_backward: bool = False,
    ) -> None:
        """B, or I."""
        action = self._action(Kind.B if full_backward else Kind.I, bwd_chunk_id)
        run_once = [] if full_backward else self.run_once.get(bwd_chunk_id, [])
        needs_input = any(meta.requires_grad for meta in self._stage_meta.inputs or ())
        # Behind frozen stages torch's I finds no weights for W: there I runs the whole backward.
        whole = full_backward or not (needs_input or self.is_first)
        with self._recorded(action) as recorder, self._undivided(run_once):
            super().backward_one_chunk(bwd_chunk_id, loss, whole, last_backward)
            if needs_input:
                # torch would send zeros, and an optimizer with momentum or decay acts on zeros
                self.stage.check_reached(self.bwd_cache[bwd_chunk_id])
            if full_backward:
                recorder.report(self.stage.new_gradient_bytes())
        self.stage.say_if_whole(run_once)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        """W."""
        action = self._action(Kind.W, bwd_chunk_id)
        run_once = self.run_once.pop(bwd_chunk_id, [])
        with self._recorded(action) as recorder, self._undivided(run_once):
            if bwd_chunk_id in self.dw_runner:
                super().backward_weight_one_chunk(bwd_chunk_id, last_backward)
            recorder.report(self.stage.new_gradient_bytes())

    @contextmanager
    def _undivided(self, run_once: list[str]) -> Iterator[None]:
        """Torch's I runs the whole backward where a stage has a W of its user's: an empty one."""
        self.dw_builder = (lambda: lambda: None) if run_once else None
        yield
        self.dw_builder = None

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """The runtime asks for them just before it starts them."""
        self.messages.next = self._action(Kind.RECV_F, fwd_chunk_id)
        return super().get_fwd_recv_ops(fwd_chunk_id)

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        """The same."""
        self.messages.next = self._action(Kind.SEND_F, fwd_chunk_id)
        return super().get_fwd_send_ops(fwd_chunk_id)

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """The same."""
        self.messages.next = self._action(Kind.RECV_B, bwd_chunk_id)
        return super().get_bwd_recv_ops(bwd_chunk_id)

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        """The same."""
        self.messages.next = self._action(Kind.SEND_B, bwd_chunk_id)
        return super().get_bwd_send_ops(bwd_chunk_id)

    def _compute_outputs(self, *args: Tensor, module: nn.Module, **kwargs: Any) -> Any:
        """Torch's trial forward, by which it learns shapes; we measure what one keeps."""
        self.layers.microbatch = 0
        self.layers.is_real = False
        for tensor in () if self.is_first else args:
            tensor.data.zero_()
        with SpareBuffers(module), SavedBytes(module) as saved:
            output = super()._compute_outputs(*args, module=module, **kwargs)
        for tensor in (*args, *tensors_of(output)):
            saved.keep(tensor)
        saved.keep_part((*args, *self.layers.targets()))
        self.kept_bytes = saved.total
        return output

    def _check_shapes(self, action: Action, output: Any) -> None:
        """Torch has buffers for what its trial forward gave; gloo would abort the other process."""
        metas = self._stage_meta.outputs or ()
        now, before = (
            ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in found)
            for found in (tensors_of(output), metas)
        )
        if now != before:
            raise shape_changed(action, self.layers.batch.rows[action.microbatch], before, now)

    def _action(self, kind: Kind, microbatch: int) -> Action:
        return Action(self.stage_index, kind, microbatch)

    @contextmanager
    def _recorded(self, action: Action) -> Iterator[Recorder]:
        with self.worker.recorder.record(action) as recorder:
            yield recorder
        self.worker.pace.settle()  # torch continues at once with its next action


def _is_loss_already(output: Tensor, target: Tensor) -> Tensor:
    """What torch takes for the loss function: the last stage has computed the loss."""
    return output


def _tensors_or_refuse(output: Any) -> Any:
    """What a stage may return here. Raises TypeError for anything else."""
    values = output if type(output) is tuple else (output,)
    if all(isinstance(value, Tensor) for value in values):
        return output
    raise TypeError(
        f"a stage returns a {type(output).__name__}: torch.distributed.pipelining hands over a "
        f"tensor or\na plain tuple of tensors; return those, or say worker='pipelab'"
    )

"""The same schedule on torch.distributed.pipelining: torch runs it, and we note what it did.

    its runtime:  RECV_F ─▶ wait ─▶ forward_one_chunk ─▶ SEND_F      (and so on, action by action)
    our events:   RECV_F    WAIT    F                    SEND_F

Torch runs the computing actions and the messages of a training step. What comes after them, adding
up over replicas and the optimizer, and all of an evaluation, is ours.

All that pipelab knows of torch's private names stands here; ``checks`` says which versions were
tried. Four things are mended, since gradients would be wrong otherwise, or runs die (the README
tells the story of each): losses are weighted by the gradient rule and never scaled again, they are
found by their microbatch, buffers forget torch's trial forward, and its inputs are zeros instead of
whatever lay in memory.
"""

import logging
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, schedules

from pipelab.action import Action, Kind
from pipelab.engine.protocol import tree
from pipelab.engine.rank.batch import Batch
from pipelab.engine.rank.stage import SpareBuffers, Stage
from pipelab.engine.rank.torch_messages import Books, Messages
from pipelab.partition.saved import SavedBytes

_START = schedules._batch_p2p


class TorchSteps:
    """One rank's part of a training step, run by torch."""

    def __init__(self, books: Books, group: dist.ProcessGroup, timeout: float):
        self.books, self.group = books, group
        self.messages = Messages(books, _START, timedelta(seconds=timeout))
        self.csv = ""
        self.shape: tuple[object, ...] = ()  # of the batches that torch has buffers for
        schedules._batch_p2p = self.messages.start
        schedules._wait_batch_p2p = self.messages.wait
        # it prints the whole schedule at each error: the parent tells what went wrong
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
        inputs = [] if run.inputs is None else tree.take_apart(run.inputs)[0]
        # the last stage takes its own targets: torch only wants to see that there are some
        self.runtime.step(*inputs, target=torch.zeros(len(run.sizes)), return_outputs=False)

    def _load(self, num_microbatches: int) -> None:
        books = self.books
        self.stages = [
            _RecordedStage(stage, books, self.messages, self.group)
            for _, stage in sorted(books.stages.items())
        ]
        self.runtime = _Runtime(  # type: ignore[no-untyped-call]
            self.stages, num_microbatches, loss_fn=_is_loss_already, scale_grads=False
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "schedule.csv"
            path.write_text(self.csv, "utf-8")
            self.runtime._load_csv(str(path), format="compute_only")


class _Runtime(schedules._PipelineScheduleRuntime):
    """Torch's, but a microbatch gets its own loss: torch takes the n-th that was computed."""

    def _maybe_get_loss(self, stage: "_RecordedStage", mb_index: int) -> Tensor | None:
        return stage.layers.losses.pop(mb_index, None)


class _Layers(nn.Module):
    """A stage's layers as torch wants them: tensors in, tensors out; on the last, the loss."""

    batch: Batch

    def __init__(self, stage: Stage):
        super().__init__()
        self.layers, self.stage = stage.module, stage
        self.microbatch = 0
        self.loss = torch.zeros(())  # of the last forward
        self.losses: dict[int, Tensor] = {}  # scaled, with their graphs

    def forward(self, *tensors: Tensor) -> Any:
        """Of the microbatch that is set."""
        value: Any = tensors[0] if len(tensors) == 1 else tensors
        if self.stage.number == 0:
            form = tree.take_apart(self.batch.inputs[self.microbatch])[1]
            value = tree.put_together(tensors, form)
        output = self.stage.evaluate(value)
        if self.stage.loss is None:
            return _tensors_or_refuse(output)
        weight = self.batch.run.weights[self.microbatch]
        loss = self.stage.weighted_loss(output, self.batch.targets[self.microbatch], weight)
        self.loss = loss.detach()
        return loss * self.stage.scale  # torch begins each backward with a one

    def targets(self) -> list[Tensor]:
        """Those of the microbatch that is set; none but on the last stage."""
        if self.stage.loss is None:
            return []
        return tree.tensors_of(self.batch.targets[self.microbatch])


class _RecordedStage(PipelineStage):
    """Torch's stage, but what it computes becomes events: F, B, I and W."""

    def __init__(self, stage: Stage, books: Books, messages: Messages, group: dist.ProcessGroup):
        self.layers, self.stage, self.books, self.messages = _Layers(stage), stage, books, messages
        self.kept_bytes = 0
        cpu = torch.device("cpu")
        super().__init__(self.layers, stage.number, books.last_stage + 1, cpu, group=group)

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        """F."""
        run, action = self.layers.batch.run, self._action(Kind.F, fwd_chunk_id)
        self.layers.microbatch = fwd_chunk_id
        with self.books.recorder.record(action):
            self.stage.seed(run.number, run.first + fwd_chunk_id)
            try:
                output = super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)
            except RuntimeError as error:
                raise error.__cause__ or error from None  # the learner's own, not torch's wrapping
            if self.is_last:
                self.layers.losses[fwd_chunk_id] = output
                self.layers.batch.losses.append(self.layers.loss)
            self._end(action, self.kept_bytes)
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
        with self.books.recorder.record(action):
            super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)
            self._end(action, self.books.new_gradient_bytes(self.stage) if full_backward else 0)

    def backward_weight_one_chunk(self, bwd_chunk_id: int, last_backward: bool = False) -> None:
        """W."""
        action = self._action(Kind.W, bwd_chunk_id)
        with self.books.recorder.record(action):
            super().backward_weight_one_chunk(bwd_chunk_id, last_backward)
            self._end(action, self.books.new_gradient_bytes(self.stage))

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
        for tensor in () if self.is_first else args:
            tensor.data.zero_()
        with SpareBuffers(module), SavedBytes(module) as saved:
            output = super()._compute_outputs(*args, module=module, **kwargs)
        for tensor in (*args, *tree.tensors_of(output)):
            saved.keep(tensor)
        saved.keep_part((*args, *self.layers.targets()))
        self.kept_bytes = saved.total
        return output

    def _action(self, kind: Kind, microbatch: int) -> Action:
        return Action(self.stage_index, kind, microbatch)

    def _end(self, action: Action, bytes: int) -> None:
        self.books.keep_busy(action)
        self.books.pace.settle()  # torch goes straight on to its next action
        self.books.note(action, bytes)


def _is_loss_already(output: Tensor, target: Tensor) -> Tensor:
    """What torch takes for the loss function: the last stage has computed the loss."""
    return output


def _tensors_or_refuse(output: Any) -> Any:
    """What a stage may hand over here. Raises TypeError for anything else."""
    values = output if isinstance(output, tuple | list) else (output,)
    if all(isinstance(value, Tensor) for value in values):
        return output
    raise TypeError(
        f"a stage hands over a {type(output).__name__}: torch.distributed.pipelining takes a "
        f"tensor or a tuple of tensors; hand over those, or say worker='pipelab'"
    )

"""A rank between its steps: carries out each command of the parent, and answers it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelab.accounting import Part
from pipelab.action import PER_STAGE, Kind
from pipelab.engine.protocol.commands import (
    EXTRA_STATE,
    Build,
    Done,
    Fetch,
    GetProfiler,
    Load,
    Run,
    Use,
)
from pipelab.engine.protocol.device import clock_of
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.batch import Batch, Route
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.profiler import StepProfiler
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.stage import Stage, on_device
from pipelab.engine.rank.update import load_state
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport.rank_messages import Messages
from pipelab.partition.tree import map_tensors


class OtherWorker(Protocol):
    """Runs the computing actions and the messages of a training step in our place."""

    def use(self, csv: str) -> None:
        """Follow this schedule from now on."""

    def run(self, batch: Batch) -> None:
        """All computing actions of a step, with their messages."""


class Session:
    """A rank between its steps.

    Attributes:
        worker: what it runs.
        other: who trains in the worker's place, or None.
    """

    def __init__(
        self, recorder: Recorder, messages: Messages, data_parallel: DataParallel,
        affinity: Affinity, device: torch.device, build: Build,
    ):  # fmt: skip
        self.device = device
        for module in build.stages.values():
            module.to(device)
        build = replace(
            build, options=replace(build.options, loss=on_device(build.options.loss, device))
        )
        self.clock = clock_of(device)
        self.recorder = recorder
        self.affinity = affinity
        self.messages = messages
        recorder.keeps = build.options.record
        self.worker = Worker(recorder, messages, data_parallel, affinity, build)
        self.other: OtherWorker | None = None
        self.routes: dict[bool, Route] = {}

    def answer(self, command: object) -> Done:
        """Do what a command asks."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # each of a script's threads has its own
        match command:
            case Use():
                self.use(command)
                return Done()
            case Run():
                return self.take(command)
            case Fetch(what=what):
                return Done(found=self.fetch(what))
            case GetProfiler():
                with StepProfiler():
                    return Done()
            case Load():
                self.load(command)
                return Done()
            case _:
                raise TypeError(f"unknown command {type(command).__name__}")

    def use(self, use: Use) -> None:
        """Follow another schedule from now on."""
        rank, rows = self.recorder.rank, use.rows.items()
        self.routes = {
            train: Route(row, use.home, rank, use.overlaps if train else ()) for train, row in rows
        }
        channels = {channel for route in self.routes.values() for channel in route.channels()}
        self.messages.use(channels | self.worker.tied.use(use.home))
        halves = {action.stage for action in use.rows[True] if action.kind is Kind.I}
        for number, stage in self.worker.stages.items():
            stage.splits = number in halves
        if self.other is not None:
            self.other.use(use.csv)
        pace = Pace(use.pace, self.clock, use.overlap)
        self.worker.follow(self.routes.values(), pace)
        self.recorder.clock = pace if pace.is_on else self.clock
        if pace.is_on:
            self.affinity.release()
        else:
            self.affinity.bind()

    def take(self, run: Run) -> Done:
        """Run one batch: follow the schedule, and report."""
        worker, profiler = self.worker, self._profiler(run)
        self._begin(run)
        self.affinity.begin_step()
        stages = worker.stages.values()
        with profiler, torch.set_grad_enabled(run.train), _mode(stages, run.train):
            if self.other is not None and run.train:
                worker.pace.together = {}  # torch runs what overlaps one after the other
                self.other.run(worker.batch)
                worker.actions = [a for a in worker.actions if a.kind in PER_STAGE]
            worker.run_step()
        self.messages.finish(self.recorder.blocked_on)
        worker.tied.finish()
        worker.shared.after_batch(worker.stages.keys(), run.train)
        if not worker.pace.is_on:
            self.affinity.end_step(worker.batch.part.num_computing)
        return self._report(profiler)

    def _begin(self, run: Run) -> None:
        """Prepare one batch."""
        worker, route = self.worker, self.routes[run.train]
        self.clock.begin()
        self.messages.begin(run, stamped=worker.pace.is_on)
        worker.data_parallel.begin(by_host=self.messages.is_by_host)
        if run.train and run.fresh:
            for stage in worker.stages.values():
                for parameter in stage.parameters:
                    parameter.grad = None
        worker.begin(Batch(run, route, self.device))  # [4]

    def _profiler(self, run: Run) -> StepProfiler:
        """Off unless this step is profiled; in a folder each rank's file has its number."""
        name = f"rank{self.worker.recorder.rank}_trace.json.gz"
        path = os.path.join(run.profile_folder, name) if run.profile_folder else ""
        return StepProfiler(run.profiled, self.clock, path)

    def _report(self, profiler: StepProfiler) -> Done:
        """The answer after a batch."""
        worker = self.worker
        return Done(  # [12]
            loss=worker.batch.loss,
            outputs=worker.batch.collected,
            events=self.recorder.take(),
            memory=worker.memory.lasting,
            allocated=self._allocated(),
            gradient_norm=worker.update.gradient_norm,
            disturbance=worker.pace.disturbance,
            skipped=worker.update.skips,
            seen=profiler.found,
            clock_error=profiler.clock_error,
        )

    @property
    def is_paced(self) -> bool:
        """Whether actions take the time of a cost: else there is nothing to settle."""
        return self.worker.pace.is_on

    def settle(self) -> None:
        """No command waits: let the paced device end its work before the answer is given.

        With the next step at hand a rank continues at once, as it would with a real device.
        """
        self.worker.pace.settle()
        self.worker.pace.is_idle = True

    def load(self, command: Load) -> None:
        """Replace the parameters and the optimizers' state."""
        worker = self.worker
        load_state(worker.stages, command.parameters)
        if command.optimizer is not None:
            worker.update.load(command.optimizer)
        loaded = sum(map(worker.update.state_bytes, worker.stages))
        worker.memory.held[Part.OPTIMIZER] = loaded
        worker.shared.remember()
        worker.tied.remember()

    def close(self) -> None:
        """Release NCCL; the process may stay, under torchrun."""
        self.messages.close()
        self.worker.data_parallel.close()

    def _allocated(self) -> int:
        """The most bytes that CUDA's allocator had given out in this step."""
        if self.device.type != "cuda":
            return 0
        peak = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    def fetch(self, what: str) -> dict[str, Any]:
        """What this rank's stages hold, under the model's own names."""
        if what == "optimizer":
            return self.worker.update.state()
        return {name: map_tensors(Tensor.cpu, value) for name, value in self._find(what).items()}

    def _find(self, what: str) -> dict[str, Any]:
        modules = [stage.module for stage in self.worker.stages.values()]
        if what == "gradients":
            scale = self.worker.update.gradient_scale
            return {name: g.to_dense() / scale for name, g in self.worker.tied.gradients()}
        state = {n: value for module in modules for n, value in module.state_dict().items()}
        if what == "shapes":
            return {name: _shape(name, value) for name, value in state.items()}
        return {n: v.detach() if isinstance(v, Tensor) else v for n, v in state.items()}


def _shape(name: str, value: object) -> torch.Size | None:
    """The shape that a state must have there; None for the extra state of a layer: any."""
    if isinstance(value, Tensor) and not name.endswith(EXTRA_STATE):
        return value.shape
    return None


@contextmanager
def _mode(stages: Iterable[Stage], train: bool) -> Iterator[None]:
    """Evaluate in eval mode and put each module's own mode back; training leaves it alone."""
    modules = [] if train else [module for stage in stages for module in stage.module.modules()]
    before = [module.training for module in modules]
    for module in modules:
        module.training = False
    yield
    for module, training in zip(modules, before, strict=True):
        module.training = training

"""One rank's side of the conversation: each command of the parent, and its answer."""

import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pipelab.action import COMPUTE, MESSAGES, PER_STAGE, Kind
from pipelab.engine.protocol import tree
from pipelab.engine.protocol.commands import Build, Done, Failed, Fetch, GetProfiler, Load, Run, Use
from pipelab.engine.protocol.device import device_of, watch_for
from pipelab.engine.rank.affinity import Seat
from pipelab.engine.rank.batch import Batch, Route
from pipelab.engine.rank.data_parallel import DataParallel, ReduceError
from pipelab.engine.rank.losses import on_device
from pipelab.engine.rank.memory_budget import OverBudget
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.profiler import Operators
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.stage import Stage
from pipelab.engine.rank.update import load_parameters
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport.backends import Channels, MessageError, Tagged, Transport
from pipelab.engine.transport.groups import Groups, nccl
from pipelab.engine.transport.p2p import Messages
from pipelab.trace import Memory

if TYPE_CHECKING:
    from pipelab.engine.rank.torch_worker import TorchSteps


def open_session(
    recorder: Recorder, groups: Groups, seat: Seat, build: Build, timeout: float
) -> "Session":
    """A rank that has met the others and knows its stages: its device, its ways to the others."""
    place, rank = build.options.place, recorder.rank
    device = device_of(place, rank)
    transport: Transport
    transport = host = Tagged(groups.everyone, device)
    replicas, gpus = groups.replicas, None
    if place.is_ordered:
        transport = Channels(rank, device, groups.store, timeout)
        if replicas is not None:
            number, size = replicas.rank(), replicas.size()
            name = f"replicas of rank {rank % (groups.everyone.size() // size)}"
            gpus = nccl(groups.store, name, number, size, device, timeout)
    messages = Messages(transport, host, build.num_stages, timeout)
    data_parallel = DataParallel(replicas, groups.pipeline, timeout, gpus, device)
    session = Session(recorder, messages, data_parallel, seat, device, build)
    if build.options.worker == "torch":
        from pipelab.engine.rank.torch_worker import (
            TorchSteps,  # loads what other ranks do not need
        )

        session.torch = TorchSteps(session.worker, groups.pipeline or groups.everyone, timeout)
    return session


def last_words(recorder: Recorder, error: BaseException) -> Failed:
    """What went wrong, where, with the traceback as this rank saw it."""
    return Failed(
        action=recorder.action.token if recorder.action else None,
        summary=f"{type(error).__name__}: {error}".rstrip(": "),
        details="".join(traceback.format_exception(error)),
        echo=isinstance(error, (MessageError, ReduceError)),
        out_of_memory=isinstance(error, (OverBudget, torch.OutOfMemoryError)),
    )


class Session:
    """A rank between its steps."""

    def __init__(
        self, recorder: Recorder, messages: Messages, data_parallel: DataParallel, seat: Seat,
        device: torch.device, build: Build,
    ):  # fmt: skip
        self.device = device
        for module in build.stages.values():
            module.to(device)
        build = replace(
            build, options=replace(build.options, loss=on_device(build.options.loss, device))
        )
        self.watch = watch_for(device)
        self.recorder = recorder
        self.seat = seat
        self.messages = messages
        recorder.keeps = build.options.record
        self.worker = Worker(recorder, messages, data_parallel, seat, build)
        self.torch: TorchSteps | None = None
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
                with Operators():
                    return Done()
            case Load():
                load_parameters(self.worker.stages, command.parameters)
                update = self.worker.update
                update.load(command.optimizer)
                state = sum(map(update.state_bytes, self.worker.stages))
                self.worker.ledger.held["optimizer state"] = state
                return Done()
            case _:
                raise TypeError(f"unknown command {type(command).__name__}")

    def use(self, use: Use) -> None:
        """Follow another schedule from now on."""
        self.routes = {train: Route(row, use.home) for train, row in use.rows.items()}
        ways = (route.channels(self.recorder.rank) for route in self.routes.values())
        self.messages.transport.open(channel for way in ways for channel in way)
        self.messages.use()
        halves = {action.stage for action in use.rows[True] if action.kind is Kind.I}
        for number, stage in self.worker.stages.items():
            stage.splits = number in halves
        if self.torch is not None:
            self.torch.use(use.csv)
        self.worker.pace, self.worker.overlap = Pace(use.pace, self.watch), use.overlap
        self.recorder.watch = self.worker.pace if use.pace else self.watch
        self.recorder.clock = self.worker.pace.now if use.pace else time.monotonic
        # what a paced rank prepares beside its busy device is not what it is in
        self.recorder.untold = MESSAGES | {Kind.REDUCE_GRAD} if use.pace else frozenset()
        (self.seat.leave if use.pace else self.seat.take)()

    def take(self, run: Run) -> Done:
        """Run one batch: follow the schedule, and report."""
        worker, stages = self.worker, self.worker.stages.values()
        paced = worker.pace.cost is not None
        self.watch.begin()
        self.messages.begin(run, stamped=paced)
        worker.data_parallel.begin(by_host=self.messages.is_by_host)
        route = self.routes[run.train]
        if run.train and run.fresh:
            for parameter in (p for stage in stages for p in stage.parameters):
                parameter.grad = None
        worker.begin(Batch(run, self.device), route, route.actions(len(run.sizes), run.update))
        computing = max(1, sum(a.kind in COMPUTE for a in worker.actions))
        self.seat.begin()
        seen = Operators(run.profiled, self.watch)
        with seen, torch.set_grad_enabled(run.train), _mode(stages, run.train):
            if self.torch is not None and run.train:
                self.torch.run(worker.batch)
                worker.actions = [a for a in worker.actions if a.kind in PER_STAGE]
            worker.run_step()
            worker.pace.settle()
        self.messages.finish(self.recorder.held_by)
        if not paced:
            self.seat.end(computing)
        held = worker.ledger.held
        return Done(
            loss=worker.batch.loss,
            outputs=tree.to(worker.batch.collected, "cpu"),
            events=self.recorder.take(),
            memory=Memory(held["parameters"], held["gradients"], held["optimizer state"]),
            allocated=self._allocated(),
            gradient_norm=worker.gradient_norm,
            overruns=worker.pace.overruns,
            skipped=worker.update.skips,
            seen=seen.found,
            clock_error=seen.clock_error,
        )

    def close(self) -> None:
        """Let NCCL go; the process may stay, under torchrun."""
        self.messages.transport.close()
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
        return {name: tree.to(value, "cpu") for name, value in self._find(what).items()}

    def _find(self, what: str) -> dict[str, Any]:
        if what == "optimizer":
            return self.worker.update.state()
        modules = [stage.module for stage in self.worker.stages.values()]
        if what == "gradients":
            named = ((n, p.grad) for module in modules for n, p in module.named_parameters())
            update = self.worker.update
            scale = update.loss_scale.scale if update.loss_scale and update.is_scaled else 1.0
            return {name: g.to_dense() / scale for name, g in named if g is not None}
        return {n: t.detach() for module in modules for n, t in module.state_dict().items()}


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

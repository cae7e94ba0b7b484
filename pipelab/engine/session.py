"""One rank's side of the conversation: each command of the parent, and its answer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelab.engine.batch import Batch
from pipelab.engine.commands import Build, Done, Fetch, Load, Run, Use
from pipelab.engine.cores import Seat
from pipelab.engine.data_parallel import DataParallel
from pipelab.engine.p2p import Messages
from pipelab.engine.pace import Pace
from pipelab.engine.recorder import Recorder
from pipelab.engine.route import Route
from pipelab.engine.stage import Stage
from pipelab.engine.update import load_parameters
from pipelab.engine.worker import Worker
from pipelab.trace import Memory


class Session:
    """A rank between its steps."""

    def __init__(
        self, recorder: Recorder, messages: Messages, data_parallel: DataParallel, seat: Seat,
        build: Build,
    ):  # fmt: skip
        self.recorder = recorder
        self.seat = seat
        self.messages = messages
        recorder.keeps = build.options.record
        self.worker = Worker(recorder, messages, data_parallel, build)
        self.routes: dict[bool, Route] = {}

    def answer(self, command: object) -> Done:
        """Do what a command asks."""
        match command:
            case Use():
                rows = {True: command.step, False: command.forward}
                self.routes = {train: Route(row, command.home) for train, row in rows.items()}
                self.worker.pace, self.worker.overlap = Pace(command.pace), command.overlap
                (self.seat.leave if command.pace else self.seat.take)()
                return Done()
            case Run():
                return self.take(command)
            case Fetch(what=what):
                return Done(found=self.fetch(what))
            case Load():
                load_parameters(self.worker.stages, command.parameters)
                update = self.worker.update
                update.load(command.optimizer)
                state = sum(map(update.state_bytes, self.worker.stages))
                self.worker.ledger.held["optimizer state"] = state
                return Done()
            case _:
                raise TypeError(f"unknown command {type(command).__name__}")

    def take(self, run: Run) -> Done:
        """Run one batch: follow the schedule, and report."""
        worker, stages = self.worker, self.worker.stages.values()
        route = self.routes[run.train]
        if run.train and run.fresh:
            for parameter in (p for stage in stages for p in stage.parameters):
                parameter.grad = None
        self.messages.begin(run.signature, run.train, stamped=worker.pace.cost is not None)
        worker.begin(Batch(run), route, route.actions(len(run.sizes), run.update))
        with torch.set_grad_enabled(run.train), _mode(stages, run.train):
            worker.run_step()
        self.messages.finish()
        held = worker.ledger.held
        return Done(
            loss=worker.batch.loss,
            outputs=worker.batch.collected,
            events=self.recorder.take(),
            memory=Memory(held["parameters"], held["gradients"], held["optimizer state"]),
            gradient_norm=worker.gradient_norm,
            overruns=worker.pace.overruns,
        )

    def fetch(self, what: str) -> dict[str, Any]:
        """What this rank's stages hold, under the model's own names."""
        if what == "optimizer":
            return self.worker.update.state()
        modules = [stage.module for stage in self.worker.stages.values()]
        if what == "gradients":
            named = ((n, p.grad) for module in modules for n, p in module.named_parameters())
            return {name: gradient for name, gradient in named if gradient is not None}
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

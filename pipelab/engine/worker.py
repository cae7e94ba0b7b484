"""What one rank runs: it takes commands from the parent, and for a step follows its schedule.

    wait for the message that the action needs  ->  run the action  ->  next

``run_step`` is the engine. Everything else here says what each kind of action does.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pipelab.action import COMPUTE, Action, Kind, produces
from pipelab.engine.commands import Build, Done, Run, Use
from pipelab.engine.memory import held_by
from pipelab.engine.p2p import Messages
from pipelab.engine.recorder import Recorder, waiting_for
from pipelab.engine.stage import Stage, mean_loss


class Worker:
    """One rank: its stages, its row of the schedule, its messages and its recorder."""

    def __init__(self, recorder: Recorder, messages: Messages, build: Build):
        self.rank = recorder.rank
        self.last_stage = build.num_stages - 1
        self.loss = build.loss
        self.stages = {
            number: Stage(module, build.loss if number == self.last_stage else None, number == 0)
            for number, module in build.stages.items()
        }
        self.optimizers = {
            number: build.optimizer(parameters)
            for number, module in build.stages.items()
            if build.optimizer and (parameters := list(module.parameters()))
        }
        self.messages = messages
        self.recorder = recorder
        self.run = {
            Kind.RECV_F: self.post_receive,
            Kind.RECV_B: self.post_receive,
            Kind.F: self.forward,
            Kind.B: self.backward,
            Kind.I: self.backward_input,
            Kind.W: self.backward_weight,
            Kind.SEND_F: self.send,
            Kind.SEND_B: self.send,
            Kind.STEP: self.optimizer_step,
        }

    def run_step(self) -> None:
        """Run this rank's actions, in order. This loop is the engine."""
        for action in self.actions:
            self.wait_for_input(action)
            with self.recorder.record(action):
                self.run[action.kind](action)
                self.hold(action)

    def wait_for_input(self, action: Action) -> None:
        """Block until the message that F or B needs has come: recorded as WAIT, not as work."""
        recv = self.needs_message.get(action)
        if recv is not None:
            with self.recorder.record(waiting_for(action)):
                message, peer = self.messages.wait(recv, self.rows(action))
                self.recorder.note(peer=peer)
            self.arrived[produces(action)] = message

    def post_receive(self, action: Action) -> None:
        """RECV: open a buffer for a message to come. Never blocks."""
        peer = self.peer(action)
        self.messages.post(action, peer, self.rows(action))
        self.recorder.note(peer=peer)

    def forward(self, action: Action) -> None:
        """F: from the stage's input to its output, or on the last stage to the loss."""
        stage, microbatch = self.stages[action.stage], self.microbatch(action)
        first = action.stage == 0
        inputs = self.inputs[microbatch] if first else self.arrived.pop(action)
        if not self.training:
            self.pass_on(action, self.evaluate(stage, microbatch, inputs))
        elif action.stage == self.last_stage:
            output = stage.forward(
                microbatch, inputs, self.targets[microbatch], self.weights[microbatch]
            )
            self.losses.append(output.detach())
        else:
            self.pass_on(action, stage.forward(microbatch, inputs))
        self.recorder.note(bytes=stage.kept_bytes(inputs) if self.training else 0)

    def backward(self, action: Action) -> None:
        """B: from the output's gradient to those of the weights, kept, and of the input, sent."""
        gradient = self.arrived.pop(produces(action), None)
        stage, microbatch = self.stages[action.stage], self.microbatch(action)
        self.pass_back(action, stage.backward(microbatch, gradient))

    def backward_input(self, action: Action) -> None:
        """I: from the output's gradient to that of the input, sent at once."""
        gradient = self.arrived.pop(action, None)
        stage, microbatch = self.stages[action.stage], self.microbatch(action)
        self.pass_back(action, stage.backward_input(microbatch, gradient))

    def backward_weight(self, action: Action) -> None:
        """W: the gradients of the weights, for which nobody waits."""
        self.stages[action.stage].backward_weight(self.microbatch(action))

    def pass_back(self, action: Action, input_gradient: Tensor | None) -> None:
        """Pass on the gradient of the input, where there is a stage before."""
        if action.stage > 0:
            if input_gradient is None:
                raise RuntimeError(
                    f"no gradient reaches the input of stage {action.stage}: its output does not "
                    f"depend on it; check for detach() or integer outputs between layers"
                )
            self.pass_on(action, input_gradient)

    def send(self, action: Action) -> None:
        """SEND: start to hand a result to the next rank. Never blocks."""
        tensor, peer = self.leaving.pop(action), self.peer(action)
        self.messages.send(action, tensor, peer, self.rows(action))
        self.recorder.note(bytes=tensor.nbytes, peer=peer)

    def optimizer_step(self, action: Action) -> None:
        """STEP: one step of the stage's own optimizer, with the gradients of all microbatches."""
        if action.stage in self.optimizers:
            self.optimizers[action.stage].step()

    def hold(self, action: Action) -> None:
        """When paced: stay in the action until a device of that speed would be through."""
        if self.pace is not None and action.kind in COMPUTE:
            until = self.recorder.start + self.pace.seconds(action)
            if (left := until - time.monotonic()) > 0:
                time.sleep(left)

    def evaluate(self, stage: Stage, microbatch: int, inputs: Tensor) -> Tensor:
        """A forward that keeps nothing; the last stage also takes the loss, if targets came."""
        output: Tensor = stage.module(inputs)
        if stage.loss is not None:
            if self.targets:
                value = mean_loss(stage.loss, output, self.targets[microbatch])
                self.losses.append(value * self.weights[microbatch])
            self.outputs.append(output)
        return output

    def pass_on(self, action: Action, result: Tensor) -> None:
        """Lay a result where its next user finds it: in the mail, or on this very rank."""
        stage, kind, microbatch = action
        forward = kind is Kind.F
        to = stage + 1 if forward else stage - 1
        if to > self.last_stage:
            return
        if self.home[to] == self.rank:
            # a copy, as a message is one: the next stage may work on it in place
            copy = result.detach().clone()
            self.arrived[Action(to, Kind.F if forward else Kind.I, microbatch)] = copy
        else:
            send = Kind.SEND_F if forward else Kind.SEND_B
            self.leaving[Action(stage, send, microbatch)] = result

    def peer(self, action: Action) -> int:
        """The rank at the other end of a message."""
        forward = action.kind in (Kind.SEND_F, Kind.RECV_B)
        return self.home[action.stage + (1 if forward else -1)]

    def microbatch(self, action: Action) -> int:
        """The action's microbatch; STEP alone has none."""
        assert action.microbatch is not None
        return action.microbatch

    def rows(self, action: Action) -> int:
        """Rows of the action's microbatch."""
        return self.sizes[self.microbatch(action)]

    # -- between steps -------------------------------------------------------------------------

    def use(self, use: Use) -> None:
        """Follow this row of a schedule from now on."""
        self.rows_of = {True: use.step, False: use.forward}
        self.receives = {train: _receives(row) for train, row in self.rows_of.items()}
        self.home, self.pace = use.home, use.pace

    def take(self, command: Run) -> Done:
        """Run one batch: forget the last one's gradients, follow the schedule, report."""
        self.begin(command)
        with torch.set_grad_enabled(command.train), _mode(self.stages.values(), command.train):
            self.run_step()
        self.messages.finish(self.sizes, self.training)
        return Done(
            loss=sum(loss.item() for loss in self.losses) if self.losses else None,
            outputs=torch.cat(self.outputs) if command.collect and self.outputs else None,
            events=self.recorder.take(),
            memory=held_by((s.module for s in self.stages.values()), self.optimizers.values()),
        )

    def begin(self, command: Run) -> None:
        """Lay out one batch; one of fewer microbatches than the schedule has runs the first."""
        self.training = command.train
        self.sizes, self.weights = command.sizes, command.weights
        row = self.rows_of[command.train]
        self.actions = [a for a in row if (a.microbatch or 0) < len(command.sizes)]
        self.needs_message = self.receives[command.train]
        self.inputs = _cut(command.inputs, command.sizes)
        self.targets = _cut(command.targets, command.sizes)
        self.arrived: dict[Action, Tensor] = {}
        self.leaving: dict[Action, Tensor] = {}
        self.losses: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.messages.begin(command.signature)
        if command.train:
            for stage in self.stages.values():
                stage.module.zero_grad(set_to_none=True)

    def tensors(self, what: str) -> dict[str, Tensor]:
        """``"gradients"`` or ``"state"`` of this rank's stages, under the model's own names."""
        modules = [stage.module for stage in self.stages.values()]
        if what == "gradients":
            named = ((n, p.grad) for module in modules for n, p in module.named_parameters())
            return {name: gradient for name, gradient in named if gradient is not None}
        return {n: t.detach() for module in modules for n, t in module.state_dict().items()}


def _cut(batch: Tensor | None, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """(rows, ...) into microbatches of these sizes; views, no copies."""
    return () if batch is None else torch.split(batch, list(sizes))


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


def _receives(actions: tuple[Action, ...]) -> dict[Action, Action]:
    """For each F and B that needs a message: the RECV that posts it."""
    posted = set(actions)
    kinds = {Kind.F: Kind.RECV_F, Kind.B: Kind.RECV_B, Kind.I: Kind.RECV_B}
    pairs = ((a, a._replace(kind=kinds[a.kind])) for a in actions if a.kind in kinds)
    return {action: recv for action, recv in pairs if recv in posted}

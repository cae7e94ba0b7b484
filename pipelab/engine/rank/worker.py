"""What one rank runs in a step: its row of the schedule, action after action.

    wait for what the action needs  ->  run the action  ->  next

``run_step`` is the engine. Everything else here says what each kind of action does.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pipelab.action import COMPUTE, Action, Kind, produces
from pipelab.engine.protocol import tree
from pipelab.engine.protocol.commands import Build
from pipelab.engine.protocol.progress import Wanted
from pipelab.engine.rank.affinity import Seat
from pipelab.engine.rank.batch import Batch, Route, number, sent_as
from pipelab.engine.rank.data_parallel import DataParallel, Reduction
from pipelab.engine.rank.memory_budget import Ledger
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.recorder import Recorder, waiting_for
from pipelab.engine.rank.stage import Stage
from pipelab.engine.rank.update import Update
from pipelab.engine.transport.p2p import Messages

__all__ = ["Worker"]  # lesson 3 prints its loop

_BUSY = COMPUTE | {Kind.STEP}  # what keeps a device busy; the rest goes on beside it


class Worker:
    """One rank: its stages, its row of the schedule, its messages and its recorder."""

    def __init__(
        self, recorder: Recorder, messages: Messages, data_parallel: DataParallel, seat: Seat,
        build: Build,
    ):  # fmt: skip
        self.rank = recorder.rank
        self.seat = seat
        self.last_stage = build.num_stages - 1
        self.stages = {
            number: Stage(number, module, number == self.last_stage, build.options)
            for number, module in build.stages.items()
        }
        self.messages = messages
        self.stop_at_nan = build.options.stop_at_nan
        self.pace = Pace(None)
        self.overlap = True
        self.data_parallel = data_parallel
        self.update = Update(self.stages, build.options, data_parallel)
        self.recorder = recorder
        parameters = sum(p.nbytes for s in self.stages.values() for p in s.parameters)
        self.ledger = Ledger(parameters, build.options.memory_budget)
        self.run = {
            Kind.RECV_F: self.post_receive,
            Kind.RECV_B: self.post_receive,
            Kind.F: self.forward,
            Kind.B: self.backward,
            Kind.I: self.backward_input,
            Kind.W: self.backward_weight,
            Kind.SEND_F: self.send,
            Kind.SEND_B: self.send,
            Kind.REDUCE_GRAD: self.reduce_gradients,
            Kind.STEP: self.optimizer_step,
        }

    def begin(self, batch: Batch, route: Route, actions: Sequence[Action]) -> None:
        """Lay out one step."""
        self.batch, self.route, self.actions = batch, route, actions
        self.reductions: list[tuple[Reduction, int, float]] = []  # with their event and due time
        self.update.begin()
        self.others_count = batch.train and self.update.needs_all  # before the first STEP
        self.gradient_norm: float | None = None
        self.old_gradients = {n: stage.gradient_bytes() for n, stage in self.stages.items()}
        self.has_gradients: set[int] = set()
        self.ledger.begin(sum(self.old_gradients.values()))
        self.pace.begin()

    def run_step(self) -> None:
        """Run this rank's actions, in order. This loop is the engine."""
        for action in self.actions:
            self.wait_for_others(action)
            with self.recorder.record(action):
                self.run[action.kind](action)

    def wait_for_others(self, action: Action) -> None:
        """Block until what the action needs from other ranks is there.

        Recorded as WAIT, not as work: a message for F, B and I; the gradients of the replicas,
        and the norm of the whole model, for the first STEP.
        """
        if action.kind in _BUSY:
            self.seat.give_way()
            self.pace.make_ready(action)
        recv = self.route.needs_message.get(action)
        if recv is not None:
            wanted = Wanted(sent_as(recv), self.route.peer(recv))
            with self.recorder.record(waiting_for(action), wanted):
                self.take_message(action, recv)
            self.pace.make_ready(action)
        elif action.kind is Kind.STEP and (self.reductions or self.others_count):
            with self.recorder.record(waiting_for(action)):
                self.settle_gradients()

    def take_message(self, action: Action, recv: Action) -> None:
        """Lay a message where its action finds it."""
        message, stamp, peer = self.messages.wait(recv, self.batch.rows(action))
        self.pace.message_came(sent_as(recv), stamp)
        if action.kind is Kind.F:
            self.batch.values[action] = message
        else:
            self.batch.gradients[produces(action)] = message
        self.recorder.note(peer=peer)

    def post_receive(self, action: Action) -> None:
        """RECV: open a buffer for a message to come. Never blocks."""
        peer = self.route.peer(action)
        self.note(action, self.messages.post(action, peer, self.batch.rows(action)), peer)

    def forward(self, action: Action) -> None:
        """F: from the stage's input to its output, or on the last stage to the loss."""
        stage, microbatch = self.stages[action.stage], number(action)
        tensors, form = self.batch.input_of(action)
        if not self.batch.train:
            output, kept = self.evaluate(stage, microbatch, tree.put_together(tensors, form)), 0
        else:
            is_last = stage.loss is not None
            target = self.batch.targets[microbatch] if is_last else None
            stage.seed(self.batch.run.number, self.batch.run.first + microbatch)
            weight = self.batch.run.weights[microbatch]
            output, kept = stage.forward(microbatch, tensors, form, target, weight)
            if is_last:
                self.batch.losses.append(output.detach())
        if self.stop_at_nan:
            tree.check_finite("output", output)
        self.pass_on(action, output)
        self.keep_busy(action)
        self.note(action, kept)

    def backward(self, action: Action) -> None:
        """B: from the output's gradient to those of the weights, kept, and of the input, sent."""
        gradients = self.batch.gradients.pop(produces(action), [])
        stage = self.stages[action.stage]
        self.pass_back(action, stage.backward(number(action), gradients))
        self.keep_busy(action)
        self.note(action, self.new_gradient_bytes(stage))

    def backward_input(self, action: Action) -> None:
        """I: from the output's gradient to that of the input, sent at once."""
        gradients = self.batch.gradients.pop(action, [])
        stage = self.stages[action.stage]
        self.pass_back(action, stage.backward_input(number(action), gradients))
        self.keep_busy(action)
        self.note(action, 0)

    def backward_weight(self, action: Action) -> None:
        """W: the gradients of the weights, for which nobody waits."""
        stage = self.stages[action.stage]
        stage.backward_weight(number(action))
        self.keep_busy(action)
        self.note(action, self.new_gradient_bytes(stage))

    def send(self, action: Action) -> None:
        """SEND: start to hand a result to the next rank. Blocks only without ``overlap``."""
        value, peer = self.batch.leaving.pop(action), self.route.peer(action)
        size = self.messages.send(action, value, peer, self.batch.rows(action), self.pace.due)
        self.seat.give_way()
        until = self.pace.under_way(action)
        if not self.overlap:
            self.messages.block(action, self.batch.rows(action))
            self.pace.block(action)
        self.note(action, size, peer, until)

    def reduce_gradients(self, action: Action) -> None:
        """REDUCE_GRAD: start to add up a stage's gradients over its replicas. Never blocks."""
        reduction = self.data_parallel.start(self.stages[action.stage].module)
        if reduction is not None:
            due = self.pace.under_way(action)
            self.reductions.append((reduction, len(self.recorder.events), due))
            self.note(action, reduction.bytes)

    def settle_gradients(self) -> None:
        """Before the first STEP: all gradients are whole, and none is too large."""
        for reduction, place, due in self.reductions:
            ended = self.data_parallel.finish(reduction)
            self.pace.wait_until(due)
            self.recorder.end_at(place, ended, due)
        self.reductions.clear()
        if self.others_count:
            self.gradient_norm = self.update.settle()
            self.others_count = False

    def optimizer_step(self, action: Action) -> None:
        """STEP: one step of the stage's own optimizer, with the gradients of all microbatches."""
        grown = self.update.step(action.stage)
        self.keep_busy(action)
        self.note(action, grown)

    def evaluate(self, stage: Stage, microbatch: int, inputs: Any) -> Any:
        """A forward that keeps nothing; the last stage also takes the loss, if targets came."""
        output = stage.evaluate(inputs)
        if stage.loss is not None:
            if self.batch.targets:
                target, weight = self.batch.targets[microbatch], self.batch.run.weights[microbatch]
                self.batch.losses.append(stage.weighted_loss(output, target, weight))
            self.batch.outputs.append(output)
        return output

    def pass_on(self, action: Action, output: Any) -> None:
        """Lay an output where the next stage finds it: in the mail, or on this very rank."""
        stage, _, microbatch = action
        if stage == self.last_stage:
            return
        tensors, form = tree.take_apart(output)
        if self.route.home[stage + 1] == self.rank:
            # copies, as a message is one: the next stage may work on them in place
            copies = [tensor.detach().clone() for tensor in tensors]
            self.batch.values[Action(stage + 1, Kind.F, microbatch)] = copies, form
        else:
            self.batch.leaving[Action(stage, Kind.SEND_F, microbatch)] = tensors, form

    def pass_back(self, action: Action, gradients: list[Tensor]) -> None:
        """Lay the gradients of the input where the stage before finds them."""
        if self.stop_at_nan:
            tree.check_finite("gradient", gradients)
        stage, _, microbatch = action
        if stage == 0:
            return
        if self.route.home[stage - 1] == self.rank:
            self.batch.gradients[Action(stage - 1, Kind.I, microbatch)] = gradients
        else:
            self.batch.leaving[Action(stage, Kind.SEND_B, microbatch)] = gradients

    def keep_busy(self, action: Action) -> None:
        """When paced: the action lasts until a device of that speed would be through."""
        if self.pace.cost is not None:
            self.pace.keep_busy(action, self.pace.seconds(self.recorder.start))

    def note(self, action: Action, bytes: int, peer: int | None = None, until: float = 0.0) -> None:
        """Tell the recorder, and the ledger, what an action found out about itself."""
        self.recorder.note(bytes, peer, until)
        self.ledger.note(action, bytes)

    def new_gradient_bytes(self, stage: Stage) -> int:
        """Bytes of gradients that the first backward of a stage brings into being."""
        if stage.number in self.has_gradients:
            return 0
        self.has_gradients.add(stage.number)
        return stage.gradient_bytes() - self.old_gradients[stage.number]

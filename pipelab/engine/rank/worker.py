"""What one rank runs in a step: its row of the schedule, action after action.

    wait for what the action needs  ->  run the action  ->  next

``run_step`` is the engine. Everything else here says what each kind of action does. What is
recorded of it, and what else happens around it, is in recorder.py.
"""

import time
from collections.abc import Iterable, Set

from pipelab.action import BUSY, MESSAGES, SENDS, Action, Kind
from pipelab.engine.protocol.commands import Build
from pipelab.engine.protocol.progress import Wanted
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.batch import Batch, Need, Route
from pipelab.engine.rank.data_parallel import DataParallel, Reduction
from pipelab.engine.rank.memory_budget import MemoryBudget
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.recorder import After, Before, Recorder, waiting_for
from pipelab.engine.rank.shared_objects import SharedObjects
from pipelab.engine.rank.stage import Stage
from pipelab.engine.rank.tied_weights import TiedWeights
from pipelab.engine.rank.update import Update
from pipelab.engine.transport.rank_messages import Messages, number
from pipelab.partition.tree import flatten

__all__ = ["Worker"]  # lesson 3 prints its loop


class Worker:
    """One rank: its stages, its row of the schedule, its messages and its recorder."""

    def __init__(
        self, recorder: Recorder, messages: Messages, data_parallel: DataParallel,
        affinity: Affinity, build: Build,
    ):  # fmt: skip
        last = build.num_stages - 1
        self.stages = {
            number: Stage(number, module, number == last, build.options)
            for number, module in build.stages.items()
        }
        self.num_stages = build.num_stages
        self.messages = messages
        self.data_parallel = data_parallel
        self.tied = TiedWeights(
            build.sharing.ties, self.stages, messages, hands_on=build.options.optimizer is not None
        )
        self.shared = SharedObjects(build.sharing.objects)
        self.update = Update(self.stages, build.options, data_parallel)
        self.recorder = recorder
        self.affinity = affinity
        self.yields = not build.options.place.is_shared  # to gloo's threads, which carry messages
        parameters = sum(p.nbytes for s in self.stages.values() for p in s.parameters)
        self.memory = MemoryBudget(parameters, build.options.memory_budget)
        self.pace = Pace(None)
        self.run = {
            Kind.RECV_F: self.receive,
            Kind.RECV_B: self.receive,
            Kind.F: self.forward,
            Kind.B: self.backward,
            Kind.I: self.backward_input,
            Kind.W: self.backward_weight,
            Kind.SEND_F: self.send,
            Kind.SEND_B: self.send,
            Kind.REDUCE_GRAD: self.reduce_gradients,
            Kind.STEP: self.optimizer_step,
        }

    def follow(self, routes: Iterable[Route], pace: Pace) -> None:
        """Run these rows from now on, and keep actions and messages to these times."""
        self.pace = pace
        before: dict[Before, Set[Kind]] = {}
        after: dict[After, Set[Kind]] = {}
        if self.yields:
            before[self.affinity.before] = BUSY
        if pace.is_on:
            before[pace.before], after[pace.after] = BUSY | {Kind.WAIT}, BUSY | SENDS
        after[self.memory.after] = self.memory.counted
        if self.yields:
            after[self.affinity.after] = SENDS
        # what a paced rank prepares while its device is busy is not what it is in
        hidden = MESSAGES | {Kind.REDUCE_GRAD} if pace.is_on else frozenset()
        blocks = {send: wanted for route in routes for send, wanted in route.blocks.items()}
        self.recorder.follow(before, after, hidden, blocks)

    def begin(self, batch: Batch) -> None:
        """Prepare one step."""
        self.batch, self.route = batch, batch.route
        self.actions, _, self.pace.together, self.needs = batch.part
        self.reductions: list[tuple[Reduction, int, float]] = []  # with their event and due time
        self.tied_reductions: list[tuple[int, float]] = []
        self.tied.begin(batch.train)
        self.update.begin(batch.train)
        held = sum(stage.begin_step(batch.run.trial) for stage in self.stages.values())
        self.memory.begin_step(held)
        self.pace.begin_step(batch.run.asked)

    def run_step(self) -> None:
        """Run this rank's actions, in order. This loop is the engine."""
        for action in self.actions:
            self.wait_for_others(action)
            with self.recorder.record(action):
                self.run[action.kind](action)

    def wait_for_others(self, action: Action) -> None:
        """Block until what the action needs from other ranks is there.

        Recorded as WAIT, not as work: a message for F, B and I; the gradients of the replicas and
        of tied weights, and the norm of the whole model, for the first STEP; a tied weight's new
        value for the STEP of its other stages.
        """
        if (needs := self.needs.get(action)) is None:
            return
        for need in needs:
            with self.recorder.record(need.wait):
                self.take_message(need)  # [6]
        if action.kind is Kind.STEP:
            if self.reductions or self.tied_reductions or self.update.must_settle:
                with self.recorder.record(waiting_for(action)):
                    self.settle_gradients()
            self.take_tied_weights(action)

    def take_message(self, need: Need) -> None:
        """Take a message that was posted before; its action will find it in the batch."""
        rows = self.batch.rows[need.action.microbatch]
        content, stamp = self.messages.wait(need.recv, rows)
        self.pace.message_came(need.wanted.message, stamp)
        self.batch.arrived(need.action, content)

    def receive(self, action: Action) -> None:
        """RECV: open a buffer for a message to come. Never blocks."""
        peer = self.route.peers[action]
        size = self.messages.post(action, peer, self.batch.rows[action.microbatch])  # [5]
        self.recorder.report(size, peer)

    def forward(self, action: Action) -> None:
        """F: from the stage's input to its output, or on the last stage to the loss."""
        stage, batch = self.stages[action.stage], self.batch
        if not batch.train:
            self.evaluate(action)
            self.shared.after_forward(action.stage, train=False)
            return
        stage.seed(batch.run.number, batch.run.first + number(action))
        inputs, target = batch.input_of(action), batch.target(action)
        weight = batch.weights[action.microbatch]
        try:
            output, kept = stage.forward(number(action), inputs, target, weight)  # [7]
        except Exception as error:
            self.messages.explain(action, error)
            raise
        if stage.is_last:
            batch.losses.append(output.tensors[0].detach())
        else:
            batch.pass_on(action, output)
        self.shared.after_forward(action.stage, train=True)
        self.recorder.report(kept)

    def evaluate(self, action: Action) -> None:
        """F outside of training keeps nothing; the last stage takes the loss if targets came."""
        stage, batch = self.stages[action.stage], self.batch
        output = stage.evaluate(batch.input_of(action).unflatten())
        if not stage.is_last:
            batch.pass_on(action, flatten(output))
            return
        if (target := batch.target(action)) is not None:
            weight = batch.weights[action.microbatch]
            stage.try_loss(number(action), output, target)
            batch.losses.append(stage.weighted_loss(output, target.unflatten(), weight))
        batch.collect(action, output)

    def backward(self, action: Action) -> None:
        """B: from the output's gradient to those of the weights, kept, and of the input, sent."""
        stage = self.stages[action.stage]
        gradients = stage.backward(number(action), self.batch.gradients_of(action))  # [8]
        self.batch.pass_back(action, gradients)
        self.recorder.report(stage.new_gradient_bytes())

    def backward_input(self, action: Action) -> None:
        """I: from the output's gradient to that of the input, sent at once."""
        stage = self.stages[action.stage]
        gradients = stage.backward_input(number(action), self.batch.gradients_of(action))  # [8]
        self.batch.pass_back(action, gradients)

    def backward_weight(self, action: Action) -> None:
        """W: the gradients of the weights, for which nobody waits."""
        stage = self.stages[action.stage]
        stage.backward_weight(number(action))  # [8]
        self.recorder.report(stage.new_gradient_bytes())

    def send(self, action: Action) -> None:
        """SEND: start to send a result to the next rank. Blocks only without ``overlap``."""
        content = self.batch.leaving(action)
        peer, rows = self.route.peers[action], self.batch.rows[action.microbatch]
        size = self.messages.send(action, content, peer, rows, stamp=self.pace.due)  # [9]
        if not self.pace.overlap:
            self.messages.block(action)
        self.recorder.report(size, peer)

    def reduce_gradients(self, action: Action) -> None:
        """REDUCE_GRAD: start to add up a stage's gradients over its replicas. Never blocks.

        Those of tied weights leave when all are complete, before the first STEP.
        """
        stage = self.stages[action.stage]
        reduction = self.data_parallel.start(stage.module, stage.parameters)  # [10]
        size = self.tied.buffer_bytes(action.stage)
        event, due = len(self.recorder.events), self.pace.reduced_at(action)
        if size:
            self.tied_reductions.append((event, due))
        if reduction is not None:
            self.reductions.append((reduction, event, due))
            size += reduction.flat.nbytes
        self.recorder.report(size)

    def settle_gradients(self) -> None:
        """Before the first STEP: all gradients are complete, and their norm is clipped."""
        for reduction, event, due in self.reductions:
            ended = self.data_parallel.finish(reduction)
            self.pace.wait_until(due)
            self.recorder.end_at(event, ended, due)
        self.reductions.clear()
        if self.tied_reductions:
            self.add_tied_weights()
        if self.update.must_settle:
            self.pace.settle()  # the device has to have computed what is added up
            self.update.settle(self.batch.loss)
            self.pace.wait_until(time.monotonic())

    def add_tied_weights(self) -> None:
        """Add up the gradients of tied weights: only then has their REDUCE_GRAD ended."""
        self.pace.settle()
        self.tied.add_up()
        self.pace.wait_until(time.monotonic())
        ended = self.recorder.clock.now()
        for event, due in self.tied_reductions:
            self.pace.wait_until(due)
            self.recorder.end_at(event, ended, due)
        self.tied_reductions.clear()

    def take_tied_weights(self, action: Action) -> None:
        """Take the new values that the STEPs of lower stages made on other ranks."""
        for copy, step, peer in self.tied.awaited(action.stage):
            with self.recorder.record((waiting_for(action), Wanted(step, peer))):
                self.tied.take(copy)
                self.pace.wait_until(time.monotonic())

    def optimizer_step(self, action: Action) -> None:
        """STEP: one step of the stage's own optimizer, with the gradients of all microbatches."""
        self.recorder.report(self.update.step(action.stage))  # [11]
        self.tied.hand_on(action.stage)

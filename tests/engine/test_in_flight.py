"""Several steps at once: the same numbers, results in order, and errors that name their step."""

import os
import signal
import threading
import time
from functools import partial
from itertools import pairwise
from multiprocessing import Pipe

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Kind
from pipelab.engine import Pipeline
from pipelab.engine.launch.delivery import deliver, writer_of
from pipelab.errors import PipelabError, PipelineClosed, RankDied, RankError
from pipelab.schedules import catalogue, one_f_one_b
from pipelab.schedules.zero_bubble import zero_bubble_h2
from pipelab.simulator import Cost
from pipelab.trace import Trace
from tests.engine.one_process import assert_same, batch, linears, plain_loop

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
STEPS = 6


def batches(number=STEPS, rows=16):
    return [batch(rows, seed=seed) for seed in range(number)]


def trained_alone(schedule, depth, replicas=1):
    """Losses and parameters of one process, with its microbatches in the same order."""
    model = linears(depth)
    optimizer = SGD(model.parameters())
    losses = []
    for x, y in batches():
        losses.append(plain_loop(model, x, y, schedule.num_microbatches * replicas))
        optimizer.step()
        optimizer.zero_grad()
    return losses, model.state_dict()


@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("name", catalogue.BUILDERS)
def test_the_same_numbers_as_one_process(in_process, name, in_flight):
    schedule = catalogue.build(name, 2, 4)
    losses, parameters = trained_alone(schedule, 2 * schedule.num_stages)
    model = linears(2 * schedule.num_stages)
    with Pipeline(model, schedule, loss=cross_entropy, optimizer=SGD) as pipeline:
        results = list(pipeline.train(batches(), in_flight=in_flight))
        assert_same(pipeline.state_dict(), parameters)
    assert [result.loss for result in results] == losses


@pytest.mark.parametrize("in_flight", [2, 4])
def test_replicas_with_steps_in_flight_are_those_without(in_flight):
    found = []
    for k in (1, in_flight):
        model, schedule = linears(), one_f_one_b(2, 2)
        with Pipeline(model, schedule, loss=cross_entropy, optimizer=SGD, replicas=2) as pipeline:
            results = list(pipeline.train(batches(), in_flight=k))
            found.append(([r.loss for r in results], pipeline.state_dict()))
    assert found[0][0] == found[1][0]
    assert_same(found[1][1], found[0][1])


def test_ranks_begin_the_next_step_while_others_work_on_this_one():
    cost = Cost(forward=0.02, backward_input=0.02, backward_weight=0.02)
    with open_paced(cost) as pipeline:
        steps = [r.trace for r in pipeline.train(batches(4), in_flight=2)]
    assert any(overlapping(steps))  # not all: a busy machine may hold up a rank
    joined = Trace.joined(steps)
    assert joined.setting.steps == 4
    assert [joined.step(1).num_ranks, joined.step(1).setting.steps] == [2, 1]


def test_a_common_norm_to_clip_by_is_a_barrier_and_shows_as_a_wait():
    cost = Cost(forward=0.02, backward_input=0.02, backward_weight=0.02)
    with open_paced(cost, clip_norm=1.0) as pipeline:
        steps = [r.trace for r in pipeline.train(batches(4), in_flight=2)]
    assert not any(overlapping(steps))
    for step in steps:
        waits = [e for e in step.events if e.kind is Kind.WAIT and e.microbatch is None]
        assert {e.rank for e in waits} == {0, 1}


def open_paced(cost, **options):
    return Pipeline(
        linears(), zero_bubble_h2(2, 4), loss=cross_entropy, optimizer=SGD, pace=cost, **options
    )


def overlapping(steps):
    """Whether each step began before all ranks had ended the one before."""
    spans = [
        (
            min(e.start for e in t.events if e.kind in COMPUTE) + t.began,
            max(e.end for e in t.events if e.kind in COMPUTE) + t.began,
        )
        for t in steps
    ]
    return [after[0] < before[1] for before, after in pairwise(spans)]


def test_results_of_the_steps_before_come_before_a_loaders_own_error(in_process):
    def loader():
        yield from batches(3)
        raise OSError("the disk")

    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        losses = []
        with pytest.raises(OSError, match="the disk"):
            for result in pipeline.train(loader(), in_flight=4):
                losses.append(result.loss)
        assert len(losses) == 3
        pipeline.step(*batch(16))


def test_other_calls_come_after_all_steps_in_flight(in_process):
    data = batches()
    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        training = pipeline.train(data, in_flight=3)
        first = next(training)
        ahead = pipeline.evaluate(*data[0])  # after three steps
        rest = [result.loss for result in training]
    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        assert first.loss == pipeline.step(*data[0]).loss
        losses = [pipeline.step(*pair).loss for pair in data[1:3]]
        assert ahead == pipeline.evaluate(*data[0])
        assert rest == losses + [pipeline.step(*pair).loss for pair in data[3:]]


def test_a_loop_that_ends_early_leaves_a_pipeline_that_works(in_process):
    data = batches()
    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        for _ in pipeline.train(data, in_flight=4):
            break
        again = [result.loss for result in pipeline.train(data[4:], in_flight=2)]
    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        assert [pipeline.step(*pair).loss for pair in data][4:] == again


class Trap(nn.Module):
    """Ends badly on the rows that begin with a mark."""

    def __init__(self, end):
        super().__init__()
        self.layer, self.end = nn.Linear(8, 8), end

    def forward(self, x):
        if x[0, 0] == 100.0:
            self.end()
        return self.layer(x)


def fail():
    raise KeyError("my own bug")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("end", "kind"), [(fail, RankError), (die, RankDied)])
@pytest.mark.parametrize("stage", [0, 1])
def test_an_error_names_its_step_and_the_results_before_it_come(end, kind, stage):
    layers = [Trap(end), nn.Identity()] if stage == 0 else [nn.Identity(), Trap(end)]
    data = batches(5)
    data[3][0][:, 0] = 100.0
    with Pipeline(
        layers, one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD, split=[1, 1]
    ) as pipeline:
        results = []
        with pytest.raises(kind, match=r"in step 3 of the training") as raised:
            for result in pipeline.train(data, in_flight=3):
                results.append(result)
        assert raised.value.rank == stage
        assert len(results) == 3
        with pytest.raises(PipelineClosed):
            pipeline.step(*data[0])


@pytest.mark.parametrize("in_flight", [0, -1, 2.0, True, "2"])
def test_what_is_no_number_of_steps_is_refused(in_process, in_flight):
    pipeline = Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy)
    with pipeline, pytest.raises(PipelabError, match="in_flight"):
        next(pipeline.train(batches(), in_flight=in_flight))


def test_answers_are_read_while_a_message_waits_for_its_reader():
    """The peer writes more than the pipe holds before it reads anything, as a rank may."""
    ours, theirs = Pipe()
    answer, message = bytes(1 << 20), bytes(1 << 21)
    found = []

    def peer():
        theirs.send_bytes(answer)
        found.append(theirs.recv_bytes())

    thread = threading.Thread(target=peer)
    thread.start()
    read = lambda _: found.append(ours.recv_bytes()) or True  # noqa: E731
    with writer_of(ours) as writer:
        assert deliver(message, writer, [ours], read, lambda: 5)
    thread.join()
    assert sorted(map(len, found)) == [1 << 20, 1 << 21]


def test_a_message_that_nobody_reads_ends_with_its_time():
    ours, theirs = Pipe()
    until = time.monotonic() + 0.2
    left, large = (lambda: until - time.monotonic()), bytes(1 << 22)
    with writer_of(ours) as writer:
        assert not deliver(large, writer, [ours], lambda _: True, left)
        theirs.close()
        assert deliver(large, writer, [ours], lambda _: False, lambda: 5.0)

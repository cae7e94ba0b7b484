"""Training for real: what one process does over several steps, the pipeline does too."""

import time
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from pipelab.engine import Pipeline
from pipelab.errors import BatchError, LossError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from pipelab.simulator import Cost
from tests.engine.one_process import (
    assert_close,
    assert_same,
    assert_whole_batch,
    batch,
    gradients,
    linears,
    plain_loop,
)

IN_PROCESS = pytest.mark.usefixtures("in_process")
SGD = partial(torch.optim.SGD, lr=0.5)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def open_pipeline(model, schedule=None, loss=cross_entropy, **options):
    return Pipeline(model, schedule or one_f_one_b(2, 3), loss=loss, **options)


IGNORED = -100


@IN_PROCESS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_targets_count_nothing(reduction):
    model, (x, y) = linears(4), batch(12)
    y[[1, 4, 5, 6, 7, 9]] = IGNORED  # of the second of three microbatches all are
    loss = partial(cross_entropy, reduction=reduction)
    options = {"count": lambda target: (target != IGNORED).sum(), "reduction": reduction}
    with open_pipeline(model, loss=loss, **options) as pipeline:
        result = pipeline.step(x, y)
        ours, evaluated = pipeline.gradients(), pipeline.evaluate(x, y)
        with pytest.raises(BatchError, match=r"count= gave \[0.0, 0.0, 0.0\]"):
            pipeline.step(x, torch.full((12,), IGNORED))
    assert evaluated == result.loss
    assert_whole_batch(model, x, y, result.loss, ours)


class Masked(nn.Module):
    def forward(self, x):
        return x.masked_fill(torch.arange(8) > 5, -torch.inf)


@IN_PROCESS
def test_a_microbatch_that_counts_nothing_may_hold_infinities():
    # infinity times 0 is NaN: the step's loss once was
    (x, y), model = batch(12, classes=5), nn.Sequential(*linears(2), Masked())
    y[4:8] = IGNORED
    with open_pipeline(model, count=lambda target: (target != IGNORED).sum()) as pipeline:
        loss = pipeline.step(x, y).loss
        ours = pipeline.gradients()
    assert_whole_batch(model, x, y, loss, ours)


@IN_PROCESS
def test_a_loss_that_adds_up_is_averaged_over_rows_and_a_false_word_is_refused():
    model, (x, y) = linears(4), batch(13)
    summed = partial(cross_entropy, reduction="sum")
    with open_pipeline(model, loss=summed, reduction="sum") as pipeline:
        loss = pipeline.step(x, y).loss
        ours = pipeline.gradients()
    assert_whole_batch(model, x, y, loss, ours)
    for wrong in (summed, partial(mse_loss, reduction="sum"), nn.L1Loss(reduction="sum")):
        with pytest.raises(LossError, match=r"adds up over its rows .* reduction='sum'"):
            open_pipeline(model, loss=wrong)
    for wrong in (cross_entropy, mse_loss):
        with pytest.raises(LossError, match=r"averages over its rows .* leave reduction= out"):
            open_pipeline(model, loss=wrong, reduction="sum")


@IN_PROCESS
@pytest.mark.parametrize("clip", [1e-2, 1e3])
def test_clipping_goes_by_the_whole_models_norm(clip):
    model, (x, y) = linears(4), batch(12)
    with open_pipeline(model, build("zero_bubble_v", 2, 3), optimizer=SGD, clip_norm=clip) as ours:
        ours.step(x, y, update=False)
        result = ours.step(x, y)
        clipped, after = ours.gradients(), ours.state_dict()
    for _ in range(2):
        plain_loop(model, x, y, 3)
    norm = clip_grad_norm_(model.parameters(), clip)
    assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-6)
    assert (norm < clip) == (clip == 1e3)
    SGD(model.parameters()).step()
    assert_close(clipped, gradients(model), atol=1e-9)
    assert_close(after, model.state_dict(), rtol=1e-6, atol=1e-8)


class Complex(nn.Module):
    """A layer whose weight is complex."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


@pytest.mark.parametrize("replicas", [1, 2])
def test_clipping_counts_complex_weights_whole(replicas):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(Complex(), nn.BatchNorm1d(8), nn.Linear(8, 8)), batch(12)
    options = {"optimizer": SGD, "clip_norm": 1e-2, "replicas": replicas}
    with open_pipeline(model, build("1f1b", 2, 3), **options) as pipeline:
        result = pipeline.step(x, y)
        clipped = pipeline.gradients()
    plain_loop(model, x, y, 3 * replicas)
    norm = clip_grad_norm_(model.parameters(), 1e-2)
    assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-6)
    assert_close(clipped, gradients(model), atol=1e-9)


@IN_PROCESS
@pytest.mark.parametrize(
    "lr_schedule",
    [
        partial(StepLR, step_size=2, gamma=0.1),
        partial(LambdaLR, lr_lambda=lambda step: 1 / (1 + step)),
        partial(OneCycleLR, max_lr=0.3, total_steps=6),
    ],
)
def test_learning_rates_follow_their_schedule(lr_schedule):
    model, (x, y) = linears(4), batch(12)
    with open_pipeline(model, optimizer=MOMENTUM, lr_schedule=lr_schedule) as pipeline:
        for i in range(5):
            pipeline.step(x, y, update=i != 1)  # no update, no new rate
        ours = pipeline.state_dict()
    optimizer = MOMENTUM(model.parameters())
    rates = lr_schedule(optimizer)
    for i in range(5):
        plain_loop(model, x, y, 3)
        if i != 1:
            optimizer.step()
            optimizer.zero_grad()
            rates.step()
    assert_same(ours, model.state_dict())


@pytest.mark.parametrize("checkpoint", [False, True])
def test_bf16_autocast_is_that_of_one_process(checkpoint):
    # evaluation once left the loss out of autocast, and gave a coarser one
    model, (x, y) = nn.Sequential(*linears(4), nn.Tanh(), nn.LayerNorm(8)), batch(13)
    options = {"autocast": torch.bfloat16, "checkpoint": checkpoint, "optimizer": SGD}
    with open_pipeline(model, one_f_one_b(3, 3), **options) as pipeline:
        evaluated, loss = pipeline.evaluate(x, y), pipeline.step(x, y).loss
        ours, after = pipeline.gradients(), pipeline.state_dict()

    def loss_in_bf16(forward, target):
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(forward(), target)

    expected = plain_loop(lambda rows: partial(model, rows), x, y, 3, loss_in_bf16)
    assert loss == evaluated == expected
    assert_same(ours, gradients(model))
    SGD(model.parameters()).step()
    assert_same(after, model.state_dict())
    assert all(value.dtype == torch.float32 for value in after.values())


class Batches:
    """Notes when each batch was asked for; raises after the third."""

    def __init__(self, number, ending):
        self.number, self.ending, self.asked = number, ending, []

    def __iter__(self):
        for seed in range(self.number):
            self.asked.append(time.monotonic())
            yield batch(12, seed=seed)
        self.asked.append(time.monotonic())
        raise self.ending


@pytest.mark.timing
def test_train_fetches_ahead_and_the_iterators_own_error_comes_in_its_turn(tmp_path):
    model, batches = linears(4), Batches(3, KeyError("no more"))
    pace = Cost(forward=0.01, backward_input=0.01, backward_weight=0.01)
    with open_pipeline(model, optimizer=SGD, pace=pace) as pipeline:
        given, results = [], []
        with pytest.raises(KeyError, match="no more"):
            for result in pipeline.train(batches):
                given.append(time.monotonic())
                results.append(result)
        assert len(results) == 3  # the error was met during the third step, and waited for it
        for i, came in enumerate(given):
            # asked for while the ranks worked: a step lasts (m + p - 1)(F + B) = 0.12 s
            assert batches.asked[i + 1] < came - 0.06
        assert len(batches.asked) == 4
        more = pipeline.step(*batch(12, seed=3)).loss
        assert list(pipeline.train([])) == []
        path = pipeline.save(tmp_path)
        ours = pipeline.state_dict()
    assert torch.load(path, weights_only=True)["steps"] == 4
    optimizer = SGD(model.parameters())
    for seed in range(4):
        optimizer.zero_grad()
        loss = plain_loop(model, *batch(12, seed=seed), 3)
        assert loss == (results[seed].loss if seed < 3 else more)
        optimizer.step()
    assert_same(ours, model.state_dict())


@IN_PROCESS
def test_train_takes_no_batch_before_it_is_asked_for_one():
    batches = Batches(5, KeyError("no more"))
    with open_pipeline(linears(4), gpipe(2, 3)) as pipeline:
        training = pipeline.train(batches)
        assert batches.asked == []
        next(training)
        training.close()
        assert len(batches.asked) == 2  # one ahead, no more
        assert pipeline.step(*batch(12)).loss > 0


def test_many_microbatches_on_looped_stages_run_from_the_first_batch_on():
    # found by hand: the first evaluation never ended, rank 0 in 0SEND_F17, rank 1 in 1SEND_F8
    model, (x, y) = linears(4, 8), batch(40)
    with Pipeline(model, build("looped_bfs", 2, 40), loss=cross_entropy, timeout=3.0) as pipeline:
        first, second = (pipeline.evaluate(x, y) for _ in range(2))
        assert first == second == pytest.approx(pipeline.step(x, y).loss)

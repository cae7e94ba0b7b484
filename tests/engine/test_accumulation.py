"""Gradients of steps without an update add up, and nothing else touches them."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.errors import BatchError, CheckpointError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.one_process import Draws, assert_same, batch, gradients, linears, plain_loop

IN_PROCESS = pytest.mark.usefixtures("in_process")
SGD = partial(torch.optim.SGD, lr=0.5)


def open_pipeline(model, schedule=None, **options):
    return Pipeline(model, schedule or one_f_one_b(2, 3), loss=cross_entropy, **options)


@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_v"])
def test_steps_without_update_add_up_and_evaluation_in_between_changes_nothing(name):
    # evaluation's row of actions once ended with STEP: it trained with the last gradients
    torch.manual_seed(0)
    model = nn.Sequential(*linears(3), Draws(), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 8))
    data = batch(13)
    with open_pipeline(model, build(name, 2, 3), optimizer=SGD, seed=3) as pipeline:
        found = []
        for i in range(3):
            pipeline.step(*data, update=i == 2)
            before = pipeline.gradients(), pipeline.state_dict()
            pipeline.evaluate(*data)
            pipeline.predict(data[0])
            pipeline.evaluate(data[0][:1], data[1][:1])
            assert_same(pipeline.gradients(), before[0])
            assert_same(pipeline.state_dict(), before[1])
            found.append(before)
        assert len(set(before[1]["3.drawn"][:9].tolist())) == 9
    for (_, state), changed in zip(found, (False, False, True), strict=True):
        assert torch.equal(state["0.weight"], model[0].weight) != changed
    with open_pipeline(model, build(name, 2, 3), optimizer=SGD, seed=3) as undisturbed:
        for i in range(3):
            undisturbed.step(*data, update=i == 2)
            assert_same(undisturbed.gradients(), found[i][0])
        assert_same(undisturbed.state_dict(), found[2][1])


@IN_PROCESS
def test_the_same_step_twice_and_three_times_is_exactly_twice_and_three_times():
    model, data = linears(4), batch(12)
    with open_pipeline(model, gpipe(2, 1)) as pipeline:  # of one microbatch: no sum to round
        pipeline.step(*data)
        one = pipeline.gradients()
        for times in (1, 2, 3):
            pipeline.step(*data, update=times == 3)
            assert_same(pipeline.gradients(), {name: times * g for name, g in one.items()})


@IN_PROCESS
def test_accumulation_is_one_sum_and_then_starts_again():
    model, data = linears(4), batch(12)
    with open_pipeline(model) as pipeline:
        pipeline.step(*data)
        one = pipeline.gradients()
        for times in (1, 2, 3):
            pipeline.step(*data, update=times == 3)
            assert_same(pipeline.gradients(), added(one, times))
        pipeline.step(*data)
        assert_same(pipeline.gradients(), one)


def added(one, times):
    """As floats add up: 3 microbatches, ``times`` over, in one sum."""
    model, (x, y) = linears(4), batch(12)
    for _ in range(times):
        plain_loop(model, x, y, 3)
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, times * one[name], rtol=1e-5, atol=1e-7)
    return gradients(model)


@IN_PROCESS
def test_a_refused_batch_neither_begins_nor_ends_an_accumulation():
    # a refused step(update=False) once let the next step add up with the one before
    model, data = linears(4), batch(12)
    with open_pipeline(model) as pipeline:
        pipeline.step(*data)
        one = pipeline.gradients()
        with pytest.raises(BatchError):
            pipeline.step(data[0][:2], data[1][:2], update=False)
        pipeline.step(*data, update=False)
        assert_same(pipeline.gradients(), one)
        with pytest.raises(BatchError):
            pipeline.step(data[0][:2], data[1][:2])
        pipeline.step(*data)
        assert_same(pipeline.gradients(), added(one, 2))


@IN_PROCESS
def test_a_checkpoint_that_would_lose_gradients_is_refused(tmp_path):
    x, y = batch(8)
    with open_pipeline(nn.Sequential(*linears(2)), optimizer=SGD) as pipeline:
        pipeline.step(x, y, update=False)
        with pytest.raises(CheckpointError, match="save after a step that updates"):
            pipeline.save(tmp_path)
        pipeline.step(x, y)
        assert pipeline.save(tmp_path).exists()

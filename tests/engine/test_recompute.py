"""Activation checkpointing: less memory, the same gradients, one more forward."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.schedules.catalogue import build
from tests.engine.one_process import Says, assert_same, batch, gradients, linears, plain_loop

IN_PROCESS = pytest.mark.usefixtures("in_process")
FLOAT = 4


def kept(trace):
    """Bytes of each F, by stage and microbatch."""
    return {(e.stage, e.microbatch): e.bytes for e in trace.events if e.kind is Kind.F}


@pytest.mark.parametrize("checkpoint", [True, [1, 2]])
@IN_PROCESS
@pytest.mark.parametrize("name", ["gpipe", "zero_bubble_h1"])
def test_checkpointing_keeps_input_and_output_alone_and_the_gradient(name, checkpoint):
    torch.manual_seed(0)
    stage = [[nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8), nn.Tanh()] for _ in range(4)]
    model, (x, y) = nn.Sequential(*(nn.Sequential(*layers) for layers in stage)), batch(9)
    schedule = build(name, 4, 3)
    with Pipeline(model, schedule, loss=cross_entropy, checkpoint=checkpoint) as pipeline:
        found = kept(pipeline.step(x, y).trace)
        assert_same(pipeline.gradients(), _reference(model, x, y, 3))
    chosen = range(4) if checkpoint is True else checkpoint
    for number in range(3):
        inside = 0 if number in chosen else 64
        assert found[number, 0] == 3 * (8 + 8 + inside) * FLOAT
    assert (found[3, 0] < 3 * 64 * FLOAT) == (3 in chosen)


def test_checkpointing_runs_each_forward_once_more(capfd):
    # I and W are two, but then I runs the whole backward; W once ran it again for each layer
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8), nn.Sequential(Says(), *linears(3), nn.Tanh()), nn.Linear(8, 8)]
    (x, y), model = batch(6), nn.Sequential(*layers)
    for name, times in (("1f1b", 2), ("zero_bubble_h1", 2)):
        schedule = build(name, 3, 2)
        with Pipeline(model, schedule, loss=cross_entropy, checkpoint=[1]) as pipeline:
            pipeline.step(x, y)
            lines = capfd.readouterr().out.splitlines()
            assert lines == ["[rank 1] forward"] * times * 2
            assert_same(pipeline.gradients(), _reference(model, x, y, 2))
        capfd.readouterr()


def _reference(model, x, y, m):
    model.zero_grad()
    plain_loop(model, x, y, m)
    return gradients(model)

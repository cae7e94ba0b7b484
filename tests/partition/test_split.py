"""Stages run one after the other are the model, bit for bit, however it is cut."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition import Chain, as_model, call, split

from .models import KINDS


def parameters(modules):
    return [
        (name, parameter.grad)
        for module in modules
        for name, parameter in module.named_parameters()
    ]


def run(stages, value):
    for stage in stages:
        for parameter in stage.parameters():
            parameter.grad = None
    for stage in stages:
        value = call(stage, value)
    value.square().mean().backward()
    return value.detach(), parameters(stages)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_cut_equals_the_whole_model(kind, data):
    torch.manual_seed(0)
    model, batch = KINDS[kind]()
    layers = len(model)
    ends = data.draw(st.sets(st.integers(1, layers - 1), max_size=layers - 1), "cuts")
    bounds = [0, *sorted(ends), layers]
    sizes = [b - a for a, b in pairwise(bounds)]
    stages = split(model, len(sizes), sizes=sizes)

    assert [len(list(stage.children())) for stage in stages] == sizes
    assert {type(s) for s in stages} == {nn.Sequential if kind == "sequential" else Chain}
    found, gradients = run(stages, batch)
    wanted, expected = run([as_model(model)], batch)
    assert torch.equal(found, wanted)
    assert [name for name, _ in gradients] == [name for name, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(gradients, expected, strict=True))


def test_stages_share_the_parameters_and_keep_the_names():
    model = nn.Sequential()
    for name in ("embed", "block", "head"):
        model.add_module(name, nn.Linear(4, 4))
    first, second = split(model, 2, sizes=[1, 2])
    assert list(second.state_dict()) == ["block.weight", "block.bias", "head.weight", "head.bias"]
    assert first.get_submodule("embed") is model.get_submodule("embed")


def test_by_parameters_balances_bytes():
    model = [nn.Linear(2, 2), nn.Linear(2, 2), nn.Tanh(), nn.Linear(40, 40)]
    assert [len(list(s.children())) for s in split(model, 2)] == [3, 1]


TIED = nn.Linear(4, 4)


def test_a_layer_used_twice_stays_in_one_stage():
    stages = split([TIED, nn.Tanh(), TIED, nn.Linear(4, 4)], 2, sizes=[3, 1])
    assert list(stages[0].state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_layer_of_several_stages_is_one_object_with_a_name_in_each():
    first, second = split([TIED, nn.Tanh(), nn.Tanh(), TIED], 2, sizes=[2, 2])
    assert list(second.state_dict()) == ["3.weight", "3.bias"]
    assert first.get_submodule("0") is second.get_submodule("3")


@pytest.mark.parametrize(
    ("model", "num_stages", "options", "words"),
    [
        ([nn.Tanh()], 2, {}, "1 layers cannot fill 2 stages"),
        (nn.Sequential(), 1, {}, "0 layers cannot fill 1 stages"),
        ([nn.Tanh()], 0, {}, "0 stages"),
        ([nn.Tanh()] * 8, 3, {"sizes": [2, 3, 4]}, "are 9 layers, but the model has 8"),
        ([nn.Tanh()] * 8, 3, {"sizes": [0, 4, 4]}, "every stage has at least 1 layer"),
        ([nn.Tanh()] * 8, 3, {"sizes": [4, 4]}, "cuts 2 stages, not 3"),
        ([nn.Tanh()] * 8, 0, {"sizes": []}, "are 0 layers"),
        ([nn.Tanh()] * 8, 3, {"by": "colour"}, "by 'colour' is unknown"),
    ],
)
def test_refused_in_words(model, num_stages, options, words):
    with pytest.raises(PartitionError, match=words):
        split(model, num_stages, **options)

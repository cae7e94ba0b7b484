"""A row of layers: how values reach them, and what is refused."""

import pytest
import torch
from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition import Chain, as_model, call


class Echo(nn.Module):
    def forward(self, *args, **kwargs):
        return args, kwargs


X, Y = torch.ones(2), torch.zeros(3)


@pytest.mark.parametrize(
    ("value", "args", "kwargs"),
    [
        (X, (X,), {}),
        ((X, Y), (X, Y), {}),
        ([X], (X,), {}),
        ({"a": X, "b": Y}, (), {"a": X, "b": Y}),
        (((X, Y), None), ((X, Y), None), {}),
    ],
)
def test_a_value_is_unpacked_once(value, args, kwargs):
    assert call(Echo(), value) == (args, kwargs)


@pytest.mark.parametrize("row", [nn.Sequential, lambda echo: as_model([echo])])
def test_a_row_of_layers_takes_a_value_as_it_is(row):
    """A Sequential hands it on whole, as its own rule says; a Chain unpacks it for its first."""
    found = call(row(Echo()), (X, Y))
    assert found == (((X, Y),) if isinstance(row, type) else (X, Y), {})


def test_a_sequential_stays_itself_and_a_list_keeps_its_modules():
    model = nn.Sequential(nn.Linear(2, 3))
    assert as_model(model) is model
    layers = [nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)]
    chain = as_model(layers)
    assert as_model(chain) is chain
    assert list(chain.state_dict()) == list(nn.ModuleList(layers).state_dict())
    assert chain.get_submodule("2") is layers[2]
    listed = as_model(nn.ModuleList(layers))
    assert isinstance(listed, Chain)
    assert torch.equal(listed(torch.ones(1, 2)), nn.Sequential(*layers)(torch.ones(1, 2)))


def test_a_layer_used_twice_runs_twice():
    layer = nn.Linear(3, 3)
    x = torch.randn(2, 3)
    assert torch.equal(as_model([layer, layer])(x), layer(layer(x)))


class OwnForward(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(2, 2), r"is a Linear: only an nn.Sequential or a list .*hugging_face.layers_of"),
        (nn.ModuleDict({"a": nn.Tanh()}), "is a ModuleDict"),
        (torch.tanh, "is a builtin_function"),
        ([nn.Tanh(), torch.relu], "layer 1 of the list is a builtin_function"),
        ([], "at least 1 layer"),
        (OwnForward(nn.Tanh()), "redefines forward"),
    ],
)
def test_refused_in_words(model, words):
    with pytest.raises(PartitionError, match=words):
        as_model(model)

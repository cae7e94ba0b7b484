"""What layers cost: bytes counted by hand, seconds as ratios, and a model that stays as it was."""

import copy
import time
from collections import OrderedDict, UserDict
from types import MappingProxyType

import pytest
import torch
from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition import as_model, measure, split

from .models import KINDS

FLOAT = 4  # bytes


class Slow(nn.Module):
    """Sleeps so many seconds forward and backward."""

    def __init__(self, forward, backward=0.0):
        super().__init__()
        self.seconds = forward, backward

    def forward(self, x):
        time.sleep(self.seconds[0])
        x = x * 1
        if x.requires_grad:
            x.register_hook(lambda gradient: time.sleep(self.seconds[1]))
        return x


def sizes(stages):
    return [len(list(stage.children())) for stage in stages]


def test_bytes_counted_by_hand():
    model = nn.Sequential(nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 2, bias=False), nn.Flatten())
    rows = measure(model, torch.randn(5, 7), repeats=1)
    assert [row.name for row in rows] == ["0", "1", "2", "3"]
    assert [row.parameter_bytes for row in rows] == [FLOAT * (7 * 3 + 3), 0, FLOAT * 3 * 2, 0]
    # a linear layer keeps its input, tanh its output, flatten nothing
    assert [row.activation_bytes for row in rows] == [
        FLOAT * 5 * 7,
        FLOAT * 5 * 3,
        FLOAT * 5 * 3,
        0,
    ]
    assert [row.output_bytes for row in rows] == [FLOAT * 5 * n for n in (3, 3, 2, 2)]


def test_a_storage_that_is_saved_twice_counts_once():
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))  # tanh's output: saved twice
    (row,) = measure([block], torch.randn(5, 4), repeats=1)
    assert row.activation_bytes == FLOAT * 5 * (4 + 4)


def test_tuples_and_dicts_of_outputs_are_added_up():
    model, batch = KINDS["tuples"]()
    first, *_ = measure(model, batch, repeats=1)
    assert first.output_bytes == FLOAT * (4 * 3 * 6 + 4 * 3 * 1)
    model, batch = KINDS["dicts"]()
    first, *_ = measure(model, batch, repeats=1)
    assert first.output_bytes == FLOAT * 3 * 4 * 6


class Row(tuple):
    """A kind of tuple that PyTorch does not know."""


@pytest.mark.parametrize("kind", [UserDict, MappingProxyType, OrderedDict, dict])
def test_a_sample_may_be_any_mapping(kind):
    # a tokenizer of Hugging Face gives a UserDict
    class InPlace(nn.Linear):
        def forward(self, a, rest):
            return super().forward(rest[0]["b"].add_(a.add_(1.0)))

    a, b = torch.zeros(5, 4), torch.zeros(5, 4)
    sample = kind({"a": a, "rest": Row([kind({"b": b})])})
    (row,) = measure([InPlace(4, 3)], sample, repeats=1)
    assert row.activation_bytes == FLOAT * 5 * 4
    assert not a.any() and not b.any()  # the layer works on copies


def test_backward_is_measured_where_training_needs_it():
    frozen = nn.Linear(4, 4).requires_grad_(False)
    model = [nn.Tanh(), frozen, nn.Linear(4, 4), nn.Tanh(), frozen, nn.Linear(4, 4)]
    rows = measure(model, torch.randn(8, 4), repeats=3)
    assert [row.backward_input > 0 for row in rows] == [False, False, False, True, True, True]
    assert [row.backward_weight > 0 for row in rows[:5]] == [False, False, True, False, False]
    assert all(row.forward > 0 for row in rows)


def test_integers_come_first():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    first, second = measure(model, torch.randint(9, (5, 3)))
    assert (first.backward_input, first.backward_weight > 0) == (0, True)
    assert second.backward_input > 0


@pytest.mark.timing
def test_seconds_are_those_of_the_layer():
    quick, slow = measure([nn.Linear(4, 4), Slow(0.01, 0.06)], torch.randn(2, 4))
    assert 0.01 <= slow.forward < 0.06 <= slow.backward_input
    assert slow.backward_weight == 0
    assert quick.forward < 0.01


@pytest.mark.timing
def test_halves_of_a_large_linear_layer_cost_the_same():
    """2 x rows x width^2 floating point operations each: the input's half is not the whole."""
    _, row = measure([nn.Linear(512, 512), nn.Linear(512, 512)], torch.randn(512, 512), repeats=9)
    assert 0.1 < row.backward_input / (row.backward_input + row.backward_weight) < 0.9


@pytest.mark.parametrize("mode", [True, False])
def test_nothing_is_changed(mode):
    layers = [nn.Linear(6, 6), nn.ReLU(inplace=True), nn.BatchNorm1d(6), nn.Dropout(), nn.Tanh()]
    model = nn.Sequential(*layers, nn.ReLU(inplace=True)).train(mode)
    model[0].bias.grad = torch.ones(6)
    before, x = copy.deepcopy(model.state_dict()), torch.randn(8, 6)
    sample, random, threads = x.clone(), torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():  # not in our way, and it stays
        measure(model, sample)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.state_dict()["2.running_mean"].data_ptr() == layers[2].running_mean.data_ptr()
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads
    assert torch.equal(sample, x) and sample.grad is None
    assert {module.training for module in model.modules()} == {mode}
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["0.bias"]
    assert torch.equal(model[0].bias.grad, torch.ones(6))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_measured(kind):
    model, batch = KINDS[kind]()
    rows = measure(model, batch, repeats=1)
    assert [row.name for row in rows] == list(as_model(model)._modules)


def test_a_failure_restores_and_names_the_layer():
    norm = nn.BatchNorm1d(6)
    with pytest.raises(PartitionError, match=r"layer 1 \(Linear\) failed .*mat1 and mat2"):
        measure([norm, nn.Linear(5, 5)], torch.randn(4, 6))
    assert norm.num_batches_tracked == 0
    with pytest.raises(PartitionError, match="repeats=0"):
        measure([norm], torch.randn(4, 6), repeats=0)


@pytest.mark.timing
def test_split_by_time_leaves_a_slow_layer_alone():
    small = [nn.Linear(4, 4) for _ in range(3)]
    heavy = nn.Sequential(nn.Linear(4, 300), nn.Linear(300, 4))  # many bytes, but fast
    model = [small[0], heavy, Slow(0.02, 0.04), *small[1:]]
    x = torch.randn(2, 4)
    assert sizes(split(model, 3, "time", x)) == [2, 1, 2]
    assert sizes(split(model, 3)) != [2, 1, 2]


def test_split_by_memory_counts_gradients_and_moments_of_trained_weights():
    """A trained layer of 256 bytes holds 4 x 256 and its input of 32; a frozen one its weights."""
    model = [nn.Linear(8, 8, bias=False).requires_grad_(i == 0) for i in range(5)]
    assert sizes(split(model, 2, "memory", torch.randn(1, 8))) == [1, 4]  # 1056 and 1024
    assert sizes(split(model, 2)) != [1, 4]


def test_split_by_memory_counts_activations():
    """With 1000 rows, each layer saves 32,000 bytes; the weights come to 1,024."""
    model = [nn.Linear(8, 8, bias=False), *[nn.Tanh() for _ in range(4)]]
    assert sizes(split(model, 2, "memory", torch.randn(1000, 8))) == [2, 3]
    assert sizes(split(model, 2)) == [1, 4]


@pytest.mark.parametrize("by", ["time", "memory"])
def test_split_wants_a_sample(by):
    with pytest.raises(PartitionError, match=f"split by '{by}'.* give sample="):
        split(nn.Sequential(nn.Tanh()), 1, by)

"""What stages share is found, with its name in each; what no rank could train is refused."""

import logging
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.reach import change, snapshot
from pipelab.partition.sharing import find_sharing


class Holds(nn.Module):
    """A layer with something in an attribute."""

    def __init__(self, thing, name="thing"):
        super().__init__()
        setattr(self, name, thing)


class Slots:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


def stages(*layers):
    return [nn.Sequential(layer) for layer in layers]


def closure_over(thing):
    return lambda: thing


def test_ties_have_a_name_in_each_stage_and_the_lowest_owns_them():
    weight, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    first, last = Holds(weight), Holds(weight, "head")
    first.frozen = last.frozen = frozen
    between = Holds(weight)
    between.twice = weight  # named by its first name there, as in a model
    found = find_sharing(stages(first, nn.Tanh(), between, last)).ties
    assert {tie.name: (tie.names, tie.owner, tie.is_trained) for tie in found} == {
        "0.thing": ({0: "0.thing", 2: "0.thing", 3: "0.head"}, 0, True),
        "0.frozen": ({0: "0.frozen", 3: "0.frozen"}, 0, False),
    }


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda x: x, ""),
        (lambda x: [x], "[0]"),
        (lambda x: {"key": (1, x)}, "['key'][1]"),
        (Slots, ".inner"),
        (lambda x: partial(print, x), ".args[0]"),
        (closure_over, ".thing"),
    ],
)
def test_objects_are_found_wherever_they_are(wrap, path):
    cache = {"a": 1}
    found = find_sharing(stages(Holds(wrap(cache)), nn.Tanh(), Holds(wrap(cache)))).objects
    assert [shared.paths for shared in found] == [dict.fromkeys((0, 2), f"0.thing{path}")]
    assert found[0].value is cache


def test_a_shared_module_stands_for_all_that_it_has():
    norm = nn.BatchNorm1d(3)
    found = find_sharing(stages(norm, norm))
    assert [shared.paths for shared in found.objects] == [{0: "0", 1: "0"}]
    assert [tie.name for tie in found.ties] == ["0.bias", "0.weight"]


def test_what_cannot_change_is_not_shared():
    size = (3, 3)
    nothing = find_sharing(
        stages(nn.Conv2d(1, 1, size), nn.Conv2d(1, 1, size), Holds(torch.relu), Holds(torch.relu))
    )
    assert nothing == ((), ())


def test_parts_of_one_memory_that_do_not_overlap_are_no_tie():
    memory = torch.zeros(8)
    parts = [nn.Parameter(part) for part in memory.split(4)]
    assert find_sharing(stages(*map(Holds, parts))) == ((), ())
    with pytest.raises(PartitionError, match=r"0\.thing \(stage 1\) is in the memory of 0\.thing"):
        find_sharing(stages(Holds(parts[0]), Holds(nn.Parameter(memory[3:6]))))
    with pytest.raises(
        PartitionError, match=r"memory of"
    ):  # a constant of one, a weight of another
        find_sharing(stages(Holds(memory[:2]), Holds(nn.Parameter(memory))))
    find_sharing(stages(Holds(memory[:2]), Holds(memory[1:])))  # no weight: constants
    layer = nn.Linear(2, 2)
    nn.utils.spectral_norm(layer)  # has its old weight as a plain tensor, made anew in forwards
    assert len(find_sharing(stages(layer, layer)).ties) == 2
    with pytest.raises(PartitionError, match=r"memory of"):  # within a stage, copies part too
        find_sharing([nn.Sequential(*(Holds(nn.Parameter(memory)) for _ in "ab"))])


@pytest.mark.parametrize("wrap", [lambda layer: [layer], closure_over, lambda x: [x.weight]])
def test_a_weight_that_a_stage_only_refers_to_is_refused_by_name(wrap):
    layer = nn.Linear(2, 2)
    with pytest.raises(PartitionError, match=r"\(stage 1\) is the weight 0\.weight \(stage 0\)"):
        find_sharing(stages(layer, Holds(wrap(layer))))
    layer.requires_grad_(False)  # a constant
    find_sharing(stages(layer, Holds(wrap(layer))))


GLOBAL = nn.Linear(2, 2)


class Head(nn.Module):
    def forward(self, x):
        return [x @ GLOBAL.weight.t() for _ in "a"]


def test_a_weight_of_a_global_layer_is_refused_too():
    for head in (Head(), Holds(lambda x: x @ GLOBAL.weight.t())):
        with pytest.raises(PartitionError, match=r"GLOBAL\.weight \(stage 1\) is the weight 0\.w"):
            find_sharing(stages(GLOBAL, head))
    find_sharing(stages(nn.Linear(2, 2), Head()))  # it is in no stage: a constant


def test_a_loss_may_use_the_weights_of_the_last_stage_alone():
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    assert find_sharing(stages(first, last), lambda o, t: last.weight.norm()) == ((), ())
    with pytest.raises(PartitionError, match=r"\(the loss\)\.first\.weight .*(.|\n)*weight_decay="):
        find_sharing(stages(first, last), lambda o, t: first.weight.norm())


@pytest.mark.parametrize(
    ("alter", "path"),
    [
        (lambda m: setattr(m, "count", 3), "count"),
        (lambda m: m.register_buffer("new", torch.ones(1)), "new"),
        (lambda m: m.cache["x"].append(2), "cache['x'][1]"),
        (lambda m: m.mean.data.add_(1), "mean"),  # no version counter sees that
        (lambda m: m.cache.clear(), "cache['x']"),
        (lambda m: m.table.__setitem__(0, 5.0), "table"),
        (lambda m: m.random.random(), "random"),
        (lambda m: m.numbers.random(), "numbers"),
        (lambda m: (str(m.path), hash(m.path)), None),  # keeps its text for later
        (lambda m: m.logger.isEnabledFor(10), None),  # and this, too
        (lambda m: m.train(False), None),
        (lambda m: m.weight.data.add_(1), None),
        (lambda m: None, None),
    ],
)
def test_a_change_is_named(alter, path):
    module = Holds(0, "count")
    module.cache = {"x": [1.0, float("nan")][:1]}
    module.table = np.array([1.0, np.nan])
    module.random, module.numbers = random.Random(0), np.random.default_rng(0)
    module.path, module.logger = Path("a") / "b", logging.getLogger("pipelab.tests")
    module.weight = nn.Parameter(torch.ones(2))
    module.register_buffer("mean", torch.tensor([0.0, float("nan")]))
    before = snapshot(module, "")
    assert change(before, snapshot(module, "")) is None
    alter(module)
    assert change(before, snapshot(module, "")) == path

"""An object that stages share is right as long as nobody changes it: that is refused by name."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.errors import RankError
from pipelab.partition import as_model
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.one_process import batch

pytestmark = pytest.mark.usefixtures("in_process")


class Scales(nn.Module):
    """Multiplies by what ``change`` makes of its state in each forward."""

    def __init__(self, change, state=None):
        super().__init__()
        self.change, self.state = change, state
        self.calls = 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.change(self)
        return x


def counts(layer):
    layer.calls += 1


def sums_up(layer):
    layer.seen.data += 1


def counts_in_object(layer):
    layer.state.calls = len(vars(layer.state))


def caches(layer):
    layer.state["last"] = 1


def layers_with(*shared):
    first, *others = shared if len(shared) > 1 else shared * 2
    return [nn.Linear(8, 8), first, nn.Linear(8, 8), *others]


def refused(layers, words, schedule=None, evaluate=False):
    schedule = schedule or gpipe(2, 2)
    with (
        Pipeline(layers, schedule, loss=cross_entropy) as pipeline,
        pytest.raises(RankError, match=words) as caught,
    ):
        (pipeline.evaluate if evaluate else pipeline.step)(*batch(8))
    lines = [x for x in str(caught.value).splitlines()[1:] if not x.startswith("  at File")]
    assert max(map(len, lines)) <= 90
    return caught.value


@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (layers_with(Scales(counts)), r"1 of stage 0 is also 3 of stage 1, and 1\.calls changed"),
        (layers_with(Scales(sums_up)), r"a shared Scales has changed(.|\n)* 1\.seen"),
        (
            layers_with(*(Scales(caches, cache) for cache in [{}] for _ in "ab")),
            r"1\.state of stage 0 is also 3\.state of stage 1, and 1\.state",
        ),
        (
            layers_with(*(Scales(counts_in_object, o) for o in [SimpleNamespace()] for _ in "ab")),
            r"a shared SimpleNamespace has changed(.|\n)* 1\.state\.calls",
        ),
    ],
)
def test_a_change_is_refused_at_the_first_microbatch(layers, words, evaluate):
    error = refused(layers, words, evaluate=evaluate)
    assert (error.rank, error.action, error.stage, error.microbatch) == (0, "0F0", 0, 0)


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False), nn.utils.spectral_norm(nn.Linear(8, 8))],
)
def test_layers_of_torch_that_change_in_training(layer):
    refused(layers_with(layer), "has changed")


def test_a_layer_that_changes_in_training_alone_can_be_evaluated():
    layers = layers_with(nn.BatchNorm1d(8))
    with Pipeline(layers, gpipe(2, 2), loss=cross_entropy) as pipeline:
        assert pipeline.evaluate(*batch(8)) > 0
        with pytest.raises(RankError, match=r"1\.running_mean"):
            pipeline.step(*batch(8))


def test_stages_of_the_same_rank_too():
    # they have one object, but their forwards are in another order than those of one process
    layer = Scales(counts)
    layers = [layer, nn.Linear(8, 8), nn.Linear(8, 8), layer]
    assert refused(layers, "has changed", build("zero_bubble_v", 2, 2)).stage == 0


def test_a_change_in_a_backward():
    class Counts(nn.Module):
        calls = 0

        def forward(self, x):
            if x.requires_grad:
                x.register_hook(self.count)
            return x * 1

        def count(self, gradient):
            self.calls = self.calls + 1

    error = refused(layers_with(Counts()), r"a shared Counts has changed(.|\n)*\.calls changed")
    assert error.rank in (0, 1)


def test_a_change_in_a_later_batch():
    class Sixth(nn.Module):
        """Changes in its sixth forward, by a clock of its own process."""

        calls = 0

        def forward(self, x):
            type(self).calls += 1
            if type(self).calls == 6:
                self.last = x
            return x

    with Pipeline(layers_with(Sixth()), gpipe(2, 2), loss=cross_entropy) as pipeline:
        pipeline.step(*batch(8))
        with pytest.raises(RankError, match=r"\d\.last changed"):
            pipeline.step(*batch(8))


def test_what_is_only_read_is_shared():
    config = SimpleNamespace(width=8, names=["a"], mask=torch.ones(8))
    reads = [Scales(lambda layer: layer.state.mask * 2, config) for _ in "ab"]
    once = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.BatchNorm1d(8).eval())
    model = [*layers_with(*reads), *layers_with(once)]
    with Pipeline(model, one_f_one_b(4, 4), loss=cross_entropy) as pipeline:
        for _ in range(2):
            assert pipeline.step(*batch(8)).loss > 0
            assert pipeline.evaluate(*batch(8)) > 0
        pipeline.load_state_dict(pipeline.state_dict())
        other = {name: value + 1 for name, value in as_model(model).state_dict().items()}
        pipeline.load_state_dict(other)  # that is no forward
        pipeline.step(*batch(8))

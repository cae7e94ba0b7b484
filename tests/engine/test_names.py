"""Parameters keep the model's own names in any cut, so that a saved training loads everywhere."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import PartitionError
from pipelab.partition import split
from pipelab.schedules import gpipe
from tests.engine.one_process import assert_same

pytestmark = pytest.mark.usefixtures("in_process")

OPTIONS = {"loss": mse_loss, "optimizer": partial(torch.optim.AdamW, lr=0.01)}
X, Y = torch.randn(12, 8), torch.randn(12, 8)


def sequential(seed=0):
    torch.manual_seed(seed)
    block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    return nn.Sequential(block, nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))


def listed(seed=0):
    return list(sequential(seed))


CUTS = {
    "as it is": lambda model: model,
    "by parameters": lambda model: split(model, 2),
    "by hand": lambda model: split(model, 2, sizes=[1, 4]),
    "a tuple": lambda model: tuple(split(model, 2)),
    "a ModuleList": lambda model: nn.ModuleList(split(model, 2)),
    "cut twice": lambda model: split(split(model, 4), 2),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("model", [sequential, listed])
def test_every_cut_has_the_names_of_the_plain_model(tmp_path, model, cut):
    plain = model()
    names = [*(plain if model is sequential else nn.ModuleList(plain)).state_dict()]
    with Pipeline(CUTS[cut](plain), gpipe(2, 2), **OPTIONS) as pipeline:
        pipeline.step(X, Y)
        assert list(pipeline.state_dict()) == names
        assert [*pipeline.gradients()] == [n for n in names if n.endswith(("weight", "bias"))]
        path = pipeline.save(tmp_path)
        loss, after = pipeline.step(X, Y).loss, pipeline.state_dict()
    saved = torch.load(path, weights_only=True)["model"]
    (plain if model is sequential else nn.ModuleList(plain)).load_state_dict(saved)
    for other in CUTS.values():
        with Pipeline(other(model(seed=1)), gpipe(2, 2), **OPTIONS) as pipeline:
            pipeline.load(tmp_path)
            assert pipeline.step(X, Y).loss == loss
            assert_same(pipeline.state_dict(), after)


def test_slices_are_cuts_too_and_other_lists_are_not():
    model = sequential()
    for stages, first in (
        ([model[:2], model[2:]], "0.0.weight"),
        ([model[:1], model[1:3], model[3:]], "0.0.weight"),
        ([nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8))], "0.0.weight"),
        ([nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))], "0.0.weight"),
    ):
        with Pipeline(stages, gpipe(len(stages), 2), **OPTIONS) as pipeline:
            names = list(pipeline.state_dict())
            assert names[0] == first
            is_cut = isinstance(stages[0][0], nn.Sequential)
            plain = model if is_cut else nn.ModuleList(stages)
            assert names == list(plain.state_dict())
            pipeline.step(X, Y)


def test_a_list_that_joins_parts_of_two_models_is_a_list():
    parts = [*split(sequential(0), 2), *split(sequential(1), 2)]
    with Pipeline(parts, gpipe(4, 2), **OPTIONS) as pipeline:
        assert list(pipeline.state_dict()) == list(nn.ModuleList(parts).state_dict())


def test_hooks_of_a_part_as_a_whole_are_not_dropped():
    parts = split(sequential(), 2)
    parts[0].register_forward_hook(lambda module, inputs, output: output * 0)
    with Pipeline(parts, gpipe(2, 2), **OPTIONS) as pipeline:
        zero = parts[1].eval()(torch.zeros(12, 8))
        assert torch.equal(pipeline.predict(X), zero)


@pytest.mark.parametrize("cut", ["by hand", "cut twice"])
def test_verify_gradients_names_them_alike(cut):
    report = verify_gradients(CUTS[cut](sequential()), gpipe(2, 3), X, Y, mse_loss)
    assert report.ok
    assert [row.name for row in report.parameters] == [
        n for n, _ in sequential().named_parameters()
    ]


@pytest.mark.parametrize(
    ("how", "sizes"),
    [
        (None, [3, 2]), ("parameters", [3, 2]), ("time", None), ("memory", None),
        ([2, 3], [2, 3]), ((4, 1), [4, 1]), (["2"], [2, 3]), (["0", "3"], [3, 2]), (("1",), [1, 4]),
    ],
)  # fmt: skip
def test_a_pipeline_makes_the_cut_itself(how, sizes):
    model, sample = sequential(), X[:4] if how in ("time", "memory") else None
    with Pipeline(model, gpipe(2, 3), split=how, sample=sample, **OPTIONS) as pipeline:
        assert_same(pipeline.state_dict(), model.state_dict())
        pipeline.step(X, Y)
        first, second = layers_of(pipeline)
    assert first | second == {0, 2, 3, 4} and max(first) < min(second)
    if sizes is not None:
        assert first == {0, 2, 3, 4} & {*range(sizes[0])}
    report = verify_gradients(model, gpipe(2, 3), X, Y, mse_loss, split=how, sample=sample)
    assert report.ok and all(row.exact for row in report.parameters)


def test_times_are_not_measured_by_each_process_of_torchruns(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(PartitionError, match=r"measure once, and write the cut down"):
        Pipeline(sequential(), gpipe(2, 2), split="time", sample=X, device="cpu", **OPTIONS)


@pytest.mark.parametrize("how", [[1, 4], ["1"]])
def test_what_was_cut_may_be_cut_elsewhere(how):
    with Pipeline(split(sequential(), 4), gpipe(2, 3), split=how, **OPTIONS) as pipeline:
        pipeline.step(X, Y)
        assert layers_of(pipeline) == [{0}, {2, 3, 4}]


def layers_of(pipeline):
    """The numbers of the layers with parameters on each rank."""
    return [{int(name[0]) for name in answer.found} for answer in pipeline._fetch("gradients")]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("speed", "split by 'speed' is unknown: use one of parameters, time, memory"),
        ("time", "give sample=, the input of one microbatch"),
        ([5], r"sizes=\[5\] cuts 1 stages, not 2"),
        ([2, 2], r"are 4 layers, but the model has 5"),
        ([0, 5], "every stage has at least 1 layer"),
        (["7"], r"no layer '7' that could begin a stage; its layers are 0, 1, 2, 3, 4"),
        (["0.1"], r"no layer '0\.1' that could begin a stage"),
        (["3", "2"], "name each layer once, in the model's order"),
        (["2", "2"], "name each layer once"),
        (["1", "2"], r"cuts 3 stages, not 2"),
        ([], r"split=\[\]: give what to balance"),
        (["1", 2], "give what to balance"),
        ([True, 4], "give what to balance"),
        (2, "split=2: give what to balance"),
        ([2.5, 2.5], "give what to balance"),
        ({"1": 2}, "give what to balance"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(how, words):
    with pytest.raises(PartitionError, match=words):
        Pipeline(sequential(), gpipe(2, 2), split=how, **OPTIONS)


def test_a_sample_that_nothing_measures_is_refused():
    for how in (None, "parameters", [1, 4]):
        with pytest.raises(PartitionError, match=r"sample= is what split='time'"):
            Pipeline(sequential(), gpipe(2, 2), split=how, sample=X, **OPTIONS)

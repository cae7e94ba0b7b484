"""A layer's own state: extra state of any kind, hooks that rename, buffers that appear, versions.

What the pipeline gives and takes is what the plain model gives and takes.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.driver import plan
from pipelab.errors import CheckpointError, RankError
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, plain_loop

M = 4
pytestmark = pytest.mark.usefixtures("in_process")


class Box:
    def __init__(self, number):
        self.number = number


KINDS = {  # what get_extra_state gives for a number, and the number again
    "dict": (lambda n: {"n": n, "list": [torch.tensor(n)]}, lambda s: s["n"]),
    "bytes": (lambda n: str(n).encode(), int),
    "tensor": (lambda n: torch.full((n + 1,), 3.0), lambda s: len(s) - 1),
    "number": (lambda n: n, int),
    "none": (lambda n: None, lambda s: 0),
    "object": (Box, lambda s: s.number),
}


class Counts(nn.Linear):
    """Counts its forwards outside of any tensor, and scales by the count."""

    def __init__(self, kind="dict"):
        super().__init__(8, 8)
        self.kind, self.number = kind, 0

    def forward(self, x):
        self.number += 1
        return super().forward(x) * (1 + self.number % 2)

    def get_extra_state(self):
        return KINDS[self.kind][0](self.number)

    def set_extra_state(self, state):
        self.number = KINDS[self.kind][1](state)


class Renames(nn.Linear):
    """Its state has another name for its weight, by its own hooks."""

    def __init__(self):
        super().__init__(8, 8)
        self.register_state_dict_post_hook(self.out)
        self.register_load_state_dict_pre_hook(self.into)

    @staticmethod
    def out(layer, state, prefix, metadata):
        state[f"{prefix}kernel"] = state.pop(f"{prefix}weight")

    @staticmethod
    def into(layer, state, prefix, *others):
        state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")


class Appears(nn.Linear):
    """A buffer that the first forward makes."""

    def __init__(self):
        super().__init__(8, 8)
        self.register_buffer("seen", None)

    def forward(self, x):
        self.seen = x.detach().mean(0)
        return super().forward(x)


class Version2(nn.Linear):
    """States of version 1 had weights of half the size."""

    _version = 2

    def __init__(self):
        super().__init__(8, 8)

    def _load_from_state_dict(self, state, prefix, metadata, *others):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] * 2
        super()._load_from_state_dict(state, prefix, metadata, *others)


def model_of(layer):
    torch.manual_seed(0)
    return nn.Sequential(*(layer() for _ in range(4)))


def counts_of(state):
    return {name: value for name, value in state.items() if name.endswith("_extra_state")}


def pipeline_of(model, p=2, **options):
    return Pipeline(model, build("1f1b", p, M), loss=cross_entropy, **options)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "object"])
def test_extra_state_is_saved_loaded_and_given(kind, tmp_path):
    model, (x, y) = model_of(lambda: Counts(kind)), batch(8)
    with pipeline_of(model) as pipeline:
        pipeline.step(x, y)
        state, path = pipeline.state_dict(), pipeline.save(tmp_path)
        pipeline.step(x, y)
        pipeline.load(tmp_path)
        again = pipeline.state_dict()
    plain_loop(model, x, y, M)
    theirs = model.state_dict()
    for found in (state, again):
        assert list(found) == list(theirs)
        assert str(counts_of(found)) == str(counts_of(theirs))
    with pipeline_of(model_of(lambda: Counts(kind)), p=4) as other:
        other.load(tmp_path)
        assert str(counts_of(other.state_dict())) == str(counts_of(theirs))
    plain = model_of(lambda: Counts(kind))
    plain.load_state_dict(torch.load(path, weights_only=True)["model"])
    assert str(counts_of(plain.state_dict())) == str(counts_of(theirs))


def test_extra_state_that_was_loaded_is_what_the_next_step_uses():
    model, (x, y) = model_of(Counts), batch(8)
    with pipeline_of(model) as pipeline:
        before = pipeline.step(x, y).loss
        for layer in model:
            layer.number = 1
        pipeline.load_state_dict(model.state_dict())
        after = pipeline.step(x, y).loss
    assert after == plain_loop(model, x, y, M) != before


def test_an_object_as_extra_state_travels_but_is_not_saved(tmp_path):
    class Local(Counts):
        def get_extra_state(self):
            class Own(Box):
                pass

            return Own(self.number)

    with pipeline_of(model_of(lambda: Local("object"))) as pipeline:
        pipeline.step(*batch(8))
        state = pipeline.state_dict()
        assert state["3._extra_state"].number == M
        pipeline.load_state_dict(state)
        with pytest.raises(CheckpointError, match=r"0\._extra_state cannot be kept .* is a Own"):
            pipeline.save(tmp_path)
        assert not [*tmp_path.iterdir()]


def test_hooks_of_a_state_rename_both_ways(tmp_path):
    model, (x, y) = model_of(Renames), batch(8)
    with pipeline_of(model) as pipeline:
        assert_same(pipeline.state_dict(), model.state_dict())
        path, before = pipeline.save(tmp_path), pipeline.step(x, y).loss
        pipeline.load(tmp_path)
        assert pipeline.step(x, y).loss == before
    plain = model_of(Renames)
    plain.load_state_dict(torch.load(path, weights_only=True)["model"])
    assert_same(plain.state_dict(), model.state_dict())


def test_what_such_a_layer_cannot_load_is_its_own_error():
    state = {name: value for name, value in model_of(Renames).state_dict().items() if name < "2"}
    message = r"while it loaded a state: KeyError: '2\.kernel'"
    with pipeline_of(model_of(Renames)) as pipeline, pytest.raises(RankError, match=message):
        pipeline.load_state_dict(state)


def test_a_buffer_that_appears_is_in_the_state():
    model, (x, y) = model_of(Appears), batch(8)
    with pipeline_of(model) as pipeline:
        with pytest.raises(CheckpointError, match=r"has 0\.seen, which the model does not have"):
            pipeline.load_state_dict({**model.state_dict(), "0.seen": torch.zeros(8)})
        pipeline.step(x, y)
        ours = pipeline.state_dict()
        pipeline.load_state_dict(ours)  # as the plain model would
    plain_loop(model, x, y, M)
    assert_same(ours, model.state_dict())


def test_a_state_knows_the_versions_of_its_layers(tmp_path):
    model = model_of(Version2)
    with pipeline_of(model) as pipeline:
        path, state = pipeline.save(tmp_path), pipeline.state_dict()
        for found in (state, torch.load(path, weights_only=True)["model"], model.state_dict()):
            pipeline.load_state_dict(found)
            assert_same(pipeline.state_dict(), model.state_dict())
            plain = model_of(Version2)
            plain.load_state_dict(found)
            assert_same(plain.state_dict(), model.state_dict())
        pipeline.load_state_dict(dict(state))  # without versions: version 1
        assert torch.equal(pipeline.state_dict()["3.weight"], model[3].weight * 2)


def test_a_rank_is_sent_its_own_part_of_a_saved_training_and_no_more():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    state, schedule = model.state_dict(), build("interleaved", 2, 2)
    optimizer = {f"stage {stage}": stage for stage in range(4)} | {"loss scale": 8.0}
    unknown = {"9.made_when_loaded": torch.zeros(1)}  # no rank has it yet: its layer takes it
    held = [["0.weight", "0.bias", "2.weight", "2.bias"], ["1.weight", "1.bias", "3.weight"]]
    commands = plan.loads(state | unknown, optimizer, held * 2, schedule)
    for process, command in enumerate(commands):
        own = process % 2, process % 2 + 2
        names = {f"{layer}.{name}" for layer in own for name in ("weight", "bias")}
        assert command.parameters.keys() == names | {*unknown}
        assert command.optimizer == {f"stage {s}": s for s in own} | {"loss scale": 8.0}
    (first, *_) = plan.loads(state, None, held, schedule)
    assert first.parameters._metadata == state._metadata and first.optimizer is None

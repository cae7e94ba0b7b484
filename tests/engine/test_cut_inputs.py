"""Inputs that are not cut by their first dimension: how that is said, and what is said without it.

A mask with as many rows as the batch was once cut along the wrong dimension without a word.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, Rows, Whole, verify_gradients
from pipelab.errors import BatchError, RankError
from pipelab.partition.tree import flatten_batch, join
from pipelab.schedules import gpipe
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, gradients

IN_PROCESS = pytest.mark.usefixtures("in_process")
TOKENS, WIDTH = 5, 8


class Attend(nn.Module):
    """(rows, tokens, width), or tokens first; a mask of tokens, a scale, a flag and a word."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, mask=None, scale=1.0, causal=False, rows_in="first"):
        x = x if rows_in == "first" else x.transpose(0, 1)
        x = self.linear(x)
        scores = x @ x.transpose(1, 2)
        if mask is not None:
            assert mask.shape == (x.shape[1], x.shape[1])
            scores = scores + mask
            mask += 1.0  # in place: no other microbatch may see it
        if causal is True:
            scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1) > 0, -1e9)
        assert type(scale) in (float, int, torch.Tensor)
        return scores.softmax(-1) @ x * scale


class Average(nn.Module):
    def forward(self, x):
        return x.mean(1)


def layers():
    torch.manual_seed(0)
    return [Attend(), Average(), nn.Linear(WIDTH, WIDTH)]


def data(rows=7, tokens=TOKENS):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, tokens, WIDTH, generator=generator)
    return x, torch.randn(tokens, tokens, generator=generator), torch.arange(rows) % WIDTH


def through(model, **inputs):
    return model[2](model[1](model[0](**inputs)))


KINDS = {
    "whole": lambda x, mask: {"x": x, "mask": Whole(mask)},
    "scale": lambda x, mask: {"x": x, "scale": Whole(torch.tensor(2.0)), "mask": Whole(mask)},
    "dim 1": lambda x, mask: {"x": Rows(x.transpose(0, 1), dim=1), "rows_in": "second"},
    "dim -2": lambda x, mask: {"x": Rows(x.transpose(0, 1), dim=-2), "rows_in": "second"},
    "all": lambda x, mask: {
        "x": Rows(x.transpose(0, 1), dim=1),
        "rows_in": "second",
        "mask": Whole(mask),
        "causal": True,
    },
    "flags": lambda x, mask: {"x": x, "causal": True, "scale": 3, "mask": None},
    "tuple": lambda x, mask: (x, None, 0.5, False),
}


def plain(kind):
    """The keyword arguments without marks."""
    if isinstance(kind, tuple):
        return dict(zip(("x", "mask", "scale", "causal"), kind, strict=True))
    marked = {name: v.tensor if isinstance(v, Rows | Whole) else v for name, v in kind.items()}
    return {
        name: v.clone() if name == "mask" and v is not None else v for name, v in marked.items()
    }


def check(kind, schedule, **options):
    x, mask, y = data(7 if options.get("worker") != "torch" else 8)
    inputs = KINDS[kind](x, mask)
    model = layers()
    with Pipeline(model, schedule, loss=cross_entropy, **options) as pipeline:
        for _ in range(2):
            result = pipeline.step(inputs, y)
            ours = pipeline.gradients()
        (trained,) = pipeline.train([(inputs, y)])
        evaluated, predicted = pipeline.evaluate(inputs, y), pipeline.predict(inputs)
    output = through(model, **plain(inputs))
    loss = cross_entropy(output, y)
    loss.backward()
    for found in (result.loss, trained.loss, evaluated):
        assert found == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(predicted, output, atol=1e-5)
    for name, gradient in gradients(nn.ModuleList(model)).items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6), name
    report = verify_gradients(layers(), schedule, inputs, y, cross_entropy, **options)
    assert report.ok and report.is_whole, report


@IN_PROCESS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("replicas", "name"), [(1, "1f1b"), (2, "zero_bubble_h1")])
def test_one_process_and_the_whole_batch_agree(kind, replicas, name):
    check(kind, build(name, 2, 3), replicas=replicas)


def test_on_torchs_worker():
    check("all", build("1f1b", 2, 4), worker="torch")


@IN_PROCESS
@pytest.mark.parametrize("tokens", [5, 8])
def test_targets_and_outputs_may_have_their_rows_in_dimension_1(tokens):
    """The loss is tried on them too: in dimension 1."""
    x, _, _ = data(8, tokens)
    y = torch.arange(8 * tokens).reshape(tokens, 8) % WIDTH
    model = [nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)]
    inputs, targets = Rows(x.transpose(0, 1), dim=1), Rows(y, dim=1)

    def loss(output, target):
        return cross_entropy(output.flatten(0, 1), target.flatten())

    report = verify_gradients(model, gpipe(2, 3), inputs, targets, loss)
    assert report.ok and report.is_whole, report

    with (
        Pipeline(model, gpipe(2, 3), loss=lambda o, t: loss(o, t).sqrt()) as pipeline,
        pytest.raises(RankError, match="no mean over its rows"),
    ):
        pipeline.step(inputs, targets)
    with Pipeline(model, gpipe(2, 3), loss=loss) as pipeline:
        predicted = pipeline.predict(inputs, dim=1)
        assert predicted.shape == (tokens, 8, WIDTH)
        assert torch.allclose(predicted, nn.Sequential(*model)(x).transpose(0, 1), atol=1e-6)
        with pytest.raises(RankError, match=r"of 3 rows came shape .*\n.*predict\(x, dim=1\)"):
            pipeline.predict(inputs)


@IN_PROCESS
def test_predict_joins_rows_that_were_flattened_with_others():
    x, _, _ = data(8)
    model = [nn.Linear(WIDTH, 4), nn.Flatten(0, 1)]
    with Pipeline(model, gpipe(2, 3), loss=cross_entropy) as pipeline:
        assert torch.allclose(pipeline.predict(x), nn.Sequential(*model)(x), atol=1e-6)


@IN_PROCESS
def test_a_flag_that_changes_is_another_batch():
    x, _, y = data()
    model = layers()
    with Pipeline(model, gpipe(3, 2), loss=cross_entropy) as pipeline:
        for inputs in ({"causal": True}, {"causal": 1}, {"scale": 2.0}, {"scale": 2}, {}):
            expected = cross_entropy(through(model, x=x, **inputs), y).item()
            assert pipeline.step({"x": x, **inputs}, y).loss == pytest.approx(expected, rel=1e-6)


@IN_PROCESS
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            lambda x, mask: {"x": x, "mask": mask},
            r"inputs holds tensors of \[5, 7\] rows.*\n  inputs\['x'\]  \(7, 5, 8\)  7 rows\n"
            r"  inputs\['mask'\]  \(5, 5\)  5 rows\nWhole\(x\) stands",
        ),
        (lambda x, mask: (x, [mask]), r"inputs\[1\]\[0\]  \(5, 5\)  5 rows"),
        (lambda x, mask: {"x": x, "scale": torch.tensor(1.0)}, r"'scale'\]  a single number"),
        (lambda x, mask: Rows(x, dim=1), r"inputs have 5 rows, targets have 7"),
        (lambda x, mask: x.transpose(0, 1), r"inputs  \(5, 7, 8\)  5 rows\n  targets  \(7,\)"),
        (lambda x, mask: {"x": Whole(x)}, r"nothing in inputs is cut by rows:\n.*'x'.*whole"),
        (
            lambda x, mask: {"x": x, "mode": object()},
            r"inputs: a object where a .*\n.*\n.*\n  inputs\['mode'\]  obj",
        ),
        (lambda x, mask: {"n": 3}, "inputs is a dict: give a tensor"),
    ],
)
def test_without_it_the_tensor_is_named(inputs, words):
    x, mask, y = data()
    with Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline:
        for ask in (pipeline.step, pipeline.evaluate):
            with pytest.raises(BatchError, match=words) as caught:
                ask(inputs(x, mask), y)
            assert all(len(line) <= 90 for line in str(caught.value).splitlines())
        assert pipeline.step(x, y).loss > 0


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (lambda: Rows(torch.zeros(2), dim=1), r"Rows\(x, dim=1\): x has 1 dimensions"),
        (lambda: Rows(torch.zeros(()), dim=0), "x has 0 dimensions"),
        (lambda: Rows([1, 2]), "Rows is given a list"),
        (lambda: Whole({"mask": torch.zeros(2)}), "Whole is given a dict"),
    ],
)
def test_marks_stand_around_tensors(mark, words):
    with pytest.raises(BatchError, match=words):
        mark()


@IN_PROCESS
def test_equal_lengths_by_coincidence_are_not_cut_without_a_word():
    x, mask, y = data(6, tokens=6)
    with (
        Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline,
        pytest.warns(UserWarning, match=r"6 rows fit two dim.* inputs\['x'\] and inputs\['mask"),
        pytest.raises(RankError, match="AssertionError"),  # here the first layer notices
    ):
        pipeline.step({"x": x, "mask": mask}, y)
    with Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline:
        pipeline.step({"x": Rows(x), "mask": Whole(mask)}, y)  # no warning: warnings are errors
        pipeline.step(x, y)


class Biased(nn.Module):
    """Adds a table of positions, which a cut one would fit too, by its first dimension."""

    def forward(self, x, table):
        return x + table.mean(0)


@IN_PROCESS
def test_the_whole_batch_shows_a_tensor_that_is_cut_wrongly():
    x, _, y = data(6, tokens=4)
    table, model = torch.randn(6, WIDTH), [Biased(), Average(), nn.Linear(WIDTH, WIDTH)]
    report = verify_gradients(model, gpipe(2, 3), (x, table), y, cross_entropy)
    assert not report.ok and report.mixing.layers == ("0 (Biased)",)
    assert verify_gradients(model, gpipe(2, 3), (x, Whole(table)), y, cross_entropy).is_whole


def test_join_undoes_cut_in_every_dimension():
    value = {"a": Rows(torch.randn(3, 6, 2), dim=1), "b": Whole(torch.randn(4)), "c": True}
    flat = flatten_batch(value)
    parts = flat.cut([3, 1, 2])
    assert [part.rows for part in parts] == [3, 1, 2]
    joined = join(parts).unflatten()
    assert_same({"a": joined["a"], "b": joined["b"]}, {n: value[n].tensor for n in "ab"})
    assert joined["c"] is True
    assert (
        flat.signature == flatten_batch(value | {"a": Rows(torch.randn(3, 9, 2), dim=1)}).signature
    )
    for other in ({"c": 1}, {"b": Whole(torch.randn(5))}, {"a": torch.randn(3, 6, 2)}):
        assert flat.signature != flatten_batch(value | other).signature

"""What a step is given: pairs of inputs and targets. Anything else is refused before it runs.

A loader of inputs alone, with two rows in a batch, once trained row 0 against row 1.
"""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import BatchError, LossError
from pipelab.schedules import one_f_one_b
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

pytestmark = pytest.mark.usefixtures("in_process")
SCHEDULE = one_f_one_b(2, 2)
X, Y = batch(12)
Named = namedtuple("Named", "image label")


def size_of_output(output, target):
    return output.square().mean()


def open_pipeline(loss=cross_entropy):
    return Pipeline(linears(), SCHEDULE, loss=loss)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (DataLoader(X, batch_size=2), r"batch 0 of train\(\) is a tensor of shape \(2, 8\), not a"),
        (DataLoader(X, batch_size=3), r"train\(\(x, x\) for x in loader\)"),
        ([torch.stack([X, X])], r"a tensor of shape \(2, 12, 8\)"),
        (DataLoader(TensorDataset(X), 4), r"a list of 1, .*\n.*\(x, x\) for \(x,\) in loader"),
        (DataLoader(TensorDataset(X, X, Y), 4), r"a list of 3, .*\n.*\(\(a, b\), y\)"),
        ([{"x": X, "y": Y}], r"a dict with 'x', 'y', .*\n.*b\[\"y\"\]"),
        ([OrderedDict(a=X, b=Y)], "an? OrderedDict with 'a', 'b'"),
        (["xy"], "a str, not a pair"),
        ([{"x", "y"}], "a set, not a pair"),
        ([None], "a NoneType, not a pair"),
        ((X, Y), r"batch 0 .* a tensor .*12, 8"),  # one pair, not a list of pairs
        ({"x": X}, "batch 0 .* a str"),
        (X[:2], "an iterable of pairs .* not a Tensor"),
        (None, "an iterable of pairs .* not a NoneType"),
        ([(X, None)], "targets is a NoneType"),
        ([(None, Y)], "inputs is a NoneType"),
    ],
)
def test_what_is_no_pair_is_refused_and_the_pipeline_stays_open(batches, words):
    with open_pipeline(mse_loss) as pipeline:
        with pytest.raises(BatchError, match=words):
            next(pipeline.train(batches))
        assert pipeline.step(X, X).loss > 0


def test_the_batch_is_named_and_those_before_it_are_trained():
    with open_pipeline() as pipeline:
        results = []
        with pytest.raises(BatchError, match=r"batch 2 of train\(\)"):
            for result in pipeline.train([(X, Y), [X, Y], X]):
                results.append(result.loss)
    assert len(results) == 2


@pytest.mark.parametrize("pair", [(X, Y), [X, Y], Named(X, Y)])
def test_pairs_are_trained(pair):
    model = linears()
    with open_pipeline() as pipeline:
        (result,) = pipeline.train(iter([pair]))
        ours = pipeline.gradients()
    assert result.loss == plain_loop(model, X, Y, 2)
    assert_same(ours, gradients(model))


def test_without_targets_there_is_no_loss_and_predict_needs_none():
    # evaluate(x, None) once was 0.0
    with open_pipeline(size_of_output) as pipeline:
        for ask in (pipeline.step, pipeline.evaluate):
            with pytest.raises(BatchError, match=r"for a loss of the output alone .* step\(x, x\)"):
                ask(X, None)
        expected = size_of_output(pipeline.predict(X), None).item()
        assert pipeline.step(X, X).loss == pytest.approx(expected)
        assert pipeline.evaluate(X, {"x": X, "y": Y}) == pytest.approx(expected)
    with pytest.raises(BatchError, match="targets is a NoneType"):
        verify_gradients(linears(), SCHEDULE, X, None, size_of_output)
    assert verify_gradients(linears(), SCHEDULE, X, X, size_of_output).ok


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda output: output.mean(), "too many positional arguments"),
        (lambda output, target, weight: output.mean(), "missing a required argument: 'weight'"),
    ],
)
def test_a_loss_takes_output_and_target(loss, words):
    with pytest.raises(LossError, match=rf"called as loss\(output, target\): {words}"):
        open_pipeline(loss)

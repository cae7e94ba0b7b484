"""``verify_gradients`` has a second column: the whole batch in one forward.

Microbatches are right by themselves even where a layer mixes rows, so the first column said ``ok``
for gradients that are none of the whole batch.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from pipelab.engine import verify_gradients
from pipelab.engine.verify.gradient_report import _compare
from pipelab.errors import PipelabError
from pipelab.schedules import one_f_one_b
from tests.engine.one_process import batch, linears

SCHEDULE = one_f_one_b(2, 3)


class LessMean(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Residual(nn.Module):
    """A block with a layer inside it, and a scale that only some layers reach."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.linear = inner, nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(self.inner(x))


class Average(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


class MeanBeside(nn.Module):
    """Gives a mean over the rows, whose mean over microbatches is that of the batch."""

    def forward(self, x):
        return x, x.square().mean()


class Trim(nn.Module):
    """(rows, tokens, 8): leaves out the tokens that are 0 in all rows that it sees."""

    def forward(self, x):
        return x[:, : int((x != 0).any(2).sum(1).max())]


class Total(nn.Module):
    def forward(self, x):
        return x.sum(1)


class LargeOnly(nn.Module):
    """Fails on more rows than a microbatch has, as for want of memory."""

    def forward(self, x):
        if len(x) > 4:
            raise MemoryError("no room for 12 rows")
        return x


def encoder(batch_first, dropout=0.0):
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=batch_first)


def verified(*layers, rows=12, x=None, loss=cross_entropy, **options):
    torch.manual_seed(0)
    model = [nn.Linear(8, 8), *layers, nn.Linear(8, 8)]
    return verify_gradients(
        model, SCHEDULE, batch(rows)[0] if x is None else x, batch(rows)[1], loss, **options
    )


def lines(report):
    """Those below the table."""
    return str(report).split("loss ", 1)[1].splitlines()[1:]


@pytest.mark.parametrize("replicas", [1, 2])
def test_layers_that_keep_rows_apart_are_close_to_the_whole_batch(replicas):
    report = verified(nn.Tanh(), nn.LayerNorm(8), rows=13, replicas=replicas)
    assert report.ok and report.is_whole and lines(report) == []
    assert all(row.whole_difference < 1e-7 for row in report.parameters)
    assert report.whole_loss == pytest.approx(report.loss, rel=1e-6)
    assert "exact  max difference 0.0e+00  whole batch close" in str(report) or replicas == 2


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (LessMean(), "1 (LessMean)"),
        (nn.Sequential(nn.Tanh(), nn.Sequential(LessMean())), "1.1.0 (LessMean)"),
        (Residual(LessMean()), "1 (Residual)"),
        (nn.Softmax(0), "1 (Softmax)"),
        (nn.BatchNorm1d(8, track_running_stats=False).eval(), "1 (BatchNorm1d)"),
    ],
)
def test_a_layer_that_mixes_rows_is_named(layer, name):
    report = verified(layer)
    assert all(row.exact for row in report.parameters)  # the same microbatches say nothing
    assert not report.ok and not report.is_whole
    assert report.mixing.layers == (name,)
    assert lines(report)[0].startswith(f"layer {name}: other outputs for the whole batch")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_with_rows_in_dimension_1_is_named(dropout):
    x = torch.randn(12, 5, 8)
    report = verified(encoder(True, dropout), Average(), x=x)
    assert report.ok and report.mixing.layers == ()
    report = verified(encoder(False, dropout), Average(), x=x)
    assert not report.ok and report.mixing.layers == ("1 (TransformerEncoderLayer)",)


def test_batchnorm_is_known_to_differ_and_hides_no_other():
    for layers, name in (
        ((nn.BatchNorm1d(8),), "1 (BatchNorm1d)"),
        ((Residual(nn.BatchNorm1d(8)),), "1.inner (BatchNorm1d)"),
        ((nn.BatchNorm1d(8, track_running_stats=False),), "1 (BatchNorm1d)"),
    ):
        report = verified(*layers)
        assert report.ok and not report.is_whole and report.mixing.layers == ()
        assert lines(report) == [f"BatchNorm normalizes each microbatch: layer {name}"]
    report = verified(nn.BatchNorm1d(8), LessMean(), nn.Tanh())
    assert not report.ok and report.mixing.layers == ("2 (LessMean)",)
    assert verified(nn.BatchNorm1d(8).eval()).is_whole


@pytest.mark.parametrize(("layer", "name"), [(nn.Dropout(0.5), "Dropout"), (Noise(), "Noise")])
def test_random_layers_are_named_and_not_compared(layer, name):
    before = torch.get_rng_state()
    torch.manual_seed(0)
    report = verified(nn.Dropout(0.0), layer)
    assert report.whole_loss is None
    assert {row.whole_close for row in report.parameters} == {None}
    assert lines(report) == [f"whole batch not compared, random numbers: layer 2 ({name})"]
    report = verified(layer, LessMean())
    assert not report.ok and report.mixing.layers == ("2 (LessMean)",)
    torch.set_rng_state(before)


def test_a_batch_that_does_not_fit_at_once_is_said_to():
    report = verified(LargeOnly())
    assert report.ok and report.whole_loss is None
    assert lines(report) == ["whole batch not compared, MemoryError: no room for 12 rows"]


def test_a_mean_over_rows_beside_the_output_is_no_mixing_if_gradients_agree():
    def loss(output, target):
        logits, mean = output
        return cross_entropy(logits, target) + 0.1 * mean

    model = [*linears(3), MeanBeside()]
    report = verify_gradients(model, SCHEDULE, *batch(12), loss)
    assert report.ok and report.is_whole and lines(report) == []


def test_padding_that_is_trimmed_by_microbatch_is_no_mixing_if_gradients_agree():
    x = torch.randn(12, 5, 8)
    x[:6, 3:] = 0.0
    model = [nn.Sequential(Trim(), nn.Linear(8, 8, bias=False), Total()), nn.Linear(8, 8)]
    report = verify_gradients(model, SCHEDULE, x, batch(12)[1], cross_entropy)
    assert report.ok and report.is_whole and lines(report) == []


def test_a_bias_whose_gradient_is_only_rounding_is_close():
    report = verified(nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 8, 1), nn.Flatten(), nn.GroupNorm(8, 8))
    assert report.ok and report.is_whole, report
    # each channel is normalized over its four places, so its bias is subtracted again
    layers = nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 1), nn.GroupNorm(2, 2), nn.Flatten()
    report = verified(*layers)
    assert report.ok and report.is_whole, report


@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [
        (torch.float64, 1e-13, 1e-11),
        (torch.complex128, 1e-13, 1e-11),
        (torch.float32, 5e-7, 5e-6),
        (torch.bfloat16, 1e-2, 5e-2),
    ],
)
def test_tolerances_go_by_the_dtype(dtype, near, far):
    gradient = torch.tensor([1.0, 0.25, -0.5], dtype=dtype)
    for error, is_close in ((0.0, True), (near, True), (far, False)):
        ours = gradient + torch.tensor([0.0, 0.0, error], dtype=dtype)
        row = _compare("w", ours, gradient)
        assert (row.close, row.exact) == (is_close, torch.equal(ours, gradient))
        assert row.result == ("exact" if row.exact else "close" if is_close else "WRONG")


def test_float64_is_exact_to_its_own_digits():
    model, (x, y) = linears(4).double(), batch(13)
    report = verify_gradients(model, SCHEDULE, x.double(), y, cross_entropy)
    assert report.ok and report.tolerance == 1e-12
    assert all(row.exact and row.whole_difference < 1e-15 for row in report.parameters)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip_norm": 1.0}, "clip_norm= acts on them later, leave it out"),
        ({"optimizer": partial(SGD, lr=0.1)}, "optimizer= acts on them"),
        (
            {"optimizer": partial(SGD, lr=0.1), "lr_schedule": partial(StepLR, step_size=1)},
            "optimizer=, lr_schedule= acts on them later, leave them out",
        ),
    ],
)
def test_options_that_act_after_the_gradients_are_refused(options, words):
    with pytest.raises(PipelabError, match=words):
        verified(**options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'clip'"):
        verified(clip=1.0)
    assert verified(clip_norm=None, timeout=5.0).ok

"""A loss is a mean over its rows, or over what ``count=`` says; any other is refused with figures.

Whole batch and microbatches would not agree: each of these was trained without a word once.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import RankError
from pipelab.schedules import one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_whole_batch, batch, linears

WEIGHTS = torch.tensor([1.0, 5.0, 0.5, 2.0, 1.0, 3.0, 0.1, 1.0])
SCHEDULE = one_f_one_b(2, 3)


def weighted(output, target):
    return cross_entropy(output, target, weight=WEIGHTS)


def root_of_mean_square(output, target):
    return mse_loss(output, target).sqrt()


def contrastive(output, target):
    z = normalize(output)
    return cross_entropy(z @ z.T / 0.5, torch.arange(len(z)))


def dice(output, target):
    share = output.sigmoid()
    return 1 - 2 * (share * target).sum() / (share.sum() + target.sum())


def hardest_pair(output, target):
    apart = torch.cdist(output, output) + 1e6 * torch.eye(len(output))
    return apart.min(1).values.mean()


def floats(rows):
    return torch.rand(rows, 8)


def classes(rows):
    return batch(rows)[1]


NO_MEANS = {
    root_of_mean_square: floats,
    contrastive: classes,
    dice: floats,
    hardest_pair: classes,
}


def ranks_refuse(loss, rows, target, **options):
    """The real first rows are tried on the last rank, in its first forward.

    On processes: threads share random numbers, and a loss that draws is not judged.
    """
    with pytest.raises(RankError, match="no mean over its rows") as caught:
        verify_gradients(linears(), SCHEDULE, batch(rows)[0], target, loss, **options)
    assert caught.value.rank == 1 and caught.value.stage == 1
    return str(caught.value)


@pytest.mark.parametrize("worker", ["pipelab", "torch"])
def test_class_weights_are_refused_on_the_first_rows(worker):
    message = ranks_refuse(weighted, 12, classes(12), worker=worker)
    assert "8 rows together give" in message and "weights[targets].sum()" in message


def test_ignored_targets_are_refused_without_a_count():
    target = classes(12)
    target[[1, 5]] = -100
    assert "(targets != -100).sum()" in ranks_refuse(cross_entropy, 12, target)


@pytest.mark.parametrize("rows", [3, 4, 12])
@pytest.mark.parametrize("loss", NO_MEANS, ids=lambda loss: loss.__name__)
def test_no_means_are_refused_also_from_microbatches_of_one_row(loss, rows):
    ranks_refuse(loss, rows, NO_MEANS[loss](rows))


@pytest.mark.usefixtures("in_process")
def test_with_its_count_a_weighted_loss_is_that_of_the_whole_batch():
    model, (x, y) = linears(4), batch(13)
    with Pipeline(
        model, SCHEDULE, loss=weighted, count=lambda target: WEIGHTS[target].sum(), replicas=2
    ) as pipeline:
        loss = pipeline.step(x, y).loss
        ours = pipeline.gradients()
    assert_whole_batch(model, x, y, loss, ours, weighted)


def test_a_wrong_count_is_refused():
    ranks_refuse(cross_entropy, 12, classes(12), count=lambda t: (t > 3).sum() + 1.0)


class Noisy(nn.Module):
    """Draws, and counts its calls; a trial judges neither."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, output, target):
        self.calls += 1
        noise = torch.randn(len(output), 1)
        return cross_entropy(output + 0.1 * noise, target) + 0.0 * self.calls


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.NLLLoss(),
        lambda output, target: -(output.log_softmax(1)[range(len(target)), target]).mean(),
        Noisy(),
    ],
)
def test_means_over_rows_are_accepted(loss):
    assert verify_gradients(linears(), build("zero_bubble_h1", 2, 3), *batch(13), loss).ok


def test_a_step_with_a_trial_draws_the_same_numbers():
    with Pipeline(linears(), SCHEDULE, loss=Noisy(), seed=3) as pipeline:
        with_trial = pipeline.step(*batch(12)).loss
    with Pipeline(linears(), SCHEDULE, loss=Noisy(), seed=3) as pipeline:
        pipeline.evaluate(*batch(12))  # the trial
        without = pipeline.step(*batch(12)).loss
    assert with_trial == without

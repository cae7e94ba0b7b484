"""The trial of a loss: what it judges, what it leaves alone, and that it changes nothing.

test_loss_kinds.py has the losses that ranks refuse and accept.
"""

import threading

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from pipelab.engine import Pipeline
from pipelab.engine.driver.checks import check_loss
from pipelab.engine.driver.microbatches import Rule, share_out
from pipelab.engine.protocol.commands import Trial
from pipelab.engine.protocol.loss_trial import Rows
from pipelab.errors import LossError, RankError
from pipelab.partition.tree import flatten
from pipelab.schedules import gpipe
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

HALVES = Trial(counts=(1.0,) * 8, takes=(4, 4), reduction="mean")
IN_PROCESS = pytest.mark.usefixtures("in_process")


def try_in_halves(loss, output, target, order=(0, 1)):
    """Give the rows to a trial as two microbatches."""
    rows = Rows(HALVES, loss)
    for i in order:
        part = slice(4 * i, 4 * i + 4)
        rows.add(i, output[part], flatten(target[part]))
        loss(output[part], target[part])  # as the stage does
    assert rows.parts == {}  # nothing is kept any longer


def root(output, target):
    return mse_loss(output, target).sqrt()


def floats(dtype=torch.float32):
    return torch.randn(8, 8, dtype=dtype), torch.randn(8, 8, dtype=dtype)


class Counts(nn.Module):
    """Keeps its last value, with its graph, and the number of its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, output, target):
        self.calls += 1
        self.last = cross_entropy(output, target)
        return self.last


def test_a_copy_is_tried_also_of_a_loss_that_keeps_a_graph():
    output, target = batch(8)
    loss = Counts()
    try_in_halves(loss, output.requires_grad_(), target)
    assert loss.calls == 2 and loss.last.requires_grad


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_microbatches_may_come_in_any_order(order):
    with pytest.raises(LossError, match="8 rows together"):
        try_in_halves(root, *floats(), order)


def test_random_numbers_are_as_without_a_trial():
    own = torch.Generator().manual_seed(3)

    def noisy(output, target):
        noise = torch.randn(output.shape, generator=own) + torch.randn(output.shape)
        return cross_entropy(output + noise, target)

    output, target = batch(8)
    expected = own.get_state(), torch.get_rng_state()
    Rows(Trial((1.0,) * 8, (8,), "mean"), noisy).add(0, output, flatten(target))
    for before, after in zip(expected, (own.get_state(), torch.get_rng_state()), strict=True):
        assert torch.equal(before, after)


def test_a_loss_that_draws_is_not_judged_though_it_gave_the_same_twice():
    def rarely_noisy(output, target):  # as one that leaves out a row in a million
        return root(output, target) + (torch.rand(()) > 2)

    try_in_halves(rarely_noisy, *floats())


def test_terms_that_cancel_are_judged_by_their_size():
    def signed(output, target):
        return (1e5 * output * target).mean()

    output, target = floats()
    target[4:] = -target[:4]
    try_in_halves(signed, torch.cat([output[:4]] * 2) + 1e-7 * output, target)


def test_whole_numbers_in_an_output_make_it_no_less_exact():
    def nearly(output, target):
        return mse_loss(output[0], target) + 1e-3 / len(target)

    output, target = floats()
    rows = Rows(Trial((1.0,) * 8, (8,), "mean"), nearly)
    with pytest.raises(LossError):
        rows.add(0, (output, torch.arange(8)), flatten(target))


def test_autocast_rounds_what_the_loss_multiplies():
    def rounded(output, target):  # as another kernel would, for single rows
        return cross_entropy(output, target) * (1 + 2**-8 * (len(output) == 1))

    with torch.autocast("cpu", torch.bfloat16):
        try_in_halves(rounded, *batch(8))
    with pytest.raises(LossError):
        try_in_halves(rounded, *batch(8))


def test_what_is_compiled_is_tried_as_it_is_written():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    loss = torch.compile(cross_entropy, backend=backend)
    rows = Rows(Trial((1.0,) * 8, (8,), "mean"), cross_entropy)
    rows.loss = loss
    output, target = batch(8)
    rows.add(0, output, flatten(target))
    assert rows.takes == () and not compiled


def tried_rows(targets, count=None, sizes=(3, 3, 3)):
    rows = sum(sizes)
    inputs, rule = torch.zeros(rows, 1), Rule(count)
    shares = share_out(
        flatten(inputs), flatten(targets), rows, len(sizes), 1, rule, with_trial=True
    )
    return shares[0].trial


def test_what_is_tried_of_each_microbatch():
    assert tried_rows(torch.zeros(9)).takes == (3, 3, 2)
    assert tried_rows(torch.zeros(2), sizes=(1, 1)).takes == (1, 1)
    assert tried_rows(torch.zeros(1), sizes=(1,)) is None
    assert tried_rows(torch.ones(9), lambda target: 2 * target.sum()).counts == (2.0,) * 8


def test_rows_that_count_nothing_are_not_tried():
    targets = torch.tensor([0.0] * 8 + [1.0])
    assert tried_rows(targets, lambda target: target.sum()) is None
    # nor those that cannot be counted alone
    assert tried_rows(targets + 1, lambda target: target[[0, 1, 2]].sum()) is None


@IN_PROCESS
def test_the_first_batch_that_has_enough_rows_is_tried():
    weights = torch.arange(1.0, 9.0)

    def weighted(output, target):
        return cross_entropy(output, target, weight=weights)

    with Pipeline(linears(), gpipe(2, 2), loss=weighted) as pipeline:
        pipeline.predict(batch(8)[0])
        pipeline.evaluate(*batch(1))
        with pytest.raises(RankError, match="no mean over its rows"):
            pipeline.step(*batch(8))


@IN_PROCESS
def test_an_evaluation_that_would_give_a_wrong_mean_is_refused():
    with (
        Pipeline(linears(), gpipe(2, 2), loss=root) as pipeline,
        pytest.raises(RankError, match="no mean over its rows") as caught,
    ):
        pipeline.evaluate(batch(8)[0], torch.rand(8, 8))
    assert caught.value.stage == 1


class Named(nn.Module):
    def forward(self, x):
        return {"logits": x, "version": 3}


def of_logits(output, target):
    assert output["version"] == 3
    return cross_entropy(output["logits"], target)


class Opens(nn.Module):
    """After its first call, it cannot be copied any more."""

    def forward(self, output, target):
        self.lock = threading.Lock()
        return cross_entropy(output, target)


@IN_PROCESS
@pytest.mark.parametrize(("last", "loss"), [(Named(), of_logits), (nn.Identity(), Opens())])
def test_what_cannot_be_tried_is_trained_as_before(last, loss):
    model, (x, y) = nn.Sequential(*linears(2), last), batch(8)
    with Pipeline(model, gpipe(2, 2), loss=loss) as pipeline:
        pipeline.evaluate(x, y)
        pipeline.step(x, y)
        ours = pipeline.gradients()
    plain_loop(nn.Sequential(*model[:2]), x, y, 2)
    assert_same(ours, gradients(model))


def wants_one_thread(output, target):
    """A loss that is refused with more than one thread; a copy of it is tried, not itself."""
    return torch.zeros(()) if torch.get_num_threads() == 1 else "two threads"


def test_the_check_of_a_loss_computes_with_one_thread():
    """With two, each operation on a few numbers took 20 ms on a busy machine."""
    torch.set_num_threads(2)  # the fixture puts it back
    check_loss(wants_one_thread)
    assert torch.get_num_threads() == 2

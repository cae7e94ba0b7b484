"""A batch is flattened once on its way, and named tuples stay named tuples."""

import threading
from collections import Counter
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils import _pytree as pytree

from pipelab.engine import Pipeline
from pipelab.engine.driver import plan
from pipelab.engine.driver.batches import check_batch
from pipelab.engine.driver.microbatches import Rule, share_out
from pipelab.errors import RankError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.in_process import in_threads
from tests.engine.one_process import Return, assert_same, batch, gradients, plain_loop
from tests.engine.test_ordered_messages import sessions  # noqa: F401 - a fixture


class Pair(NamedTuple):
    value: Tensor
    side: Tensor | None


def pair_here():
    """The same class as a cell of a notebook makes it: ranks cannot import it."""
    scope = {"__name__": "__main__", "NamedTuple": NamedTuple, "Tensor": Tensor}
    exec("class Pair(NamedTuple):\n    value: Tensor\n    side: Tensor | None", scope)
    return scope["Pair"]


class Makes(nn.Module):
    """Gives a named tuple."""

    def __init__(self, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(8, 8), kind

    def forward(self, value, side):
        return self.kind(self.linear(value), None if side is None else side * 2)


class Wants(nn.Sequential):
    """A stage's only layer, an nn.Sequential, gets what the stage before gave, as it is."""


class Takes(nn.Module):
    """Wants the named tuple itself, and gives one."""

    def __init__(self, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(8, 8), kind

    def forward(self, pair):
        assert type(pair).__name__ == "Pair" and isinstance(pair, self.kind)
        value = torch.tanh(self.linear(pair.value))
        return self.kind(value, pair.side)


def pair_loss(kind, output, target):
    assert isinstance(output, kind) and isinstance(target, kind)
    return cross_entropy(output.value, target.value) + output.side.mean() * 0


def model_of(kind):
    torch.manual_seed(0)
    return [Makes(kind), Wants(Takes(kind)), Wants(Takes(kind)), Wants(Takes(kind))]


def batch_of(kind):
    torch.manual_seed(1)
    return kind(torch.randn(10, 8), torch.randn(10, 3)), kind(torch.arange(10) % 8, None)


@pytest.mark.parametrize("where", ["in a module", "in a notebook"])
def test_a_named_tuple_is_one_on_every_stage_in_the_loss_and_at_home(where):
    kind = Pair if where == "in a module" else pair_here()
    layers, (inputs, targets) = model_of(kind), batch_of(kind)
    loss = partial(pair_loss, kind)
    whole = nn.ModuleList(layers)

    def rows(pair):
        return len(pair.value)

    def forward(value):
        value = layers[0](*value)
        for layer in layers[1:]:
            value = layer(value)
        return value

    with Pipeline(layers, one_f_one_b(4, 3), loss=loss) as pipeline:
        for _ in range(2):  # the first batch carries the headers
            whole.zero_grad()
            expected = plain_loop(forward, inputs, targets, 3, loss, weigh=rows)
            assert pipeline.step(inputs, targets).loss == expected
            assert_same(pipeline.gradients(), gradients(whole))
        output = pipeline.predict(inputs)
        assert pipeline.evaluate(inputs, targets) > 0
    assert type(output) is kind
    assert output.value.shape == (10, 8) and torch.equal(output.side, inputs.side * 2)


class TakesMax(nn.Module):
    def forward(self, values, indices):
        return values[:, None] * torch.linspace(0, 1, 8) + indices[:, None] / 8


def test_what_torch_max_returns_is_handed_over():
    layers, (x, y) = [nn.Linear(8, 8), Return("named tuple"), TakesMax()], batch(6)

    def forward(value):
        return layers[2](*layers[1](layers[0](value)))

    with Pipeline(layers, gpipe(3, 3), loss=cross_entropy) as pipeline:
        loss = pipeline.step(x, y).loss
        assert loss == plain_loop(forward, x, y, 3)
        assert_same(pipeline.gradients(), gradients(nn.ModuleList(layers)))


def test_torchs_worker_says_that_it_hands_over_plain_tuples():
    layers = [Return("named tuple"), TakesMax()]
    with (
        Pipeline(layers, gpipe(2, 3), loss=cross_entropy, worker="torch") as pipeline,
        pytest.raises(RankError, match=r"a stage returns a max: .*\n.*plain tuple of tensors"),
    ):
        pipeline.step(*batch(6))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, rest):
        return self.linear(x), rest


class Last(nn.Module):
    def forward(self, x, rest):
        return x + rest["a"][0]


def test_a_batch_is_flattened_once_on_its_way(sessions, monkeypatch):  # noqa: F811
    schedule = build("1f1b", 3, 4)
    layers = [Nested(), Nested(), Last()]
    found, _, _ = sessions(layers, schedule)
    x, y = torch.randn(8, 4), torch.arange(8) % 4
    inputs, targets = (x, {"a": [torch.randn(8, 4), None]}), (y,)
    for session in found:
        for stage in session.worker.stages.values():
            stage.loss = stage.loss and (lambda output, target: cross_entropy(output, target[0]))
    counts, plain, lock = Counter(), pytree.tree_flatten, threading.Lock()

    def counting(value, *options, **named):
        with lock:
            counts["batch" if holds(value, x) or holds(value, y) else "other"] += 1
        return plain(value, *options, **named)

    def holds(value, tensor):
        leaves = plain(value)[0]
        storage = tensor.untyped_storage().data_ptr()
        return any(
            isinstance(t, Tensor) and t.untyped_storage().data_ptr() == storage for t in leaves
        )

    def step():
        counts.clear()
        flat = check_batch(inputs, targets, 4, train=True)
        shares = share_out(*flat, 4, 1, Rule())
        options = {"train": True, "signature": flat[0].signature}
        runs = plan.runs(shares, schedule, options)
        in_threads([partial(s.answer, r) for s, r in zip(found, runs, strict=True)])

    monkeypatch.setattr(pytree, "tree_flatten", counting)
    monkeypatch.setattr(pytree, "tree_leaves", lambda value, **named: counting(value)[0])
    step()  # exchanges headers, measures what each stage keeps
    step()
    # inputs and targets once each; and what each of two stages hands over, once for a microbatch
    assert counts == {"batch": 2, "other": 2 * 4}

"""A backward in halves runs once what must run once: hooks, Python functions, recomputation.

Each layer here does something that a second run would spoil: it scales gradients, counts in a
buffer (which is part of the state), frees what it kept, or works in place.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from pipelab.engine import Pipeline
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, gradients, plain_loop

M = 4


class Layer(nn.Module):
    """A linear layer with something on its way; ``seen`` counts how often that ran."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.linear = nn.Linear(8, 8)
        self.register_buffer("seen", torch.zeros(()))
        if what == "hook of a module":
            self.linear.register_full_backward_hook(self.scale_inputs)

    def count(self):
        self.seen.add_(1)

    def scale(self, gradient):
        self.count()
        return gradient * 0.5

    def scale_all(self, gradients):
        self.count()
        return tuple(None if g is None else g * 0.5 for g in gradients)

    def scale_inputs(self, module, inputs, outputs):
        return self.scale_all(inputs)

    def forward(self, x):
        match self.what:
            case "hook of a tensor":
                h = self.linear(x)
                h.register_hook(self.scale)
            case "hook before a node":
                h = self.linear(x)
                h.grad_fn.register_prehook(self.scale_all)
            case "hook after a node":
                h = self.linear(x).tanh()
                h.grad_fn.register_hook(lambda ours, theirs: self.scale_all(ours))
            case "hook of several tensors":
                h = self.linear(x)
                torch.autograd.graph.register_multi_grad_hook((h,), lambda _: self.count())
            case "hook, and weights used twice":
                h = self.linear(x)
                h.register_hook(self.scale)
                h = self.linear(h)
            case "hook of a module":
                h = self.linear(x)
            case "function that counts":
                h = Count.apply(self.linear(x), self.linear.weight, self)
            case "function that frees":
                h = Free.apply(self.linear(x), self.linear.weight)
            case "function in place":
                h = InPlace.apply(self.linear(x))
            case "checkpoint":
                h = checkpoint(self.recomputed, x, use_reentrant=False)
            case "saved tensors packed":
                with torch.autograd.graph.saved_tensors_hooks(torch.clone, self.unpack):
                    h = self.linear(x).tanh()
            case _:
                raise AssertionError(self.what)
        return h

    def recomputed(self, x):
        self.count()
        return self.linear(x).tanh()

    def unpack(self, tensor):
        self.count()
        return tensor


class Count(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, layer):
        ctx.layer = layer
        return x + weight.sum()

    @staticmethod
    def backward(ctx, gradient):
        ctx.layer.count()
        return gradient * 0.5, torch.ones(8, 8) * gradient.sum(), None


class Free(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.kept = x
        return x * weight.sum()

    @staticmethod
    def backward(ctx, gradient):
        kept, ctx.kept = ctx.kept, None
        weights = torch.ones(8, 8)
        return gradient * kept.sum(), weights * (gradient * kept).sum()


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mul_(0.5)


TWICE = {"checkpoint"}  # the forward, and once more for the backward
KINDS = [
    "hook of a tensor",
    "hook before a node",
    "hook after a node",
    "hook of several tensors",
    "hook, and weights used twice",
    "hook of a module",
    "function that counts",
    "function that frees",
    "function in place",
    "checkpoint",
    "saved tensors packed",
]


def model_of(what, layers):
    torch.manual_seed(0)
    middle = layers // 2
    return nn.Sequential(*(Layer(what) if i >= middle else nn.Linear(8, 8) for i in range(layers)))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_h1", "zero_bubble_v"])
def test_gradients_are_those_of_one_process(name, what):
    schedule = build(name, 2, M)
    model, (x, y) = model_of(what, schedule.num_stages), batch(8)
    with Pipeline(model, schedule, loss=cross_entropy) as pipeline:
        pipeline.step(x, y)
        ours, state = pipeline.gradients(), pipeline.state_dict()
    plain_loop(model, x, y, M)
    assert_same(ours, gradients(model))
    counts = {key: value for key, value in model.state_dict().items() if key.endswith("seen")}
    assert counts
    assert {key: state[key] for key in counts} == counts
    if what in TWICE:
        assert all(value == 2 * M for value in counts.values())


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("hook of a tensor", "register_hook"),
        ("function that frees", "FreeBackward"),
        ("checkpoint", "saved_tensors_hooks"),
    ],
)
def test_says_once_why_w_is_empty(what, word, capfd):
    with Pipeline(model_of(what, 2), build("zero_bubble_h1", 2, M), loss=cross_entropy) as pipeline:
        for _ in range(2):
            pipeline.step(*batch(8))
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("[rank 1] stage 1: I runs the whole backward")
    assert word in line


class Prints(nn.Linear):
    def forward(self, x):
        h = super().forward(x)
        assert "grad_fn" in f"{h}"
        return h


@pytest.mark.parametrize("layer", [nn.Linear, Prints])
def test_a_plain_stage_is_split_and_says_nothing(layer, capfd):
    model = nn.Sequential(layer(8, 8), layer(8, 8))
    with Pipeline(model, build("zero_bubble_h1", 2, M), loss=cross_entropy) as pipeline:
        trace = pipeline.step(*batch(8)).trace
    assert capfd.readouterr().out == ""
    assert sum(event.kind == "W" for event in trace.events) == 2 * M

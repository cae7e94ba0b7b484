"""A backward in halves runs once what must run once: hooks, Python functions, recomputation.

Each layer here does something that a second run would spoil: it scales gradients, counts in a
buffer (which is part of the state), frees what it kept, or works in place.
"""

import threading
from functools import partial

import pytest
import torch
import torch._dynamo  # torch.func and checkpoint load it: in a rank it would take seconds
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge, register_multi_grad_hook
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from pipelab.engine import Pipeline
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

M = 4
JVP = threading.Lock()  # of forward-mode, torch has one stack for a process; ranks are threads here


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
                register_multi_grad_hook((h,), lambda _: self.count())
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
            case "function, differentiable once":
                h = OnceDifferentiable.apply(self.linear(x), self.linear.weight)
            case "function that marks dirty":
                h = self.linear(Dirty.apply(self.linear(x)))
            case "function of some outputs":
                h, _, _ = SomeOutputs.apply(self.linear(x), self.linear.weight, self)
            case "function with a context":
                h = Counts.apply(self.linear(x), self.linear.weight)
            case "hook of an edge":
                h = self.linear(x)
                get_gradient_edge(h).node.register_hook(lambda ours, theirs: self.scale_all(ours))
            case "hook below a node":
                h = self.linear(self.linear(x).tanh())
                h.grad_fn.next_functions[1][0].register_prehook(self.scale_all)
            case "hook of any tensor":
                h = self.linear(x)
                tensors = h, h.tanh()
                register_multi_grad_hook(tensors, lambda _: self.count(), mode="any")
                h = sum(tensors)
            case "hook of the input":
                x.register_hook(self.scale)
                h = self.linear(x)
            case "hook of a leaf":
                leaf = torch.zeros(8, requires_grad=True)
                leaf.register_post_accumulate_grad_hook(lambda leaf: self.count())
                h = self.linear(self.linear(x) + leaf)
            case "hook that removes itself":
                h = self.linear(x)
                handle = h.register_hook(
                    lambda gradient: (handle.remove(), self.scale(gradient))[1]
                )
            case "gradient kept":
                h = self.linear(x)
                h.retain_grad()
                h = self.linear(h)
            case "reentrant checkpoint":
                h = checkpoint(self.recomputed, x, use_reentrant=True)
            case "nested checkpoint":
                inner = partial(checkpoint, self.recomputed, use_reentrant=False)
                h = checkpoint(inner, self.linear(x), use_reentrant=False)
            case "row of checkpoints":
                row = [self.recomputed, torch.tanh, self.linear]
                h = checkpoint_sequential(row, 2, x, use_reentrant=False)
            case "saved on the host":
                with torch.autograd.graph.save_on_cpu():
                    h = self.linear(x).tanh()
            case "gradient in forward":
                y = self.linear(x).tanh()
                slope, force = torch.autograd.grad(
                    y.square().sum(), (self.linear.weight, x), create_graph=True
                )
                h = self.linear(y) + slope.sum() + force
            case "torch.func":
                weight = self.linear.weight
                h = self.linear(torch.func.grad(lambda z: (z @ weight).tanh().sum())(x))
            case "torch.func of rows":
                jacobians = torch.func.vmap(torch.func.jacrev(lambda z: self.linear(z).tanh()))(x)
                with JVP:
                    y, slope = torch.func.jvp(self.linear, (x,), (torch.ones_like(x),))
                h = self.linear(y) + slope + jacobians.sum(1)
            case "torch.func and a hook":
                h = torch.func.vmap(lambda row: self.linear(row).tanh())(x)
                h.register_hook(self.scale)
            case "weights again and again":
                w = torch.nn.functional.normalize(self.linear.weight)
                h = self.linear(torch.tanh(x @ w) @ w.t()) + x @ self.linear.weight.t()
            case "views in place":
                h = self.linear(x)
                h[:, :4].mul_(2.0)
                h[:, 4:] = self.linear(x)[:, :4]
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


class OnceDifferentiable(torch.autograd.Function):
    """Its backward is a wrapper of PyTorch's around a function of ours."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


class Dirty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2.0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mul_(2.0)


class SomeOutputs(torch.autograd.Function):
    """Two results, of which one is not used, and one without a gradient."""

    @staticmethod
    def forward(ctx, x, weight, layer):
        ctx.set_materialize_grads(False)
        ctx.layer = layer
        rows = torch.zeros(len(x), dtype=torch.long)
        ctx.mark_non_differentiable(rows)
        return x * 2.0, x * weight.sum(), rows

    @staticmethod
    def backward(ctx, gradient, unused, rows):
        assert unused is None
        ctx.layer.count()
        return gradient * 2.0, None, None


class Counts(torch.autograd.Function):
    """Its context counts its backwards, and the gradient depends on the count."""

    @staticmethod
    def forward(x, weight):
        return x * weight.sum()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.number = 0

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        ctx.number += 1
        weights = torch.ones_like(weight) * (gradient * x).sum()
        return gradient * weight.sum() * ctx.number, weights * ctx.number


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mul_(0.5)


TWICE = {"checkpoint", "reentrant checkpoint"}  # the forward, and once more for the backward
KINDS = [
    "hook of a tensor",
    "hook before a node",
    "hook after a node",
    "hook of several tensors",
    "hook, and weights used twice",
    "hook of a module",
    "hook of an edge",
    "hook below a node",
    "hook of any tensor",
    "hook of the input",
    "hook of a leaf",
    "hook that removes itself",
    "gradient kept",
    "function, differentiable once",
    "function that marks dirty",
    "function of some outputs",
    "function with a context",
    "reentrant checkpoint",
    "nested checkpoint",
    "row of checkpoints",
    "saved on the host",
    "gradient in forward",
    "torch.func",
    "torch.func of rows",
    "torch.func and a hook",
    "weights again and again",
    "views in place",
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


@pytest.mark.filterwarnings("ignore")  # torch.func.jvp loads what is deprecated
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_h1", "zero_bubble_h2", "zero_bubble_v"])
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


def clipped(output, target):
    output.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    return cross_entropy(output, target)


def halved(output, target):
    register_multi_grad_hook((output,), lambda gradients: gradients[0].mul_(0.5))
    return cross_entropy(output, target)


def doubled(output, target):
    return cross_entropy(Dirty.apply(output * 1.0), target)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("loss", [clipped, halved, doubled])
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_h1", "zero_bubble_h2", "zero_bubble_v"])
def test_what_a_loss_does_runs_once(name, loss):
    schedule = build(name, 2, M)
    model, (x, y) = linears(schedule.num_stages), batch(8)
    with Pipeline(model, schedule, loss=loss) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    plain_loop(model, x, y, M, loss=loss)
    assert_same(ours, gradients(model))


TORCHS = [
    "hook of a tensor",
    "hook of several tensors",
    "function that counts",
    "function that frees",
    "function with a context",
    "checkpoint",
    "saved tensors packed",
]


@pytest.mark.parametrize("name", ["zero_bubble_h1", "zero_bubble_v"])
def test_torchs_worker_runs_once_what_must(name):
    """One model with all of them. Torch's trial, by which it learns shapes, may count once more."""
    schedule = build(name, 2, M)
    n = schedule.num_stages
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8) for _ in range(n - 1)] + [nn.Sequential(*map(Layer, TORCHS))]
    layers[n // 2] = layers[-1] if n == 2 else nn.Sequential(*map(Layer, TORCHS))
    model, (x, y) = nn.Sequential(*layers), batch(8)
    with Pipeline(model, schedule, loss=cross_entropy, worker="torch", device="cpu") as pipeline:
        pipeline.step(x, y)
        ours, state = pipeline.gradients(), pipeline.state_dict()
    plain_loop(model, x, y, M)
    assert_same(ours, gradients(model))
    for key, value in model.state_dict().items():
        if key.endswith("seen"):
            assert 0 <= state[key] - value <= value / M, key

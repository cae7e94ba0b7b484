"""What any user would write for one process, and layers to try; no code of pipelab's in it.

The layers stand here, and not in the tests, since ranks import the module that defines them.
"""

import math
import threading

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def batch(rows, features=8, classes=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=generator)
    return x, torch.randint(classes, (rows,), generator=generator)


def linears(depth=4, width=8):
    torch.manual_seed(1)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def pieces(value, m):
    """The microbatches of a batch: a tensor, tuple, dict or None."""
    if isinstance(value, torch.Tensor):
        return list(value.tensor_split(m))
    if isinstance(value, tuple):
        rows = zip(*(pieces(part, m) for part in value), strict=True)
        return [type(value)(*row) if hasattr(value, "_fields") else row for row in rows]
    if isinstance(value, dict):
        rows = zip(*(pieces(part, m) for part in value.values()), strict=True)
        return [dict(zip(value, row, strict=True)) for row in rows]
    return [None] * m


def rows_of(value):
    return len(next(iter(value.values()))) if isinstance(value, dict) else len(value)


def plain_loop(forward, inputs, targets, m, loss=cross_entropy, weigh=rows_of):
    """The loss of a batch, its gradients added to the parameters. ``weigh``: of one target."""
    targets = pieces(targets, m)
    total, whole = 0.0, sum(map(weigh, targets))
    for x, y in zip(pieces(inputs, m), targets, strict=True):
        scaled = loss(forward(x), y) * (weigh(y) / whole)
        scaled.backward()
        total += scaled.item()
    return total


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours, theirs):
    """Bit for bit."""
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def assert_close(ours, theirs, rtol=1e-5, atol=1e-7):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=rtol, atol=atol), name


def assert_whole_batch(model, inputs, targets, result, ours, loss=cross_entropy):
    """A step's loss and gradients are those of one forward of the whole batch."""
    whole = loss(model(inputs), targets)
    whole.backward()
    assert math.isclose(result, whole.item(), rel_tol=1e-6)
    assert_close(ours, gradients(model))


class Embed(nn.Module):
    """(rows, words) numbers, and a mask -> a dict that all later layers take and give."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)

    def forward(self, tokens, mask=None, shift=None):
        x = self.table(tokens)
        if shift is not None:
            x = x + shift[:, None]
        return {"x": x, "mask": mask, "more": (None, [tokens, x * 0.5])}


class Mix(nn.Module):
    """Uses all that came; hands the mask and the tokens on untouched."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 6)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x, mask, more):
        nothing, (tokens, side) = more
        assert nothing is None
        assert tokens.dtype == torch.int64
        y = torch.tanh(self.outer(torch.relu(self.inner(x)) + side))
        if mask is not None:
            assert mask.dtype == torch.bool
            y = y.masked_fill(mask[..., None], 0.0)
        return {"x": x + y, "mask": mask, "more": (None, [tokens, side * y.sigmoid()])}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 5)

    def forward(self, x, mask, more):
        return self.out(x.mean(1)), more[1][1].square().mean((1, 2))


class Draws(nn.Module):
    """Notes the random number of each training forward in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("drawn", torch.zeros(16))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.drawn[self.count] = torch.rand(())
            self.count += 1
        return x


class Says(nn.Module):
    """Prints a line in each forward."""

    def forward(self, x):
        print("forward")
        return x


class Grow(nn.Module):
    """A column less with each forward: its output changes shape though the rows do not."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x[:, self.calls :]


class Return(nn.Module):
    """A layer that returns something odd."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        match self.what:
            case "detached":
                return self.layer(x.detach())
            case "integers":
                return x.long()
            case "named tuple":
                return torch.max(self.layer(x), dim=1)
            case "keys":
                return {(0, 1): self.layer(x)}
            case "lock":
                return {threading.Lock(): self.layer(x)}
        raise AssertionError


class Aside(nn.Module):
    """Returns x, and what is made of its weights alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.bias, self.scale = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))

    def forward(self, x):
        return {"x": self.layer(x) * self.scale, "bias": self.bias, "scale": self.scale * 2}


class UseAside(nn.Module):
    def forward(self, x, bias, scale):
        return torch.tanh(x * scale + bias)


class Either(nn.Module):
    """Takes a or b."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, a=None, b=None):
        return {"a": None if a is None else self.layer(a), "b": None if b is None else 2 * b}


class Whichever(nn.Module):
    def forward(self, a=None, b=None):
        return a if b is None else b


class Tied(nn.Module):
    """A head whose weight is another layer's."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return x @ self.weight.t()


class _Token:
    """Exists as long as the graph that holds it; counts how many there are."""

    alive = 0

    def __init__(self):
        _Token.alive += 1

    def __del__(self):
        _Token.alive -= 1


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.token = _Token()
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Live(nn.Module):
    """Notes in a buffer how many graphs of its forwards were alive at once on this rank."""

    def __init__(self):
        super().__init__()
        self.register_buffer("peak", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        x = _Hold.apply(x)
        self.peak.clamp_(min=_Token.alive)
        return x

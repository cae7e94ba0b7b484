"""Models of every kind that can be cut, each with a batch: how their layers hand on values."""

import torch
from torch import nn


class Sums(nn.Module):
    """(tokens, scale) -> (hidden, scale): takes integers, returns a tuple."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)

    def forward(self, tokens, scale):
        return self.table(tokens) * scale, scale


class Mixes(nn.Module):
    """Two tensors in, a list of two out."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Bilinear(6, 6, 6)

    def forward(self, hidden, scale):
        return [hidden + self.mix(hidden, hidden.tanh()), scale + 1]


class Ends(nn.Module):
    """Two tensors in, one out."""

    def forward(self, hidden, scale):
        return hidden / scale


class Keyed(nn.Module):
    """Keywords in, a dict out; one of them has a default."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, hidden, mask, again=None):
        hidden = self.linear(hidden) * mask
        return {"mask": mask, "hidden": hidden if again is None else hidden + again, "again": mask}


class Last(nn.Module):
    """Keywords in, one tensor out."""

    def forward(self, hidden, mask, again):
        return hidden.sum(-1) - mask.sum(-1) * again.mean()


def dense():
    return [nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 5), nn.Sequential(nn.GELU(), nn.Linear(5, 3))]


KINDS = {
    "sequential": lambda: (nn.Sequential(*dense()), torch.randn(4, 6)),
    "list": lambda: (dense(), torch.randn(4, 6)),
    "module list": lambda: (nn.ModuleList(dense()), torch.randn(4, 6)),
    "tuples": lambda: (
        [Sums(), Mixes(), Mixes(), Ends(), nn.Linear(6, 2)],
        (torch.randint(11, (4, 3)), torch.rand(4, 3, 1) + 1),
    ),
    "dicts": lambda: (
        [Keyed(), Keyed(), Keyed(), Last()],
        {"hidden": torch.randn(4, 6), "mask": torch.rand(4, 6)},
    ),
}

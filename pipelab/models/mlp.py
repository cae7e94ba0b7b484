"""A plain stack of layers, for short experiments."""

import itertools

from torch import nn


def mlp(width: int = 64, depth: int = 8, features: int = 16, classes: int = 10) -> nn.Sequential:
    """A multi-layer perceptron of ``depth`` linear layers: (rows, features) -> (rows, classes).

    >>> mlp(width=32, depth=3)(__import__("torch").zeros(5, 16)).shape
    torch.Size([5, 10])
    """
    sizes = [features, *[width] * (depth - 1), classes]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers.append(nn.Sequential(nn.Linear(a, b), nn.Tanh()))
    layers[-1] = nn.Linear(sizes[-2], sizes[-1])
    return nn.Sequential(*layers)

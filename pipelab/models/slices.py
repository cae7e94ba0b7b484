"""A sequence that comes in slices: how a layer sees the tokens before the ones that it is given.

    slice 0   keys, values of its tokens   ──┐ kept by the stage
    slice 1   ... of its tokens, behind those of slice 0  ◀──┘   their gradients go back this way

Layers that look along the sequence call two functions here, which do nothing where a sequence comes
whole: ``tokens_before`` gives a position's offset, ``with_earlier`` joins keys and values to those
of earlier slices. All other layers treat each token by itself and need nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipelab.action import Slice

_Key = tuple[int, int]  # a layer's id, and how often it was called before in this forward


@dataclass(eq=False)
class _Made:
    """What the forward of one slice leaves to later ones of its microbatch.

    Attributes:
        tokens: how many it has.
        kept: keys and values with their graph, by the layer that made them.
        gradients: of these, from the backwards of later slices.
        used: copies of what earlier slices left, whose gradients are theirs.
    """

    tokens: int
    kept: dict[_Key, tuple[Tensor, ...]] = field(default_factory=dict)
    gradients: dict[_Key, list[Tensor | None]] = field(default_factory=dict)
    used: list[tuple["_Made", _Key, list[Tensor]]] = field(default_factory=list)


class _Running:
    """One forward of one slice: its own part, and those of the slices before it."""

    def __init__(self, earlier: list[_Made], made: _Made):
        self.earlier = earlier
        self.made = made
        self.calls: Counter[int] = Counter()


_running: ContextVar[_Running | None] = ContextVar("pipelab_slice", default=None)


def tokens_before() -> int:
    """How many tokens of the sequence come before those that a layer is given; 0 if it is whole."""
    running = _running.get()
    return sum(made.tokens for made in running.earlier) if running else 0


def with_earlier(layer: nn.Module, *tensors: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Tensors of these tokens behind those of the tokens before them, along ``dim``.

    What they are given is kept for later slices of the same sequence.
    """
    running = _running.get()
    if running is None:
        return tensors
    key = id(layer), running.calls[id(layer)]
    running.calls[id(layer)] += 1
    running.made.kept[key] = tensors
    rows = []
    for earlier in running.earlier:
        copies = [x.detach().requires_grad_(x.requires_grad) for x in earlier.kept[key]]
        running.made.used.append((earlier, key, copies))
        rows.append(copies)
    return tuple(torch.cat(column, dim) for column in zip(*rows, tensors, strict=True))


class Slices:
    """What one stage keeps of the slices in flight, and the gradients on their way back."""

    def __init__(self) -> None:
        self._made: dict[int, list[_Made]] = defaultdict(list)  # by microbatch, in order

    @contextmanager
    def forward(self, number: int, inputs: Sequence[Tensor]) -> Iterator[None]:
        """Run a slice's forward within this; whatever is no slice runs as it would without.

        ``inputs``: (rows, tokens, ...).
        """
        if not isinstance(number, Slice):
            yield
            return
        made = _Made(inputs[0].shape[1])
        before = self._made[number.microbatch]
        token = _running.set(_Running(before[:], made))
        try:
            yield
        finally:
            _running.reset(token)
        before.append(made)

    def roots(self, number: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of a slice that later ones used, and the gradients that came for them."""
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        if isinstance(number, Slice):
            made = self._made[number.microbatch][-1]
            for key, found in made.gradients.items():
                pairs = zip(made.kept[key], found, strict=True)
                for tensor, gradient in pairs:
                    if gradient is not None and tensor.requires_grad:
                        outputs.append(tensor)
                        gradients.append(gradient)
        return outputs, gradients

    def after_backward(self, number: int) -> None:
        """The last slice's backward has run: give what it used its gradients, and forget it."""
        if not isinstance(number, Slice):
            return
        made = self._made[number.microbatch].pop()
        for earlier, key, copies in made.used:
            sums = earlier.gradients.setdefault(key, [None] * len(copies))
            for i, copy in enumerate(copies):
                if copy.grad is not None:
                    known = sums[i]
                    sums[i] = copy.grad if known is None else known + copy.grad
        if number.place == 0:
            del self._made[number.microbatch]

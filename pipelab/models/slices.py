"""A sequence that comes in slices: how a layer sees the tokens before the ones that it is given.

    slice 0   keys, values of its tokens   ──┐ kept by the stage
    slice 1   ... of its tokens, behind those of slice 0  ◀──┘   their gradients go back this way

Layers that look along the sequence call two functions here, which do nothing where a sequence comes
whole: ``tokens_before`` gives a position's offset, ``with_earlier`` joins keys and values to those
of earlier slices. All other layers treat each token by itself and need nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
        used: by the layer that used them, copies of what each earlier slice left, whose gradients
            are theirs.
    """

    tokens: int
    kept: dict[_Key, tuple[Tensor, ...]] = field(default_factory=dict)
    gradients: dict[_Key, list[Tensor | None]] = field(default_factory=dict)
    used: dict[_Key, list[tuple["_Made", list[Tensor]]]] = field(default_factory=dict)

    def keep(self, key: _Key, tensors: tuple[Tensor, ...], before: Sequence["_Made"]) -> None:
        """Keep what a layer is given, and copy what it was given for the slices before."""
        self.kept[key] = tensors
        self.used[key] = [(earlier, _copies(earlier.kept[key])) for earlier in before]

    @property
    def copies(self) -> list[Tensor]:
        """All that it used of earlier slices and that needs a gradient."""
        pairs = (pair for row in self.used.values() for pair in row)
        return [x for _, copies in pairs for x in copies if x.requires_grad]


def _copies(kept: Sequence[Tensor]) -> list[Tensor]:
    return [x.detach().requires_grad_(x.requires_grad) for x in kept]


class _Running:
    """One forward of one slice: its own part, and those of the slices before it.

    ``is_again``: a forward that is run again for its backward, with the copies that it had.
    """

    def __init__(self, earlier: list[_Made], made: _Made, is_again: bool = False):
        self.earlier = earlier
        self.made = made
        self.is_again = is_again
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
    if not running.is_again:
        running.made.keep(key, tensors, running.earlier)
    rows = [copies for _, copies in running.made.used[key]]
    return tuple(torch.cat(column, dim) for column in zip(*rows, tensors, strict=True))


@contextmanager
def _set(running: _Running) -> Iterator[None]:
    token = _running.set(running)
    try:
        yield
    finally:
        _running.reset(token)


_WHOLE = nullcontext()  # for all that are no slices


class Slices:
    """What one stage keeps of the slices in flight, and the gradients on their way back."""

    def __init__(self) -> None:
        self._made: dict[int, list[_Made]] = defaultdict(list)  # by microbatch, in order

    def forward(self, number: int, inputs: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Run a slice's forward within this; whatever is no slice runs as it would without.

        ``inputs``: (rows, tokens, ...).
        """
        return self._forward(number, inputs) if isinstance(number, Slice) else _WHOLE

    @contextmanager
    def _forward(self, number: Slice, inputs: Sequence[Tensor]) -> Iterator[None]:
        made = _Made(inputs[0].shape[1])
        before = self._made[number.microbatch]
        with _set(_Running(before[:], made)):
            yield
        before.append(made)

    @staticmethod
    def again() -> AbstractContextManager[None]:
        """What the slice that runs now has to run its forward within, when it does so again."""
        running = _running.get()
        if running is None:
            return nullcontext()
        return _set(_Running(running.earlier, running.made, is_again=True))

    def kept(self, number: int) -> list[Tensor]:
        """What a slice keeps for later ones: keys and values."""
        if not isinstance(number, Slice):
            return []
        kept = self._of(number).kept
        return [x for tensors in kept.values() for x in tensors]

    def copies(self, number: int) -> list[Tensor]:
        """What a slice used of those before it, copied: its I finds gradients for these, too."""
        return self._of(number).copies if isinstance(number, Slice) else []

    def roots(self, number: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of a slice that later ones used, and the gradients that came for them."""
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        if isinstance(number, Slice):
            made = self._of(number)
            for key, found in made.gradients.items():
                pairs = zip(made.kept[key], found, strict=True)
                for tensor, gradient in pairs:
                    if gradient is not None and tensor.requires_grad:
                        outputs.append(tensor)
                        gradients.append(gradient)
        return outputs, gradients

    def after_backward(self, number: int) -> None:
        """The last slice's B or I has run: give what it used its gradients, and forget it."""
        if not isinstance(number, Slice):
            return
        made = self._made[number.microbatch].pop()
        for key, earlier, copies in ((k, e, c) for k, row in made.used.items() for e, c in row):
            sums = earlier.gradients.setdefault(key, [None] * len(copies))
            for i, copy in enumerate(copies):
                if copy.grad is not None:
                    known = sums[i]
                    sums[i] = copy.grad if known is None else known + copy.grad
        if number.place == 0:
            del self._made[number.microbatch]

    def _of(self, number: Slice) -> _Made:
        return self._made[number.microbatch][number.place]

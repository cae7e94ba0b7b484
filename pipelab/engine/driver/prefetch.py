"""Fetch the next batch while the ranks work on the last one, and refuse what is no pair."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from pipelab.errors import BatchError


class Prefetch:
    """The pairs of an iterable; ``fetch``, called in between, gets the next one ready.

    What the iterable raises is raised when its item is asked for, not before.

    Raises:
        BatchError: ``items`` are no batches, or (later) one is no pair (inputs, targets).
    """

    def __init__(self, items: Iterable[tuple[Any, Any]]):
        is_iterable = hasattr(items, "__iter__") or hasattr(items, "__getitem__")
        if isinstance(items, Tensor) or not is_iterable:
            raise BatchError(
                f"train() takes an iterable of pairs (inputs, targets), not a "
                f"{type(items).__name__}: give a loader, or a list such as [(x, y)]"
            )
        self.items = iter(items)
        self.number = 0  # of the next pair
        self.ready: list[Any] = []  # an item, or the exception in its place

    def fetch(self) -> None:
        """Get one item ready."""
        try:
            self.ready.append(next(self.items))
        except Exception as error:  # the end (StopIteration) too
            self.ready.append(error)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        if not self.ready:
            self.fetch()
        item = self.ready.pop()
        if isinstance(item, Exception):
            raise item
        pair = _as_pair(item, f"batch {self.number} of train()")
        self.number += 1
        return pair


def _as_pair(item: Any, name: str) -> tuple[Any, Any]:
    """An item as (inputs, targets); nothing else that has two parts, such as a tensor of two rows.

    Raises:
        BatchError: it is no tuple or list of two.
    """
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, Tensor):
        what = f"a tensor of shape {tuple(item.shape)}"
        remedy = "for a loss of the output alone: train((x, x) for x in loader)"
    elif isinstance(item, Mapping):
        what = f"a {type(item).__name__} with {', '.join(map(repr, item))}"
        remedy = 'say what is what: train(({"x": b["x"]}, b["y"]) for b in loader)'
    elif isinstance(item, tuple | list):
        what = f"a {type(item).__name__} of {len(item)}"
        remedy = "say what is what: train(((a, b), y) for a, b, y in loader)"
        if len(item) == 1:
            remedy = "for a loss of the output alone: train((x, x) for (x,) in loader)"
    else:
        what, remedy = f"a {type(item).__name__}", "give tuples, as in train([(x, y)])"
    raise BatchError(f"{name} is {what}, not a pair (inputs, targets):\n{remedy}")

"""Fetch the next batch while the ranks work on the last one."""

from collections.abc import Iterable, Iterator
from typing import Any


class Prefetch:
    """Items of an iterable; ``fetch``, called in between, gets the next one ready.

    What the iterable raises is raised when its item is asked for, not before.
    """

    def __init__(self, items: Iterable[tuple[Any, Any]]):
        self.items = iter(items)
        self.ready: list[tuple[Any, Any] | Exception] = []

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
        return item

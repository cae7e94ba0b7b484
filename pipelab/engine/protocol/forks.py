"""What a forked child must not use, since it belongs to its parent: processes, pipes, connections.

A pool's workers, a loader's, and all that ``os.fork`` starts get copies of these. A child that
closed its copy of a pipeline would end the ranks of its parent; one that kept it would keep them
alive after the parent's death.
"""

import os
import sys
import weakref
from contextlib import suppress
from typing import Protocol


class Forgets(Protocol):
    """Something that only the process that made it may use."""

    def forget(self) -> None:
        """Called in a forked child: close its copies, and leave what is the parent's alone."""


PARENTS = "it belongs to the process that this one was forked from"

_prepared = os.getpid()  # the process that may compute with several
_made: "weakref.WeakSet[Forgets]" = weakref.WeakSet()


def forget_in_children(owned: Forgets) -> None:
    """From now on a forked child begins without this."""
    _made.add(owned)


def compute_alone() -> None:
    """In a forked child, once, let torch compute with one thread, as a loader's workers do.

    A fork copies none of the threads that OpenMP had started: the first operation that is shared
    out among them would wait for these without end.
    """
    global _prepared
    if os.getpid() != _prepared:
        _prepared = os.getpid()
        sys.modules["torch"].set_num_threads(1)


def _forget_all() -> None:
    for owned in list(_made):
        with suppress(OSError, ValueError):  # closed, perhaps half, by another thread
            owned.forget()


os.register_at_fork(after_in_child=_forget_all)

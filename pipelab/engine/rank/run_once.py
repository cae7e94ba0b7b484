"""What must run once in a backward, and would run twice if the backward were split into I and W.

I and W both pass the nodes that weights join. For torch's own nodes this changes nothing: they
compute for I what I needs, and for W the rest. But some layers do more than compute:

    hooks                  x.register_hook(...), x.grad_fn.register_hook(...), x.retain_grad()
    hooks of saved tensors torch.utils.checkpoint inside a layer, save_on_cpu: recompute at each use
    Python functions       a torch.autograd.Function: may count, free what it kept, work in place

A stage whose microbatch holds any of these runs its whole backward in I, and its W is empty.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, saved_tensors_hooks

_THREAD = threading.local()  # ``found``: what this thread notes at the moment, or None
_SET_BY_METHOD = ("register_hook", "register_post_accumulate_grad_hook", "retain_grad")


@contextmanager
def hooks_noted() -> Iterator[list[str]]:
    """What registers hooks within the block, as names of what was called; usually empty.

    Autograd cannot be asked which hooks a node has, so the ways to set one are observed: methods
    of tensors, ``grad_fn``, through which one reaches a node, and hooks of saved tensors. To print
    a tensor is none, though it reads ``grad_fn``.
    """
    _observe()
    found: list[str] = []
    with _noted_in(found):
        yield found


@contextmanager
def _noted_in(found: list[str] | None) -> Iterator[None]:
    before = getattr(_THREAD, "found", None)
    _THREAD.found = found
    try:
        yield
    finally:
        _THREAD.found = before


@cache
def _observe() -> None:
    """Observe from now on, in the whole process: changing classes in each forward is slow."""
    for name in _SET_BY_METHOD:
        setattr(Tensor, name, _noted(getattr(Tensor, name), name))
    node_of = vars(torch._C.TensorBase)["grad_fn"].__get__
    setattr(Tensor, "grad_fn", property(_noted(node_of, "grad_fn")))  # noqa: B010
    setattr(Tensor, "__repr__", _noted_in(None)(Tensor.__repr__))  # noqa: B010
    enter = _noted(saved_tensors_hooks.__enter__, "saved_tensors_hooks")
    setattr(saved_tensors_hooks, "__enter__", enter)  # noqa: B010


def python_functions(nodes: Iterable[Node]) -> list[str]:
    """The names of the ``torch.autograd.Function`` classes among the nodes of a graph."""
    return [node.name() for node in nodes if isinstance(node, BackwardCFunction)]


def _noted(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(call)
    def noted(*args: Any, **options: Any) -> Any:
        if (found := getattr(_THREAD, "found", None)) is not None:
            found.append(name)
        return call(*args, **options)

    return noted

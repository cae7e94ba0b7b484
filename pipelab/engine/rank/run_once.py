"""What must run once in a backward, and would run twice if the backward were split into I and W.

I and W both pass the nodes that weights join. For torch's own nodes this changes nothing: they
compute for I what I needs, and for W the rest. But some layers do something *besides* computing:

    hooks                  x.register_hook(...), x.grad_fn.register_hook(...), x.retain_grad()
    hooks of saved tensors torch.utils.checkpoint inside a layer, save_on_cpu: recompute at each use
    Python functions       a torch.autograd.Function: may count, free what it kept, work in place

A stage whose microbatch holds any of these runs its whole backward in I, and its W is empty.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, saved_tensors_hooks

_SET_BY_METHOD = ("register_hook", "register_post_accumulate_grad_hook", "retain_grad")


@contextmanager
def hooks_noted() -> Iterator[list[str]]:
    """What registers hooks within the block, as names of what was called; usually empty.

    Autograd cannot be asked which hooks a node has, so the ways to set one are observed: methods
    of tensors, ``grad_fn``, through which one reaches a node, and hooks of saved tensors.
    """
    found: list[str] = []
    node_of = vars(torch._C.TensorBase)["grad_fn"].__get__
    observed = {name: _noted(getattr(Tensor, name), name, found) for name in _SET_BY_METHOD}
    grad_fn = property(_noted(node_of, "grad_fn", found))
    enter = _noted(saved_tensors_hooks.__enter__, "saved_tensors_hooks", found)
    with (
        _replaced(Tensor, {**observed, "grad_fn": grad_fn}),
        _replaced(saved_tensors_hooks, {"__enter__": enter}),
    ):
        yield found


@contextmanager
def _replaced(owner: type, attributes: dict[str, object]) -> Iterator[None]:
    """Attributes of a class are others within the block."""
    own = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in attributes:
            setattr(owner, name, own[name]) if name in own else delattr(owner, name)


def python_functions(nodes: Iterable[Node]) -> list[str]:
    """The names of the ``torch.autograd.Function`` classes among the nodes of a graph."""
    return [node.name() for node in nodes if isinstance(node, BackwardCFunction)]


def _noted(call: Callable[..., Any], name: str, found: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **options: Any) -> Any:
        found.append(name)
        return call(*args, **options)

    return noted

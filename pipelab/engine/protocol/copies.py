"""Copies of modules within a process, also of those that PyTorch's deepcopy fails on."""

import copy
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from pipelab.engine.protocol.pickling import reduce_script

_T = TypeVar("_T")


def copied(value: _T, modules: Iterable[nn.Module]) -> _T:
    """A deep copy of a value that holds these modules."""
    memo: dict[int, object] = {}
    for module in modules:
        memo |= {key: tensor.detach() for key, tensor in recomputed(module).items()}
        for script in _scripts(module):  # no gradient reaches PyTorch's own copy of one
            load, raw = reduce_script(script)
            memo[id(script)] = load(*raw)
    return copy.deepcopy(value, memo)


def _scripts(module: nn.Module) -> Iterator[nn.Module]:
    """TorchScript in a module; of one within another, the outer alone."""
    if isinstance(module, torch.jit.ScriptModule):
        yield module
        return
    for child in module.children():
        yield from _scripts(child)


def recomputed(module: nn.Module) -> dict[int, Tensor]:
    """Attributes that are computed anew before each forward, by their ids.

    ``torch.nn.utils.weight_norm``, ``spectral_norm`` and pruning replace a weight by such one.
    """
    found: dict[int, Tensor] = {}
    for part in module.modules():
        for hook in part._forward_pre_hooks.values():
            is_pruned = isinstance(hook, BasePruningMethod)
            name = getattr(hook, "_tensor_name" if is_pruned else "name", None)
            value = getattr(part, name, None) if isinstance(name, str) else None
            if isinstance(value, Tensor):
                found[id(value)] = value
    return found

"""The state_dict of a model whose layers are on ranks: in the model's order, and checked first."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipelab.errors import CheckpointError
from pipelab.partition.chain import layer_of, named_layers

_LOADS = ("_load_from_state_dict", "load_state_dict")


class ModelState:
    """What the state_dict of one model must look like."""

    def __init__(self, model: nn.Module):
        layers = named_layers(model)
        self._order = {name: number for number, name in enumerate(layers)}
        self._versions = getattr(model.state_dict(), "_metadata", None)
        self._free = {name for name, layer in layers.items() if _loads_its_own_way(layer)}

    def in_order(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the ranks found, as the plain model would give it: its order, its versions."""
        last = len(self._order)
        names = sorted(found, key=lambda name: self._order.get(layer_of(name), last))
        state = OrderedDict((name, found[name]) for name in names)
        if self._versions is not None:
            state._metadata = self._versions  # type: ignore[attr-defined]
        return state

    def check(self, own: Mapping[str, torch.Size | None], state: object) -> None:
        """Raise CheckpointError unless a state has the names and shapes that the ranks have now.

        A layer that changes its state when it is loaded judges that itself, on its rank.

        Args:
            own: the shape of each entry; None for an extra state, which may be anything.
        """
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise CheckpointError("the state is not a dict of tensors by name: give a state_dict")
        own = {name: shape for name, shape in own.items() if layer_of(name) not in self._free}
        given = {name: value for name, value in state.items() if layer_of(name) not in self._free}
        tensors = [value for name, value in given.items() if own.get(name, ()) is not None]
        if not all(isinstance(value, Tensor) for value in tensors):
            raise CheckpointError("the state is not a dict of tensors by name: give a state_dict")
        _check_names(own, given)
        for name, shape in own.items():
            if shape is not None and given[name].shape != shape:
                raise CheckpointError(
                    f"{name} has shape {tuple(given[name].shape)} in the state and {tuple(shape)} "
                    f"in this model: load it into a pipeline of the same model"
                )


def _check_names(own: Mapping[str, object], given: Mapping[str, object]) -> None:
    missing = [f"lacks {name}" for name in own.keys() - given.keys()]
    strange = [f"has {name}, which the model does not have" for name in given.keys() - own.keys()]
    if differences := missing + strange:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"the state is not this model's: it {', '.join(differences[:3])}{more}; "
            f"load it into a pipeline of the same model"
        )


def _loads_its_own_way(layer: nn.Module) -> bool:
    """Whether hooks or methods of the learner's rename or make what is loaded. Not torch's own."""
    for part in layer.modules():
        if part._load_state_dict_pre_hooks:
            return True
        if any(not getattr(type(part), name).__module__.startswith("torch.") for name in _LOADS):
            return True
    return False

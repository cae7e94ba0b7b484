"""Stages that were cut from one model: a list of them is that model again, with its own names.

Without that, a list ``[first, second]`` would call its parameters ``"1.3.weight"``: layer 3 of the
list's second module. The plain model, and any other cut of it, call that one ``"3.weight"``.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from pipelab.partition.chain import Chain, Model, as_model, named_layers

Part = nn.Sequential | Chain
_MARK = "_is_part_of_a_model"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def part_of(whole: Part, layers: Mapping[str, nn.Module]) -> Part:
    """Some layers of a model, under its own names; one of a kind with the model."""
    part = _like(whole, layers)
    setattr(part, _MARK, True)
    return part


def _like(model: Part, layers: Mapping[str, nn.Module]) -> Part:
    return Chain(layers) if isinstance(model, Chain) else nn.Sequential(OrderedDict(layers))


def parts_of(model: object) -> list[Part]:
    """The parts of one model that a list holds, by ``split`` or slices; [] for any other list.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> [list(named_layers(part)) for part in parts_of([model[:2], model[2:]])]
    [['0', '1'], ['2']]
    """
    parts = [*model] if isinstance(model, list | tuple | nn.ModuleList) else []
    kinds = {type(part) for part in parts}
    if kinds not in ({nn.Sequential}, {Chain}) or any(map(_has_hooks, parts)):
        return []
    names = [name for part in parts for name in named_layers(part)]
    are_cut = all(hasattr(part, _MARK) for part in parts) and len(set(names)) == len(names)
    are_slices = len(parts) > 1 and names == [str(number) for number in range(len(names))]
    return parts if are_cut or are_slices else []


def whole_model(model: Model) -> Part:
    """The model that a list of parts was cut from; any other model as a row of layers."""
    parts = parts_of(model)
    if not parts:
        return as_model(model)
    return _like(parts[0], {name: x for part in parts for name, x in named_layers(part).items()})


def _has_hooks(part: nn.Module) -> bool:
    """Hooks of the part as a whole, which its layers alone would not call."""
    return any(getattr(part, name) for name in _HOOKS)

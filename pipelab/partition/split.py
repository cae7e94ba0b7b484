"""WHERE: which layers of a model live in which stage."""

from collections import OrderedDict
from typing import Literal

from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.balance import balance


def split(
    model: nn.Module, num_stages: int, by: Literal["parameters"] = "parameters"
) -> list[nn.Sequential]:
    """Cut a ``nn.Sequential`` into stages of consecutive layers with balanced parameter bytes.

    The stages share the model's layers (nothing is copied) and keep their names, so that
    ``"3.weight"`` is the same parameter in the model and in its stage.

    Raises:
        PartitionError: no ``nn.Sequential``, fewer layers than stages, or a parameter that two
            stages would share.
    """
    if not isinstance(model, nn.Sequential):
        raise PartitionError(
            f"the model is a {type(model).__name__}: only an nn.Sequential can be cut into stages; "
            f"write it as nn.Sequential(layer, layer, ...)"
        )
    if by != "parameters":
        raise PartitionError(f"split by {by!r} is unknown: use by='parameters'")
    layers = list(model._modules.items())  # named_children() leaves out a layer's second use
    # +1: layers without parameters count a little, so that they spread too
    costs = [1 + sum(p.nbytes for p in layer.parameters()) for _, layer in layers]
    stages, first = [], 0
    for size in balance(costs, num_stages):
        stages.append(nn.Sequential(OrderedDict(layers[first : first + size])))
        first += size
    _refuse_shared(stages)
    return stages


def _refuse_shared(stages: list[nn.Sequential]) -> None:
    """A parameter in two stages would be two parameters on two ranks, each half trained."""
    home: dict[int, tuple[int, str]] = {}
    for number, stage in enumerate(stages):
        for name, parameter in stage.named_parameters(remove_duplicate=False):
            other, twin = home.setdefault(id(parameter), (number, name))
            if other != number:
                raise PartitionError(
                    f"{name} (stage {number}) is the same tensor as {twin} (stage {other}): "
                    f"tied weights must live in one stage; use fewer stages, or untie them"
                )

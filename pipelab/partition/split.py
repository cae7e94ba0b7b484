"""WHERE: which layers of a model are in which stage."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, get_args

from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.balance import balance
from pipelab.partition.chain import Chain, Model, as_model, named_layers
from pipelab.partition.measure import measure
from pipelab.partition.tree import Value

By = Literal["parameters", "time", "memory"]


def split(
    model: Model,
    num_stages: int,
    by: By = "parameters",
    sample: Value = None,
    *,
    sizes: Sequence[int] | None = None,
) -> list[nn.Module]:
    """Cut a model into stages of consecutive layers, so that the largest stage is smallest.

    The stages share the model's layers (nothing is copied) and keep their names, so that
    ``"3.weight"`` is the same parameter in the model and in its stage. An ``nn.Sequential`` gives
    ``nn.Sequential`` stages, a list of modules gives ``Chain`` stages. A weight that several layers
    have may be in several stages, where the engine keeps it one weight.

    Args:
        by: what is balanced. ``"parameters"``: their bytes. ``"time"``: seconds forward and
            backward, measured. ``"memory"``: bytes of weights, their gradients and two moments of
            Adam (4 times the weights in all; frozen ones once), and of one microbatch's
            activations, measured.
        sample: the input of one microbatch, for ``"time"`` and ``"memory"``.
        sizes: a cut of your own instead: the number of layers of each stage.

    Raises:
        PartitionError: a model that cannot be cut, fewer layers than stages, sizes that do not fit,
            or a sample that is missing.
    """
    whole = as_model(model)
    layers = named_layers(whole)
    if sizes is None:
        sizes = balance(_costs(whole, by, sample), num_stages)
    _check_sizes(sizes, num_stages, len(layers))
    rows = list(layers.items())
    parts = [OrderedDict(rows[a:b]) for a, b in pairwise(accumulate(sizes, initial=0))]
    if isinstance(whole, Chain):
        return [Chain(part) for part in parts]
    return [nn.Sequential(part) for part in parts]


def _costs(model: nn.Module, by: By, sample: Value) -> list[float]:
    if by not in get_args(By):
        raise PartitionError(f"split by {by!r} is unknown: use one of {', '.join(get_args(By))}")
    layers = named_layers(model).values()
    if by == "parameters":
        # +1: layers without parameters count a little, so that they spread too
        return [1 + sum(p.nbytes for p in layer.parameters()) for layer in layers]
    if sample is None:
        raise PartitionError(
            f"split by {by!r} measures each layer and has nothing to run it on: "
            f"give sample=, the input of one microbatch"
        )
    if by == "time":
        return [
            layer.forward + layer.backward_input + layer.backward_weight
            for layer in measure(model, sample)
        ]
    trained = [sum(p.nbytes for p in layer.parameters() if p.requires_grad) for layer in layers]
    return [
        layer.parameter_bytes + 3 * extra + layer.activation_bytes
        for layer, extra in zip(measure(model, sample, repeats=1), trained, strict=True)
    ]


def _check_sizes(sizes: Sequence[int], num_stages: int, num_layers: int) -> None:
    if len(sizes) != num_stages:
        raise PartitionError(
            f"sizes={[*sizes]} cuts {len(sizes)} stages, not {num_stages}: give one size per stage"
        )
    if any(size < 1 for size in sizes):
        raise PartitionError(f"sizes={[*sizes]}: every stage has at least 1 layer")
    if sum(sizes) != num_layers:
        raise PartitionError(
            f"sizes={[*sizes]} are {sum(sizes)} layers, but the model has {num_layers}: "
            f"every layer is in exactly one stage"
        )

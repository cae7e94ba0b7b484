"""WHERE: which layers of a model are in which stage."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from numbers import Integral
from typing import Literal, cast, get_args

from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.balance import balance
from pipelab.partition.chain import Model, as_model, named_layers
from pipelab.partition.layout import is_layout, sizes_of
from pipelab.partition.measure import measure
from pipelab.partition.parts import part_of, parts_of, whole_model
from pipelab.partition.tree import Value

By = Literal["parameters", "time", "memory"]
SplitAs = By | str | Sequence[int] | Sequence[str]
"""What to balance, the number of layers of each stage, the layers that begin one, or a layout."""


def split(
    model: Model,
    num_stages: int,
    by: By = "parameters",
    sample: Value = None,
    *,
    sizes: Sequence[int] | None = None,
    layout: str | None = None,
) -> list[nn.Module]:
    """Cut a model into stages of consecutive layers, so that the largest stage is smallest.

    The stages share the model's layers (nothing is copied) and keep their names, so that
    ``"3.weight"`` is the same parameter in the model, in its stage, and in a pipeline of these
    stages. An ``nn.Sequential`` gives ``nn.Sequential`` stages, a list of modules gives ``Chain``
    stages. A list of such stages is cut anew without breaking one of them up. A weight that several
    layers have may be in several stages, where the engine keeps it one weight.

    Args:
        by: what is balanced. ``"parameters"``: their bytes. ``"time"``: seconds forward and
            backward, measured. ``"memory"``: bytes of weights, their gradients and two moments of
            Adam (4 times the weights in all; frozen ones once), and of one microbatch's
            activations, measured.
        sample: the input of one microbatch, for ``"time"`` and ``"memory"``.
        sizes: a cut of your own instead: the number of layers of each stage.
        layout: the same in Megatron-LM's letters, ``"E t*3 | t*4 | t*3 L"``: embedding, blocks and
            output head (see ``pipelab.partition.layout``).

    Raises:
        PartitionError: a model that cannot be cut, fewer layers than stages, sizes or a layout that
            do not fit, or a sample that is missing.
    """
    if layout is not None:
        if sizes is not None:
            raise PartitionError("sizes= and layout= both say where to cut: give one of them")
        model = whole_model(model)  # a layout speaks of layers, also where these were cut before
        sizes = sizes_of(layout, as_model(model), num_stages)
    row = as_model(model)
    units = [named_layers(part) for part in parts_of(model)]  # what was cut stays together
    units = units or [{name: layer} for name, layer in named_layers(row).items()]
    if sizes is None:
        sizes = balance(_costs(row, by, sample), num_stages)
    _check_sizes(sizes, num_stages, len(units))
    ends = pairwise(accumulate(sizes, initial=0))
    parts = [dict(pair for unit in units[a:b] for pair in unit.items()) for a, b in ends]
    whole = whole_model(model)
    return [part_of(whole, part) for part in parts]


def cut(
    model: Model, num_stages: int, split_as: SplitAs | None = None, sample: Value = None
) -> list[nn.Module]:
    """The stages of a pipeline, as its ``split=`` says: see ``split``.

    Args:
        split_as: what to balance; or the number of layers of each stage; or the names of the
            layers that begin a stage, where the first may be left out; or Megatron-LM's layout.

    Raises:
        PartitionError: what ``split`` refuses, names that are no layers' or out of order, or a
            ``sample`` that nothing measures.
    """
    if sample is not None and split_as not in ("time", "memory"):
        raise PartitionError(
            "sample= is what split='time' and split='memory' measure layers on: say one of these, "
            "or leave it out"
        )
    if split_as is None:
        return split(model, num_stages)
    model = whole_model(model)  # also where it was cut before
    if isinstance(split_as, str) and is_layout(split_as):
        return split(model, num_stages, layout=split_as)
    if isinstance(split_as, str):
        return split(model, num_stages, by=cast(By, split_as), sample=sample)
    asked = [*split_as] if isinstance(split_as, Sequence) else []
    if asked and all(isinstance(name, str) for name in asked):
        return split(model, num_stages, sizes=_sizes(asked, [*named_layers(model)]))
    if asked and all(isinstance(size, Integral) and not isinstance(size, bool) for size in asked):
        return split(model, num_stages, sizes=asked)
    raise PartitionError(
        f"split={split_as!r}: give what to balance ({', '.join(map(repr, get_args(By)))}), the "
        f"number of layers of each stage, such as [2, 2], the names of the layers that begin one, "
        f"or a layout such as 'E t*2 | t*2 L'"
    )


def _sizes(names: list[str], layers: list[str]) -> list[int]:
    """How many layers each stage has, where these begin one."""
    if strange := [name for name in names if name not in layers]:
        raise PartitionError(
            f"split={names}: the model has no layer {strange[0]!r} that could begin a stage; its "
            f"layers are {', '.join(layers)}"
        )
    begins = [layers.index(name) for name in names]
    if begins != sorted(set(begins)):
        raise PartitionError(f"split={names}: name each layer once, in the model's order")
    begins = begins if begins[0] == 0 else [0, *begins]
    return [b - a for a, b in pairwise([*begins, len(layers)])]


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

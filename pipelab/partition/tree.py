"""Trees of tensors: one tensor, or tuples, named tuples, lists and dicts of tensors, nested.

Batches are such trees, and so is what a layer returns. Layers see the tree; everything else works
on its *flat* representation, so a tree is flattened once and cut, moved and sent as it is:

    {"x": tensor, "mask": None}   --flatten-->   Flat(tensors=[tensor], form)   --unflatten-->  ...

The form says how the tensors belong together. Through shared memory it travels with each message;
over gloo and NCCL once, in a header, and again only when batches change their shape.
"""

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cloudpickle
import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # private by name, but torch.export is built on it too

from pipelab.partition.rows import Rows, Whole

Value = Tensor | Sequence["Value"] | Mapping[str, "Value"] | int | float | None
"""A gradient flows through its tensors of floats; numbers and None stay what they are."""


def raw_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a contiguous tensor, in place.

    One row of a column counts as contiguous, with a step over the other columns, and PyTorch does
    not view it as bytes: so the step is said to be 1.

    >>> raw_bytes(torch.tensor([[1, 2], [3, 4]], dtype=torch.int16)[:1, 1])
    tensor([2, 0], dtype=torch.uint8)
    """
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


class Leaf(NamedTuple):
    """One tensor of a tree.

    ``needs``: a gradient will come back for it. ``dim``: where its rows are; None if it is not cut.
    ``order``, in a message: its dimensions as they are in memory, the outermost first; () if that
    is their own order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    needs: bool
    dim: int | None = 0
    order: tuple[int, ...] = ()

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """Its shape, the dimensions as they are in memory."""
        return tuple(self.shape[dim] for dim in self.order) if self.order else self.shape

    def of_memory(self, tensor: Tensor) -> Tensor:
        """The tensor, from what came in ``memory_shape``: its memory, but no view to autograd."""
        if not self.order:
            return tensor
        return tensor.permute([self.order.index(dim) for dim in range(len(self.order))]).data


class Constant(NamedTuple):
    """A flag, number or text of a batch, pickled: 1, 1.0 and True are equal, their bytes not."""

    data: bytes


class Form(NamedTuple):
    """How a tree is built. ``nest`` is None for a single tensor, a leaf is None for a None."""

    nest: pytree.TreeSpec | None
    leaves: tuple[Leaf | Constant | None, ...]

    @property
    def tensors(self) -> list[Leaf]:
        """The leaves that are tensors."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Leaf)]

    @property
    def nbytes(self) -> int:
        """The bytes of its tensors."""
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in self.tensors)

    def is_alike(self, other: "Form") -> bool:
        """Whether it is the same tree, of the same dtypes; sizes may differ."""
        return self == other or (self.nest == other.nest and _kinds(self) == _kinds(other))

    def of(self, tensors: Sequence[Tensor]) -> "Form":
        """The form of the same nest with other tensors."""
        rest = iter(tensors)
        leaves = (_leaf(next(rest), x.dim) if isinstance(x, Leaf) else x for x in self.leaves)
        return Form(self.nest, tuple(leaves))

    def in_memory(self, orders: Sequence[tuple[int, ...]] | None = None) -> "Form":
        """The form with the order in memory of each tensor; None: of none."""
        if orders is None and not any(leaf.order for leaf in self.tensors):
            return self
        rest = iter([()] * len(self.leaves) if orders is None else orders)
        leaves = (x._replace(order=next(rest)) if isinstance(x, Leaf) else x for x in self.leaves)
        return Form(self.nest, tuple(leaves))

    def __str__(self) -> str:
        return ", ".join(f"{tuple(leaf.shape)} {leaf.dtype}" for leaf in self.tensors)

    def __reduce__(self) -> tuple[Callable[[bytes], "Form"], tuple[bytes]]:
        return decode, (encode(self),)


@dataclass(slots=True)  # not frozen: each action makes some, and a frozen one takes twice as long
class Flat:
    """A flattened tree: its tensors in order, and its form."""

    tensors: list[Tensor]
    form: Form

    def in_memory(self) -> Form:
        """Its form as a message has it: with the order in memory of its tensors."""
        if all(tensor.is_contiguous() for tensor in self.tensors):
            return self.form
        return self.form.in_memory([memory_order(tensor) or () for tensor in self.tensors])

    def unflatten(self) -> Any:
        """The tree again.

        >>> flatten({"x": torch.zeros(2), "mask": None}).unflatten()
        {'x': tensor([0., 0.]), 'mask': None}
        """
        nest, leaves = self.form
        if nest is None:
            return self.tensors[0]
        rest = iter(self.tensors)
        values = [
            pickle.loads(leaf.data) if isinstance(leaf, Constant) else leaf and next(rest)
            for leaf in leaves
        ]
        return pytree.tree_unflatten(values, nest)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Flat":
        """The same tree, each tensor replaced by what the function makes of it."""
        tensors = [function(tensor) for tensor in self.tensors]
        return Flat(tensors, self.form.of(tensors))

    def to(self, device: torch.device | str) -> "Flat":
        """The same tree on a device."""
        return Flat([tensor.to(device) for tensor in self.tensors], self.form)

    @property
    def rows(self) -> int:
        """The rows of its first tensor that is cut; 0 without one."""
        pairs = zip(self.form.tensors, self.tensors, strict=True)
        return next((x.shape[leaf.dim] for leaf, x in pairs if leaf.dim is not None), 0)

    def cut(self, sizes: Sequence[int]) -> "list[Flat]":
        """A batch as parts of so many rows each; views, no copies.

        Through ``.data``, each part counts its own changes: a layer that works in place on one
        microbatch would otherwise seem to autograd to have changed them all.
        """
        pairs = zip(self.tensors, self.form.tensors, strict=True)
        columns = [_cut(tensor, leaf.dim, sizes) for tensor, leaf in pairs]
        return [Flat([*row], self.form.of(row)) for row in zip(*columns, strict=True)]

    def sliced(self, tokens: Sequence[int]) -> "list[Flat]":
        """A microbatch as slices of so many tokens each, dimension 1; views, no copies."""
        pairs = zip(self.tensors, self.form.tensors, strict=True)
        columns = [_cut(x, leaf.dim if leaf.dim is None else 1, tokens) for x, leaf in pairs]
        return [Flat([*row], self.form.of(row)) for row in zip(*columns, strict=True)]

    def first(self, rows: int) -> "Flat":
        """The first rows of a batch; views."""
        return self.cut([rows, self.rows - rows])[0]

    def unshared(self) -> "Flat":
        """A part with copies of what all parts share: a layer may work in place on its input."""
        pairs = zip(self.tensors, self.form.tensors, strict=True)
        tensors = [x.clone() if leaf.dim is None else x for x, leaf in pairs]
        return Flat(tensors, self.form)

    @property
    def signature(self) -> tuple[object, ...]:
        """All of a batch that the forms of its messages depend on, except the number of rows."""
        leaves = self.form.leaves
        rows = (x._replace(shape=_shape_of_row(x)) if isinstance(x, Leaf) else x for x in leaves)
        return str(self.form.nest), *rows


def flatten(value: object, dim: int = 0) -> Flat:
    """A tree as its tensors and its form, rows in ``dim``.

    Raises TypeError for what is no tree of tensors.
    """
    if isinstance(value, Tensor):
        return Flat([value], Form(None, (_leaf(value, dim),)))
    leaves, nest = pytree.tree_flatten(value)
    strange = [x for x in leaves if x is not None and not isinstance(x, Tensor)]
    if strange or not any(isinstance(x, Tensor) for x in leaves):
        what = f"a {type(strange[0]).__name__}" if strange else "no tensor at all"
        raise TypeError(f"{what} {_EXPECTED}")
    tensors = [x for x in leaves if x is not None]
    return Flat(tensors, Form(nest, tuple(x if x is None else _leaf(x, dim) for x in leaves)))


def flatten_batch(value: object) -> Flat:
    """The inputs or targets of a step, which may hold ``Rows``, ``Whole`` and constants too.

    >>> flatten_batch({"x": Rows(torch.zeros(2, 3), dim=1), "causal": True}).rows
    3

    Raises TypeError for anything else.
    """
    if isinstance(value, Tensor | Rows | Whole):
        tensor, leaf = _entry(value)
        assert tensor is not None
        return Flat([tensor], Form(None, (leaf,)))
    leaves, nest = pytree.tree_flatten(value)
    entries = [_entry(leaf) for leaf in leaves]
    tensors = [tensor for tensor, _ in entries if tensor is not None]
    if not tensors:
        raise TypeError(f"no tensor at all {_EXPECTED}")
    return Flat(tensors, Form(nest, tuple(leaf for _, leaf in entries)))


def join(parts: Sequence[Flat]) -> Flat:
    """Microbatches of a result as one, along the rows; single numbers one after the other."""
    columns = zip(*(part.tensors for part in parts), strict=True)
    pairs = zip(parts[0].form.tensors, columns, strict=True)
    joined = [_joined(column, leaf.dim) for leaf, column in pairs]
    return Flat(joined, parts[0].form.of(joined))


def memory_order(tensor: Tensor) -> tuple[int, ...] | None:
    """The dimensions of a tensor as they are in memory, the outermost first.

    () if that is their own order; None if its numbers are not one after the other in any.

    >>> memory_order(torch.zeros(2, 3)), memory_order(torch.zeros(2, 3).t())
    ((), (1, 0))
    >>> memory_order(torch.zeros(2, 1).expand(2, 3))
    """
    if tensor.is_contiguous():
        return ()
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.dim()), key=lambda dim: -strides[dim]))
    return order if tensor.permute(order).is_contiguous() else None


def tensors_of(value: object) -> list[Tensor]:
    """All tensors in any value, in the order in which ``flatten`` finds them."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, _OPENED):
            found += tensors_of(_opened(leaf))
    return found


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A value of the same build, each tensor replaced by what the function makes of it.

    A mapping that is no ``dict``, such as a tokenizer gives, becomes one.

    >>> map_tensors(lambda t: t * 2, {"a": (Tensor([1]), None, 3)})
    {'a': (tensor([2.]), None, 3)}
    """

    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        return map_tensors(function, _opened(leaf)) if isinstance(leaf, _OPENED) else leaf

    return pytree.tree_map(mapped, value)


def described(value: object) -> str:
    """What an error says that a function returned.

    >>> described(torch.zeros(2, 3)), described(0.5)
    ('shape (2, 3)', 'a float')
    """
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def check_finite(what: str, tensors: Sequence[Tensor]) -> None:
    """Raise FloatingPointError if one of the tensors, called ``what``, has a NaN or infinity."""
    for tensor in tensors:
        wrong = tensor.numel() - int(tensor.isfinite().sum())
        if wrong:
            name = "NaN" if bool(tensor.isnan().any()) else "infinity"
            raise FloatingPointError(
                f"the {what} holds {name}: {wrong:,} of {tensor.numel():,} values are not finite "
                f"(stop_at_nan=True)"
            )


@lru_cache(maxsize=64)
def encode(form: Form) -> bytes:
    """A form as bytes, for another process; a class of a notebook cell travels by value.

    Raises TypeError for a nest that cannot be pickled.
    """
    # Not torch's description of the nest, but a nest with numbers for tensors: it can be pickled.
    size = len(form.leaves)
    nest = None if form.nest is None else pytree.tree_unflatten([*range(size)], form.nest)
    try:
        data: bytes = cloudpickle.dumps((nest, form.leaves))
    except Exception as error:
        raise TypeError(
            f"a stage returns a nest that cannot be sent to another rank ({error}): return "
            f"tuples, named tuples, lists and dicts of tensors and None"
        ) from error
    return data


@lru_cache(maxsize=64)
def decode(data: bytes) -> Form:
    """The form that ``encode`` wrote.

    >>> form = flatten((torch.zeros(2, 3), [torch.zeros(1), None])).form
    >>> decode(encode(form)) == form
    True
    """
    nest, leaves = cloudpickle.loads(data)
    return Form(None if nest is None else pytree.tree_flatten(nest)[1], leaves)


_OPENED = (Mapping, list, tuple)
_EXPECTED = (
    "where a tensor is expected:\nuse tensors, or tuples, lists and dicts of tensors and None"
)


def _opened(value: Any) -> Any:
    """A kind of dict, list or tuple that torch takes for a leaf, as one that it knows."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, list) else tuple(value)


def _kinds(form: Form) -> list[object]:
    return [(len(x.shape), x.dtype, x.needs) if isinstance(x, Leaf) else x for x in form.leaves]


def _leaf(tensor: Tensor, dim: int | None = 0) -> Leaf:
    return Leaf(tuple(tensor.shape), tensor.dtype, tensor.requires_grad, dim)


def _entry(x: object) -> tuple[Tensor | None, Leaf | Constant | None]:
    """One leaf of a batch: its tensor, if it is one, and how the form has it."""
    match x:
        case None:
            return None, None
        case Tensor():
            return x, _leaf(x)
        case Rows(tensor, dim):
            return tensor, _leaf(tensor, dim % tensor.dim())
        case Whole(tensor):
            return tensor, _leaf(tensor, None)
    if type(x) in (bool, int, float, str):
        return None, Constant(pickle.dumps(x))
    raise TypeError(f"a {type(x).__name__} {_EXPECTED}")


def _cut(tensor: Tensor, dim: int | None, sizes: Sequence[int]) -> list[Tensor]:
    if dim is None:
        return [tensor.data for _ in sizes]
    return [part.data for part in torch.split(tensor, list(sizes), dim)]


def _joined(parts: Sequence[Tensor], dim: int | None) -> Tensor:
    if dim is None:
        return parts[0]
    return torch.cat(tuple(parts), dim) if parts[0].dim() else torch.stack(tuple(parts))


def _shape_of_row(leaf: Leaf) -> tuple[int, ...]:
    """The shape without its rows."""
    if leaf.dim is None:
        return leaf.shape
    return leaf.shape[: leaf.dim] + leaf.shape[leaf.dim + 1 :]

"""What stages hand over: one tensor, or tuples, lists and dicts of tensors, nested at will.

A message carries tensors alone. How they belong together, the form, is known at both ends: it
travels once, in a header, and again only when batches change their shape.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # private by name, but torch.export stands on it too

HEADER_BYTES = 4096


class Leaf(NamedTuple):
    """One tensor of a value. ``needs``: a gradient will come back for it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    needs: bool


class Form(NamedTuple):
    """What a value is made of. ``tree`` is None for a lone tensor, a leaf is None for a None."""

    tree: pytree.TreeSpec | None
    leaves: tuple[Leaf | None, ...]

    @property
    def tensors(self) -> list[Leaf]:
        """The leaves that are tensors."""
        return [leaf for leaf in self.leaves if leaf is not None]

    def __str__(self) -> str:
        return ", ".join(f"{tuple(leaf.shape)} {leaf.dtype}" for leaf in self.tensors)


def tensors_of(value: object) -> list[Tensor]:
    """All tensors in a value, in the order of its form."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def check_finite(what: str, value: object) -> None:
    """Raise FloatingPointError if a value, called ``what``, holds a NaN or an infinity."""
    for tensor in tensors_of(value):
        wrong = tensor.numel() - int(tensor.isfinite().sum())
        if wrong:
            name = "NaN" if bool(tensor.isnan().any()) else "infinity"
            raise FloatingPointError(
                f"the {what} holds {name}: {wrong:,} of {tensor.numel():,} values are not finite "
                f"(stop_at_nan=True)"
            )


def signature(value: object) -> tuple[object, ...]:
    """All of a batch that the forms of its messages hang on, but for the number of rows."""
    form = take_apart(value)[1]
    leaves = (leaf and (leaf.shape[1:], leaf.dtype, leaf.needs) for leaf in form.leaves)
    return str(form.tree), *leaves


def take_apart(value: object) -> tuple[list[Tensor], Form]:
    """A value as its tensors and its form. Raises TypeError for what is neither."""
    if isinstance(value, Tensor):
        return [value], Form(None, (_leaf(value),))
    leaves, tree = pytree.tree_flatten(value)
    strange = [x for x in leaves if x is not None and not isinstance(x, Tensor)]
    if strange or not any(isinstance(x, Tensor) for x in leaves):
        what = f"a {type(strange[0]).__name__}" if strange else "no tensor at all"
        raise TypeError(
            f"{what} stands where a stage hands over its result: "
            f"hand over tensors, or tuples, lists and dicts of tensors and None"
        )
    tensors = [x for x in leaves if x is not None]
    return tensors, Form(tree, tuple(None if x is None else _leaf(x) for x in leaves))


def put_together(tensors: Sequence[Tensor], form: Form) -> Any:
    """The value that ``take_apart`` took apart.

    >>> tensors, form = take_apart({"x": torch.zeros(2), "mask": None})
    >>> put_together(tensors, form)
    {'x': tensor([0., 0.]), 'mask': None}
    """
    if form.tree is None:
        return tensors[0]
    rest = iter(tensors)
    return pytree.tree_unflatten([leaf and next(rest) for leaf in form.leaves], form.tree)


def to(value: Any, device: torch.device | str) -> Any:
    """The same value on a device; numbers and None stay what they are."""
    if isinstance(value, Tensor):
        return value.to(device)
    return pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, value)


def cut(value: object, sizes: Sequence[int]) -> list[Any]:
    """A batch, rows first in each tensor, as microbatches of these sizes; views, no copies.

    By way of ``.data``, each counts its own changes: a layer that works in place on one microbatch
    would otherwise seem to autograd to have changed them all.
    """
    tensors, form = take_apart(value)
    columns = [[x.data for x in torch.split(tensor, list(sizes))] for tensor in tensors]
    return [put_together(row, form) for row in zip(*columns, strict=True)]


def join(values: Sequence[Any]) -> Any:
    """Microbatches of a result as one, along the rows; numbers one after the other."""
    parts = [take_apart(value) for value in values]
    columns = zip(*(tensors for tensors, _ in parts), strict=True)
    joined = [torch.cat(column) if column[0].dim() else torch.stack(column) for column in columns]
    return put_together(joined, parts[0][1])


def encode(form: Form) -> Tensor:
    """A form as the (4096,) uint8 tensor that goes ahead of a value of a new form."""
    tree = None if form.tree is None else _written(form.tree)
    leaves = [leaf and (leaf.shape, str(leaf.dtype).split(".")[1], leaf.needs) for leaf in form[1]]
    text = json.dumps([tree, leaves]).encode()
    if len(text) > HEADER_BYTES:
        raise TypeError(
            f"a stage hands over {len(form.leaves)} tensors in a nest too deep to describe in "
            f"{HEADER_BYTES} bytes: hand over fewer"
        )
    return torch.frombuffer(bytearray(text.ljust(HEADER_BYTES)), dtype=torch.uint8)


def decode(header: Tensor) -> Form:
    """The form that ``encode`` wrote.

    >>> form = take_apart((torch.zeros(2, 3), [torch.zeros(1), None]))[1]
    >>> decode(encode(form)) == form
    True
    """
    tree, leaves = json.loads(header.numpy().tobytes())
    found = (leaf and Leaf(tuple(leaf[0]), getattr(torch, leaf[1]), leaf[2]) for leaf in leaves)
    return Form(None if tree is None else pytree.treespec_loads(tree), tuple(found))


def _written(spec: pytree.TreeSpec) -> str:
    """A nest as text, from which the other end can make it again; raises TypeError if not."""
    try:
        text: str = pytree.treespec_dumps(spec)
        if pytree.treespec_loads(text) == spec:
            return text
        reason = "its keys"
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).split(" because ")[0]
    raise TypeError(
        f"a stage hands over a nest that another rank cannot make again ({reason}): hand over "
        f"tuples, lists and dicts, with words or numbers for keys, of tensors and None"
    )


def _leaf(tensor: Tensor) -> Leaf:
    return Leaf(tuple(tensor.shape), tensor.dtype, tensor.requires_grad)

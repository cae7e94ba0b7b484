"""Refuse a batch that cannot be cut by rows, and say which of its tensors is why."""

import warnings

from torch import Tensor
from torch.utils import _pytree as pytree

from pipelab.errors import BatchError
from pipelab.partition.rows import Rows, Whole
from pipelab.partition.tree import Flat, flatten_batch, tensors_of

_MARKS = (
    "Whole(x) stands around what each microbatch gets whole, Rows(x, dim=1) around what has\n"
    "its rows in another dimension: from pipelab.engine import Rows, Whole"
)


def check_batch(
    inputs: object, targets: object, smallest: int, train: bool
) -> tuple[Flat, Flat | None, int]:
    """A batch, flattened, and its rows: at least ``smallest`` to train on, or BatchError."""
    flat_inputs = _flattened("inputs", inputs)
    rows = flat_inputs.rows
    flat_targets = None
    if targets is not None or train:
        flat_targets = _flattened("targets", targets)
        if flat_targets.rows != rows:
            shapes = f"{_table('inputs', inputs)}\n{_table('targets', targets)}"
            raise BatchError(
                f"inputs have {rows} rows, targets have {flat_targets.rows}: give one a row\n"
                f"{shapes}\n{_MARKS}"
            )
    if train:
        _refuse_graph("inputs", flat_inputs)
        _refuse_graph("targets", flat_targets)
    if rows == 0:
        raise BatchError("the batch is empty (0 rows): give at least one row per microbatch")
    if train and rows < smallest:
        raise BatchError(
            f"a batch of {rows} rows cannot be cut into {smallest} microbatches: "
            f"give at least {smallest} rows, or a schedule with at most {rows} microbatches"
        )
    return flat_inputs, flat_targets, rows


def _refuse_graph(name: str, flat: Flat | None) -> None:
    """No gradient comes back from the ranks: what computed the batch would not be trained."""
    for tensor in flat.tensors if flat else ():
        if tensor.grad_fn is not None:
            raise BatchError(
                f"{name} are the result of a computation ({tensor.grad_fn.name()}):\n"
                f"ranks get a copy of their values, so no gradient would flow back into it.\n"
                f"Move it into the first layer, or detach() them"
            )


def _flattened(name: str, batch: object) -> Flat:
    """One side of a batch, whose tensors agree on the number of rows."""
    try:
        flat = flatten_batch(batch)
    except TypeError as error:
        if not (isinstance(batch, tuple | list | dict) and tensors_of(batch)):
            kind = type(batch).__name__
            raise BatchError(
                f"{name} is a {kind}: give a tensor, or a tuple or dict, rows first"
            ) from None
        raise BatchError(f"{name}: {error}\n{_table(name, batch)}") from None
    cut = [leaf for leaf in flat.form.tensors if leaf.dim is not None]
    if not cut:
        raise BatchError(f"nothing in {name} is cut by rows:\n{_table(name, batch)}")
    if any(not leaf.shape for leaf in cut):
        raise BatchError(
            f"{name} holds a single number: give tensors, rows first\n"
            f"{_table(name, batch)}\n{_MARKS}"
        )
    lengths = sorted({leaf.shape[leaf.dim or 0] for leaf in cut})
    if len(lengths) > 1:
        raise BatchError(
            f"{name} holds tensors of {lengths} rows: give all the same rows\n"
            f"{_table(name, batch)}\n{_MARKS}"
        )
    if len(cut) > 1 and any(leaf.shape[:2] == (flat.rows, flat.rows) for leaf in cut):
        _warn_of_square(name, batch, flat.rows)
    return flat


def _warn_of_square(name: str, batch: object, rows: int) -> None:
    """Warn of tensors that may have been meant to be cut elsewhere, unless they are marked."""
    square = [
        path
        for path, leaf in _named_leaves(name, batch)
        if isinstance(leaf, Tensor) and leaf.shape[:2] == (rows, rows)
    ]
    if square:
        warnings.warn(
            f"{rows} rows fit two dimensions of {' and '.join(square)}; the first is cut:\n"
            f"say Rows(x) if that is meant, Whole(x) for a mask, or Rows(x, dim=1)",
            stacklevel=2,
        )


def _table(name: str, batch: object) -> str:
    """What a batch holds, a line each, with shapes and rows."""
    lines = []
    for path, leaf in _named_leaves(name, batch):
        match leaf:
            case Whole(tensor):
                lines.append(f"  {path}  {tuple(tensor.shape)}  whole")
            case Rows(tensor, dim):
                lines.append(f"  {path}  {tuple(tensor.shape)}  {tensor.shape[dim]} rows")
            case Tensor() if leaf.dim():
                lines.append(f"  {path}  {tuple(leaf.shape)}  {len(leaf)} rows")
            case Tensor():
                lines.append(f"  {path}  a single number")
            case _:
                lines.append(f"  {path}  {type(leaf).__name__}")
    return "\n".join(lines)


def _named_leaves(name: str, batch: object) -> list[tuple[str, object]]:
    """Each leaf with its place, such as ``inputs['mask']``."""
    leaves, _ = pytree.tree_flatten_with_path(batch)
    return [(name + pytree.keystr(path), leaf) for path, leaf in leaves]

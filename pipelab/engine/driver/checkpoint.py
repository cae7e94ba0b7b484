"""A training on disk: parameters and optimizer state, under the model's own names.

One file, replaced only when the new one is complete, so an interrupted save leaves the old one as
it was. Loading runs no code (``weights_only``).
"""

import io
import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pipelab.engine.driver.old_checkpoint import todays, without_stages
from pipelab.engine.driver.resume import Saved, fitted
from pipelab.engine.protocol.training_state import are_stages
from pipelab.errors import CheckpointError
from pipelab.files import check_plain, replacing
from pipelab.partition.saved import parts_of
from pipelab.partition.sharing import Tie

FILE = "checkpoint.pt"
_VERSION = 2
_READS = (1, _VERSION)  # 1: pipelab 0.1.0's (old_checkpoint.py)
_MAX_BYTES = 1 << 36  # 64 GiB: more than any model of the course


class Checkpoint(NamedTuple):
    """``parameters``: the model's state_dict. ``optimizer``: see ``Update.state``."""

    parameters: dict[str, Any]
    optimizer: dict[str, Any]
    steps: int
    version: int = _VERSION


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``folder/checkpoint.pt``; ``torch.load(path)["model"]`` is a plain state_dict.

    Raises:
        CheckpointError: a folder that cannot be made, or an extra state that cannot be loaded.
    """
    extra = {
        k: value for k, value in checkpoint.parameters.items() if not isinstance(value, Tensor)
    }
    for name, value in extra.items():
        _check_plain(name, value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be used as a folder ({error})") from None
    data = {
        "format": "pipelab-checkpoint",
        "version": _VERSION,
        "model": checkpoint.parameters,
        "extra": [*extra],  # the entries of "model" that are no tensors
        "optimizer": checkpoint.optimizer,
        "steps": checkpoint.steps,
    }
    with replacing(folder / FILE) as file:
        torch.save(data, file)
        file.flush()
        os.fsync(file.fileno())  # complete on the disk before it takes the earlier one's place
    return folder / FILE


def _check_plain(name: str, value: object) -> None:
    """Raise CheckpointError for what ``load`` would refuse, since loading it could run code."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # whatever pickling a learner's class raises
        raise CheckpointError(
            f"{name} cannot be kept in a checkpoint: it is a {type(value).__name__}, or holds what "
            f"only code\ncan load. Let get_extra_state give tensors, numbers, text or bytes, and "
            f"lists and dicts of them"
        ) from error


def check_whole(accumulating: bool) -> None:
    """Raise CheckpointError in the middle of a step over several batches."""
    if accumulating:
        raise CheckpointError(
            "gradients of steps with update=False are waiting for their update, and a checkpoint "
            "does not hold them: save after a step that updates"
        )


def load(folder: Path) -> Checkpoint:
    """Read what ``save`` wrote. Raises CheckpointError on anything else."""
    path = folder / FILE
    try:
        check_plain(path, _MAX_BYTES)
        data = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch may fail in any way on random bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch would advise to run it
            reason = "damaged, or more than tensors and plain values, which might run code"
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    if not isinstance(data, dict) or data.get("format") != "pipelab-checkpoint":
        raise CheckpointError(f"{path}: is not a checkpoint: write one with pipeline.save(folder)")
    if (version := data.get("version")) not in _READS:
        raise CheckpointError(
            f"{path}: has version {version!r}, this pipelab reads up to {_VERSION}: "
            f"update pipelab, or save it again"
        )
    found = Checkpoint(data.get("model"), data.get("optimizer"), data.get("steps"), version)  # type: ignore[arg-type]
    if not _is_whole(found, data.get("extra", [])):
        raise CheckpointError(f"{path}: is damaged: parameters, optimizer or steps are missing")
    _check_claims(path, data)
    if version == _VERSION and not are_stages(found.optimizer):
        raise CheckpointError(f"{path}: is damaged: the optimizer's state has another form")
    return found


def for_stages(
    checkpoint: Checkpoint, own: Collection[str], optimizers: Saved
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters, and what each of our stages' optimizers gets.

    Args:
        own: the names in our model's state_dict.
        optimizers: what our stages' optimizers hold now.

    Raises:
        CheckpointError: optimizers of another kind, or with other groups.
    """
    parameters, optimizer = checkpoint.parameters, checkpoint.optimizer
    if checkpoint.version == 1:
        parameters, optimizer = without_stages(own, parameters, optimizer)
        optimizer = todays(optimizers, optimizer)
    return parameters, fitted(optimizers, optimizer)


def _check_claims(path: Path, data: object) -> None:
    """A tensor that repeats one number may claim terabytes; a copy of it would take them."""
    size = path.stat().st_size
    for leaf in pytree.tree_leaves(data):
        claimed = sum(x.nbytes for x in parts_of(leaf)) if isinstance(leaf, Tensor) else 0
        if claimed > size:
            raise CheckpointError(
                f"{path}: is damaged: a tensor claims {claimed:,} bytes in a file of {size:,}"
            )


def check_ties(ties: Sequence[Tie], state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where a state has several values for one tied weight."""
    for tie in ties:
        first, *others = (state[name].cpu() for name in tie.names.values())
        same = (x.dtype == first.dtype and _are_equal(first, x) for x in others)
        if not all(same):
            names = " and ".join(tie.names.values())
            raise CheckpointError(
                f"{names} are one tied weight in this model, and differ in the state:\n"
                f"load the state of a model that ties them, or give each name the same tensor"
            )


def _are_equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _is_whole(found: Checkpoint, extra: Sequence[str]) -> bool:
    return (
        isinstance(found.parameters, dict)
        and all(isinstance(v, Tensor) or name in extra for name, v in found.parameters.items())
        and isinstance(found.optimizer, dict)
        and all(isinstance(value, dict) for value in found.optimizer.values())
        and type(found.steps) is int
    )

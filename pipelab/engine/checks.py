"""Refuse before anything runs: what can be known to be wrong without the ranks."""

from collections.abc import Sequence

import cloudpickle
import torch
from torch import Tensor

from pipelab.engine.commands import Loss
from pipelab.errors import BatchError, LossError, PipelabError, ScheduleError
from pipelab.schedules import Schedule


def microbatch_sizes(rows: int, num_microbatches: int) -> tuple[int, ...]:
    """Rows of each microbatch: as equal as can be, the larger ones first (torch.tensor_split).

    >>> microbatch_sizes(10, 4)
    (3, 3, 2, 2)
    """
    small, larger = divmod(rows, num_microbatches)
    return tuple(small + (i < larger) for i in range(num_microbatches))


def check_batch(inputs: object, targets: object, num_microbatches: int, train: bool) -> int:
    """The rows of a batch. Raises BatchError if it cannot be cut into the microbatches."""
    for name, batch in (("inputs", inputs), ("targets", targets)):
        if not isinstance(batch, Tensor) and (name == "inputs" or batch is not None or train):
            raise BatchError(f"{name} is a {type(batch).__name__}: give a tensor, rows first")
        if isinstance(batch, Tensor) and batch.dim() == 0:
            raise BatchError(f"{name} is a single number: give a tensor, rows first")
    assert isinstance(inputs, Tensor)
    rows = len(inputs)
    if isinstance(targets, Tensor) and len(targets) != rows:
        raise BatchError(f"inputs have {rows} rows, targets have {len(targets)}: give one a row")
    if rows == 0:
        raise BatchError("the batch is empty (0 rows): give at least one row per microbatch")
    if train and rows < num_microbatches:
        raise BatchError(
            f"a batch of {rows} rows cannot be cut into {num_microbatches} microbatches: "
            f"give at least {num_microbatches} rows, or a schedule with at most {rows} microbatches"
        )
    return rows


def check_loss(loss: Loss) -> None:
    """Raise LossError if a loss returns something else than one number on small dummy rows.

    A copy of the loss is tried on a few common shapes. Only if it answers at least once, and
    never with one number, is it refused here; what cannot be tried is judged on the last rank.
    """
    if not callable(loss):
        raise LossError(f"the loss is a {type(loss).__name__}: give a function (output, target)")
    copy = cloudpickle.loads(cloudpickle.dumps(loss))
    classes, values = torch.zeros(2, dtype=torch.long), torch.zeros(2, 3)
    found: list[str] = []
    for target in (classes, values):
        try:
            with torch.no_grad():
                value = copy(torch.zeros(2, 3), target)
        except Exception:  # the loss wants other shapes: nothing is learnt from this try
            continue
        if isinstance(value, Tensor) and value.numel() == 1:
            return
        is_tensor = isinstance(value, Tensor)
        found.append(f"shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}")
    if found:
        raise LossError(
            f"the loss returned {found[0]} for 2 rows: it must return one number, a scalar tensor, "
            f"the mean over its rows (reduction='mean')"
        )


def check_same_stages(old: Schedule, new: Schedule) -> None:
    """Raise ScheduleError if the running ranks cannot follow another schedule."""
    if new.num_ranks != old.num_ranks:
        raise ScheduleError(
            f"the schedule is for {new.num_ranks} ranks, this pipeline runs {old.num_ranks}: "
            f"open a new Pipeline for it"
        )
    if new.rank_of_stage != old.rank_of_stage:
        raise ScheduleError(
            f"the schedule puts the stages elsewhere ({_places(new)}; here {_places(old)}): "
            f"open a new Pipeline for it"
        )


def check_device(device: str) -> None:
    """Raise PipelabError for a device that ranks do not run on."""
    if device not in ("auto", "cpu"):
        raise PipelabError(f"device={device!r}: ranks run on 'cpu' so far; 'auto' chooses it")


def _places(schedule: Schedule) -> str:
    homes: Sequence[tuple[int, int]] = sorted(schedule.rank_of_stage.items())
    return ", ".join(f"stage {stage} on rank {rank}" for stage, rank in homes)

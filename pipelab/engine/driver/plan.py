"""The commands for all ranks, replica by replica: what each builds, follows and works on."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from pipelab.action import Kind
from pipelab.engine.driver.microbatches import Share
from pipelab.engine.protocol.commands import Build, Options, Run, Use
from pipelab.schedules import Schedule
from pipelab.schedules.communication import Lowered, Row, with_updates
from pipelab.simulator import Cost


def builds(
    modules: list[nn.Module], lowered: Lowered, replicas: int, options: Options
) -> list[Build]:
    """Each rank gets its own stages."""
    return [
        Build({stage: modules[stage] for stage in lowered.stages_of(rank)}, len(modules), options)
        for _ in range(replicas)
        for rank in range(lowered.num_ranks)
    ]


def uses(
    lowered: Lowered, replicas: int, pace: Cost | None, overlap: bool, options: Options
) -> list[Use]:
    """Each rank gets its rows, for training and for evaluation.

    Messages written by hand stand where they were written, REDUCE_GRAD and STEP too; what a
    training step lacks of these is added. PyTorch's worker places messages by itself.
    """
    training = with_updates(lowered.ranks, replicas)
    if options.updates_together:
        training = tuple(map(_steps_last, training))  # they wait for all ranks
    rows = [
        {True: train, False: evaluate}
        for train, evaluate in zip(training, lowered.forwards, strict=True)
    ]
    csv = lowered.compute.to_csv() if options.worker == "torch" else ""
    return [
        Use(rows[rank], _homes(lowered, replica), pace, overlap, csv)
        for replica in range(replicas)
        for rank in range(lowered.num_ranks)
    ]


def runs(shares: list[Share], schedule: Schedule, options: Mapping[str, Any]) -> list[Run]:
    """The first stage's ranks get the inputs, the last one's the targets."""
    home = schedule.rank_of_stage
    first, last = home[0], home[schedule.num_stages - 1]
    return [
        Run(
            inputs=share.inputs if rank == first else None,
            targets=share.targets if rank == last else None,
            sizes=share.sizes,
            weights=share.weights,
            first=share.first,
            trial=share.trial if rank == last else None,
            **options,
        )
        for share in shares
        for rank in range(schedule.num_ranks)
    ]


def _homes(lowered: Lowered, replica: int) -> dict[int, int]:
    """The process of each stage within one copy of the pipeline."""
    offset = replica * lowered.num_ranks
    return {stage: rank + offset for stage, rank in lowered.rank_of_stage.items()}


def _steps_last(row: Row) -> Row:
    """One rank's actions, each STEP at the end."""
    steps = (action for action in row if action.kind is Kind.STEP)
    return (*(action for action in row if action.kind is not Kind.STEP), *steps)

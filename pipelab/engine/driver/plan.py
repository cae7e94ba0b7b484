"""The commands for all ranks, replica by replica: what each builds, follows and works on."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from pipelab.action import Action, Kind
from pipelab.engine.driver.microbatches import Share
from pipelab.engine.protocol.commands import Build, Options, Run, Use
from pipelab.schedules import Schedule
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost


def builds(
    modules: list[nn.Module], schedule: Schedule, replicas: int, options: Options
) -> list[Build]:
    """Each rank gets the stages that live on it."""
    return [
        Build({stage: modules[stage] for stage in schedule.stages_of(rank)}, len(modules), options)
        for _ in range(replicas)
        for rank in range(schedule.num_ranks)
    ]


def uses(
    schedule: Schedule, replicas: int, pace: Cost | None, overlap: bool, options: Options
) -> list[Use]:
    """Each rank gets its row of the schedule with its messages."""
    lowered = {True: lower(schedule, replicas), False: lower(_forwards(schedule))}
    csv = schedule.compute.to_csv() if options.worker == "torch" else ""
    return [
        Use(
            {train: _row(rows, rank, train) for train, rows in lowered.items()},
            _homes(schedule, replica),
            pace,
            overlap,
            csv,
        )
        for replica in range(replicas)
        for rank in range(schedule.num_ranks)
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
            **options,
        )
        for share in shares
        for rank in range(schedule.num_ranks)
    ]


def _homes(schedule: Schedule, replica: int) -> dict[int, int]:
    """The process of each stage within one copy of the pipeline."""
    offset = replica * schedule.num_ranks
    return {stage: rank + offset for stage, rank in schedule.rank_of_stage.items()}


def _row(lowered: Schedule, rank: int, train: bool) -> tuple[Action, ...]:
    """One rank's actions; lowering ends each row with STEP, but evaluation must learn nothing."""
    return tuple(a for a in lowered.ranks[rank] if train or a.kind is not Kind.STEP)


def _forwards(schedule: Schedule) -> Schedule:
    """The schedule's forwards alone, for evaluation."""
    rows = (tuple(a for a in row if a.kind is Kind.F) for row in schedule.ranks)
    return Schedule(tuple(rows), schedule.name)

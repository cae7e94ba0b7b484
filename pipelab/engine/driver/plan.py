"""The commands for all ranks, replica by replica: what each builds, follows and works on."""

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from pipelab.action import Action, Kind
from pipelab.engine.driver.microbatches import Share
from pipelab.engine.protocol.commands import Build, Load, Options, Run, Use
from pipelab.engine.protocol.training_state import only, stage_key
from pipelab.partition.chain import layer_of
from pipelab.partition.sharing import NOTHING_SHARED, Sharing, Tie
from pipelab.schedules import Schedule
from pipelab.schedules.communication import Lowered, Row, with_updates
from pipelab.simulator import Cost


def builds(
    modules: list[nn.Module], lowered: Lowered, replicas: int, options: Options,
    sharing: Sharing = NOTHING_SHARED,
) -> list[Build]:  # fmt: skip
    """Each rank gets its own stages, and what they share with others."""
    builds = []
    for rank in range(lowered.num_ranks):
        own = {stage: modules[stage] for stage in lowered.stages_of(rank)}
        builds.append(Build(own, len(modules), options, sharing.of([*own])))
    return builds * replicas


def loads(
    state: Mapping[str, Any], optimizer: dict[str, Any] | None, held: Sequence[Collection[str]],
    schedule: Schedule,
) -> list[Load]:  # fmt: skip
    """Each rank gets the state of its layers, and that of its stages' optimizers.

    Args:
        state: the model's; a layer that no rank names may be any rank's.
        optimizer: of each stage, by ``"stage 0"`` and so on, and what is common to all.
        held: of each rank, the names in its layers' state.
    """
    own = [{layer_of(name) for name in names} for names in held]
    known = set().union(*own)
    commands = []
    for process, layers in enumerate(own):
        part = OrderedDict(
            (name, value)
            for name, value in state.items()
            if (layer := layer_of(name)) in layers or layer not in known
        )
        if (versions := getattr(state, "_metadata", None)) is not None:
            part._metadata = versions  # type: ignore[attr-defined]
        ours = [stage_key(stage) for stage in schedule.stages_of(process % schedule.num_ranks)]
        commands.append(Load(part, optimizer and only(optimizer, ours)))
    return commands


def uses(
    lowered: Lowered, replicas: int, pace: Cost | None, overlap: bool, options: Options,
    ties: Sequence[Tie] = (),
) -> list[Use]:  # fmt: skip
    """Each rank gets its rows, for training and for evaluation.

    Messages written by hand stand where they were written, REDUCE_GRAD and STEP too; what a
    training step lacks of these is added. PyTorch's worker places messages by itself.
    """
    training = with_updates(lowered.ranks, replicas)
    if trained := [tie for tie in ties if tie.is_trained]:
        training = with_ties(training, trained, lowered.rank_of_stage)
    elif options.updates_together:
        training = tuple(map(_steps_last, training))  # they wait for all ranks
    rows = [
        {True: train, False: evaluate}
        for train, evaluate in zip(training, lowered.forwards, strict=True)
    ]
    csv = lowered.compute.to_csv() if options.worker == "torch" else ""
    return [
        Use(rows[rank], _homes(lowered, replica), pace, overlap, csv, lowered.overlaps)
        for replica in range(replicas)
        for rank in range(lowered.num_ranks)
    ]


def runs(shares: list[Share], schedule: Schedule, options: Mapping[str, Any]) -> list[Run]:
    """The first stage's ranks get the inputs, the last one's the targets."""
    home = schedule.rank_of_stage
    first, last = home[0], home[schedule.num_stages - 1]
    asked = time.monotonic()
    ends = [(rank == first, rank == last) for rank in range(schedule.num_ranks)]
    found = []
    for share in shares:
        made = {
            (has_inputs, has_targets): Run(
                inputs=share.inputs if has_inputs else None,
                targets=share.targets if has_targets else None,
                sizes=share.sizes,
                weights=share.weights,
                first=share.first,
                asked=asked,
                trial=share.trial if has_targets else None,
                **options,
            )
            for has_inputs, has_targets in set(ends)
        }
        found += [made[end] for end in ends]  # ranks in between get the same one
    return found


def _homes(lowered: Lowered, replica: int) -> dict[int, int]:
    """The process of each stage within one copy of the pipeline."""
    offset = replica * lowered.num_ranks
    return {stage: rank + offset for stage, rank in lowered.rank_of_stage.items()}


def with_ties(
    rows: Iterable[Row], ties: Sequence[Tie], rank_of_stage: Mapping[int, int]
) -> tuple[Row, ...]:
    """Training rows that add up tied weights, by REDUCE_GRAD where these are on several ranks.

    Those REDUCE_GRAD stand behind all else, and then the STEPs, in the order of stages: so no rank
    waits for one that waits for it (rank/tied_weights.py).
    """
    tied = {stage for tie in ties for stage in tie.names}
    far = [tie for tie in ties if len({rank_of_stage[stage] for stage in tie.names}) > 1]
    needed = {Action(stage, Kind.REDUCE_GRAD) for tie in far for stage in tie.names}
    completed = []
    for row in rows:
        here = {stage for stage, *_ in row}
        steps = {a for a in row if a.kind is Kind.STEP}
        reduces = {a for a in needed if a.stage in here}
        reduces |= {a for a in row if a.kind is Kind.REDUCE_GRAD and a.stage in tied}
        rest = (a for a in row if a not in reduces | steps)
        completed.append((*rest, *sorted(reduces), *sorted(steps)))
    return tuple(completed)


def _steps_last(row: Row) -> Row:
    """One rank's actions, each STEP at the end."""
    steps = (action for action in row if action.kind is Kind.STEP)
    return (*(action for action in row if action.kind is not Kind.STEP), *steps)

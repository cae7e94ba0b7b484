"""Checkpoints of pipelab 0.1.0, version 1 of the file, in today's form.

Two things were otherwise. Models that ``split`` had cut called their parameters by stage and name
(``"1.3.weight"``). And an optimizer's groups were saved without their parameters' names, so they
are matched by their place, where all stages had the same groups.
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from pipelab.engine.driver.resume import Saved, stages_of
from pipelab.engine.protocol.training_state import Group, ScheduleState, StageState
from pipelab.errors import CheckpointError


def without_stages(
    own: Collection[str], parameters: dict[str, Tensor], optimizer: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Both by the model's own names, where they went by stage and name."""
    names = {name: name.partition(".")[2] for name in parameters}
    if parameters.keys() == set(own) or sorted(names.values()) != sorted(own):
        return parameters, optimizer
    renamed = {names.get(key, key): entry for key, entry in optimizer.items()}
    return {names[name]: tensor for name, tensor in parameters.items()}, renamed


def todays(own: Saved, optimizer: dict[str, Any]) -> dict[str, Any]:
    """The state of an old checkpoint's optimizers as one stage that held our parameters.

    Raises:
        CheckpointError: groups that differed by stage; which parameters they held is unknown.
    """
    ours, theirs = stages_of(own), [x for key, x in optimizer.items() if key.startswith("stage ")]
    if not ours or not theirs:
        return {}
    groups = [state["groups"] for state in (*ours.values(), *theirs)]
    if len({*map(len, groups)}) > 1 or any(x["groups"] != theirs[0]["groups"] for x in theirs):
        raise CheckpointError(
            "this checkpoint of pipelab 0.1.0 does not say which parameters its optimizer's groups "
            "held:\nload_state_dict(torch.load(path)['model']) the parameters alone"
        )
    found = StageState(
        kind=theirs[0].get("kind", "unknown"),
        groups=[
            Group(names=_names(ours, number), settings=settings)
            for number, settings in enumerate(theirs[0]["groups"])
        ],
        state={key: x for key, x in optimizer.items() if not key.startswith(("stage ", "loss "))},
        shared={},
    )
    kinds = [state["lr_schedule"]["kind"] for state in ours.values() if "lr_schedule" in state]
    if kinds and "lr_schedule" in theirs[0]:
        found["lr_schedule"] = ScheduleState(kind=kinds[0], state=theirs[0]["lr_schedule"])
    scale = {"loss scale": optimizer["loss scale"]} if "loss scale" in optimizer else {}
    return {"stage 0": found, **scale}


def _names(stages: dict[str, StageState], number: int) -> list[str]:
    return [name for state in stages.values() for name in state["groups"][number]["names"]]

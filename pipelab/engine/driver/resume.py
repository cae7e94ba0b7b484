"""A saved training for the stages that there are now, which may be cut elsewhere.

A parameter's state and settings go by its name. So each of our groups looks up the groups that its
parameters were in (their *homes*), and takes over the settings that these agree on:

    saved    stage 0: [0.weight 2.weight] [0.bias 2.bias]    stage 1: [4.weight] [4.bias]
    ours     stage 0: [0.weight 2.weight 4.weight] [0.bias 2.bias 4.bias]
    homes             stage 0's and 1's first       stage 0's and 1's second

The same cut finds itself, and continues bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipelab.engine.protocol.training_state import (
    Group,
    ScheduleState,
    StageState,
    same,
    unsavable,
)
from pipelab.errors import CheckpointError

Saved = Mapping[str, Any]
"""For each stage (``"stage 2"``) a ``StageState``; and fp16's ``"loss scale"``."""

_PER_GROUP = ("base_lrs", "_last_lr", "max_lrs", "min_lrs", "lr_lambdas", "base_momentums",
              "max_momentums")  # fmt: skip
_INSTEAD = "or load_state_dict(torch.load(path)['model']) the parameters alone"


class _Home(NamedTuple):
    """One group of a saved optimizer."""

    stage: str
    number: int


def stages_of(found: Saved) -> dict[str, StageState]:
    """The optimizers alone."""
    return {key: state for key, state in found.items() if key.startswith("stage ")}


def check_savable(found: Saved) -> None:
    """Raise CheckpointError for a state that a file could not give back."""
    for where, what in unsavable(dict(found)):
        raise CheckpointError(
            f"the training cannot be saved: {where} of its optimizer is {what}, and a\n"
            f"checkpoint holds tensors and plain values alone: keep that in one of those, or save\n"
            f"pipeline.state_dict() with torch.save"
        )


def fitted(own: Saved, saved: Saved) -> dict[str, Any]:
    """What each of our optimizers gets of a saved training; ``own`` is what they hold now.

    Raises:
        CheckpointError: another kind of optimizer or schedule, or settings that differ within one
            of our groups.
    """
    theirs = stages_of(saved)
    homes = {
        name: _Home(stage, number)
        for stage, state in theirs.items()
        for number, group in enumerate(state["groups"])
        for name in group["names"]
    }
    found = {stage: _fit(stage, state, theirs, homes) for stage, state in stages_of(own).items()}
    scale = {"loss scale": saved["loss scale"]} if "loss scale" in saved else {}
    return {stage: state for stage, state in found.items() if state is not None} | scale


def _fit(
    stage: str, own: StageState, saved: dict[str, StageState], homes: dict[str, _Home]
) -> StageState | None:
    """One of our stages; None if the saved training had no optimizer for its parameters."""
    names = [name for group in own["groups"] for name in group["names"]]
    sources = {home.stage: saved[home.stage] for name in names if (home := homes.get(name))}
    if not sources:
        return None
    _check_kinds("", stage, own["kind"], {state["kind"] for state in sources.values()})
    entries = {name: entry for state in saved.values() for name, entry in state["state"].items()}
    fit = StageState(
        kind=own["kind"],
        groups=[_fit_group(stage, group, saved, homes) for group in own["groups"]],
        state={name: entries[name] for name in names if name in entries},
        shared=_agreed(stage, "shared", [state["shared"] for state in sources.values()]),
    )
    if schedule := _fit_schedule(stage, own, sources, homes):
        fit["lr_schedule"] = schedule
    return fit


def _check_kinds(part: str, stage: str, ours: str, theirs: set[str]) -> None:
    if other := sorted(theirs - {ours}):
        raise CheckpointError(
            f"{stage}: the checkpoint was trained with {part}{other[0]}, this pipeline trains "
            f"with {ours}: use the same, {_INSTEAD}"
        )


def _fit_group(
    stage: str, own: Group, saved: dict[str, StageState], homes: dict[str, _Home]
) -> Group:
    """Our group with the settings of its parameters' homes."""
    found: dict[_Home, str] = {}  # with the first parameter that was there
    for name in own["names"]:
        if name in homes:
            found.setdefault(homes[name], name)
    each = [saved[home.stage]["groups"][home.number]["settings"] for home in found]
    for settings, name in zip(each[1:], [*found.values()][1:], strict=True):
        _check_settings(stage, each[0], settings, next(iter(found.values())), name)
    return Group(names=own["names"], settings=each[0] if each else own["settings"])


def _check_settings(
    stage: str, one: dict[str, Any], other: dict[str, Any], name: str, twin: str
) -> None:
    for key in sorted(one.keys() | other.keys()):
        if not same(one.get(key), other.get(key)):
            raise CheckpointError(
                f"{stage}: {name} and {twin} are in one group of the optimizer, and were saved "
                f"with\n{key}={one.get(key)} and {key}={other.get(key)}: let optimizer= make "
                f"groups as it did then,\n{_INSTEAD}"
            )


def _fit_schedule(
    stage: str, own: StageState, sources: dict[str, StageState], homes: dict[str, _Home]
) -> ScheduleState | None:
    """Our schedule of learning rates; None if either has none: it starts anew then."""
    theirs = {key: x["lr_schedule"] for key, x in sources.items() if "lr_schedule" in x}
    ours = own.get("lr_schedule")
    if ours is None or not theirs:
        return None
    _check_kinds("lr_schedule ", stage, ours["kind"], {state["kind"] for state in theirs.values()})
    firsts = [next((homes[n] for n in g["names"] if n in homes), None) for g in own["groups"]]
    merge = _Merge(stage, firsts, {key: len(x["groups"]) for key, x in sources.items()})
    states = {key: state["state"] for key, state in theirs.items()}
    return ScheduleState(kind=ours["kind"], state=merge.state(states, ours["state"]))


class _Merge(NamedTuple):
    """The schedules of some saved stages as one of ours.

    A list with one entry for each group takes each from that group's home.
    """

    stage: str
    homes: list[_Home | None]
    num_groups: dict[str, int]

    def state(self, saved: dict[str, Any], own: Any) -> dict[str, Any]:
        """One ``state_dict``, of the schedule or of one inside it."""
        first = next(iter(saved.values()))
        return {
            key: self.value(key, {s: x.get(key) for s, x in saved.items()}, own.get(key))
            for key in first
        }

    def value(self, key: str, saved: dict[str, Any], own: Any) -> Any:
        """One entry of it."""
        if key == "_schedulers":  # of torch's SequentialLR and ChainedScheduler
            inner = (
                dict(zip(saved, row, strict=True)) for row in zip(*saved.values(), strict=True)
            )
            return [self.state(states, ours) for states, ours in zip(inner, own, strict=True)]
        if isinstance(own, list) and self._is_per_group(key, saved, own):
            pairs = zip(self.homes, own, strict=True)
            return [x if home is None else saved[home.stage][home.number] for home, x in pairs]
        return _agreed(self.stage, f"lr_schedule's {key}", [*saved.values()])

    def _is_per_group(self, key: str, saved: dict[str, Any], own: list[Any]) -> bool:
        """Torch's are known by name; a learner's show it where the number of groups changes."""
        fits = len(own) == len(self.homes) and all(
            isinstance(x, list) and len(x) == self.num_groups[stage] for stage, x in saved.items()
        )
        return fits and (key in _PER_GROUP or any(len(x) != len(own) for x in saved.values()))


def _agreed(stage: str, what: str, values: Sequence[Any]) -> Any:
    """What all saved stages have alike."""
    if any(not same(value, values[0]) for value in values[1:]):
        raise CheckpointError(
            f"{stage}: it holds layers of several saved stages, whose {what} differ, and cannot "
            f"take over\nboth: load into the cut that was saved, {_INSTEAD}"
        )
    return values[0]

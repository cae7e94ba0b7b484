"""A saved training for the stages that there are now, which may be cut elsewhere.

A parameter's state and settings go by its name. So each of our groups looks up the groups that its
parameters were in (their *homes*), and takes over their settings:

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
_OF_ALL = ("_milestones", "_schedule_phases", "_schedulers")  # torch's lists of other things
_INSTEAD = "or load_state_dict(torch.load(path)['model']) the parameters alone"


class _Home(NamedTuple):
    """One group of a saved optimizer."""

    stage: str
    number: int


class _Fit(NamedTuple):
    """A group that one of ours gets, all or in part; and its home, if it was saved."""

    group: Group
    home: _Home | None
    number: int  # of ours


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
        CheckpointError: another kind of optimizer or schedule.
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
    fits = _fit_groups(own, saved, homes)
    found = StageState(
        kind=own["kind"],
        groups=[fit.group for fit in fits],
        state={name: entries[name] for name in names if name in entries},
        shared=_agreed(stage, "shared", [state["shared"] for state in sources.values()]),
    )
    if schedule := _fit_schedule(stage, own, sources, fits):
        found["lr_schedule"] = schedule
    return found


def _check_kinds(part: str, stage: str, ours: str, theirs: set[str]) -> None:
    if other := sorted(theirs - {ours}):
        raise CheckpointError(
            f"{stage}: the checkpoint was trained with {part}{other[0]}, this pipeline trains "
            f"with {ours}: use the same, {_INSTEAD}"
        )


def _fit_groups(
    own: StageState, saved: dict[str, StageState], homes: dict[str, _Home]
) -> list[_Fit]:
    """Our groups with the settings that their parameters had.

    Where those differ within a group, more groups follow ours.
    """
    firsts, more = list[_Fit](), list[_Fit]()
    for number, group in enumerate(own["groups"]):
        first, *others = _alike(number, group, saved, homes)
        firsts.append(first)
        more += others
    return firsts + more


def _alike(
    number: int, own: Group, saved: dict[str, StageState], homes: dict[str, _Home]
) -> list[_Fit]:
    """One of our groups as groups of parameters that had the same settings."""
    found: list[_Fit] = []
    for name in own["names"]:
        home, settings = homes.get(name), own["settings"]
        if home is not None:
            settings = saved[home.stage]["groups"][home.number]["settings"]
        alike = next((fit for fit in found if same(fit.group["settings"], settings)), None)
        if alike is not None:
            alike.group["names"].append(name)
        else:
            found.append(_Fit(Group(names=[name], settings=settings), home, number))
    return found or [_Fit(own, None, number)]


def _fit_schedule(
    stage: str, own: StageState, sources: dict[str, StageState], fits: list[_Fit]
) -> ScheduleState | None:
    """Our schedule of learning rates; None if either has none: it starts anew then."""
    theirs = {key: x["lr_schedule"] for key, x in sources.items() if "lr_schedule" in x}
    ours = own.get("lr_schedule")
    if ours is None or not theirs:
        return None
    _check_kinds("lr_schedule ", stage, ours["kind"], {state["kind"] for state in theirs.values()})
    merge = _Merge(stage, fits, {key: len(x["groups"]) for key, x in sources.items()})
    states = {key: state["state"] for key, state in theirs.items()}
    return ScheduleState(kind=ours["kind"], state=merge.state(states, ours["state"]))


class _Merge(NamedTuple):
    """The schedules of some saved stages as one of ours.

    A list with one entry for each group takes each from that group's home.
    """

    stage: str
    fits: list[_Fit]
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
        if self._is_per_group(key, saved, own):
            return [
                own[number] if home is None else saved[home.stage][home.number]
                for _, home, number in self.fits
            ]
        return _agreed(self.stage, f"lr_schedule's {key}", [*saved.values()])

    def _is_per_group(self, key: str, saved: dict[str, Any], own: Any) -> bool:
        """Torch's are known by name; a learner's show it where the number of groups changes."""
        num_own = 1 + max(fit.number for fit in self.fits)
        each = [(own, num_own), *((saved[stage], self.num_groups[stage]) for stage in saved)]
        if key in _OF_ALL or not all(isinstance(x, list) and len(x) == n for x, n in each):
            return False
        if key not in _PER_GROUP and len(self.fits) > num_own:
            raise CheckpointError(
                f"{self.stage}: parameters of one group were saved with other settings, so it "
                f"becomes several,\nand nothing says whether the lr_schedule's {key} has an entry "
                f"for each group: let\noptimizer= make the groups as it did then, {_INSTEAD}"
            )
        return key in _PER_GROUP or any(len(x) != num_own for x in saved.values())


def _agreed(stage: str, what: str, values: Sequence[Any]) -> Any:
    """What all saved stages have alike."""
    if any(not same(value, values[0]) for value in values[1:]):
        raise CheckpointError(
            f"{stage}: it holds layers of several saved stages, whose {what} differ, and cannot "
            f"take over\nboth: load into the cut that was saved, {_INSTEAD}"
        )
    return values[0]

"""What one optimizer and its schedule of learning rates keep, by the parameters' names; and back.

The form of it is in protocol/training_state.py.
"""

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipelab.engine.protocol.training_state import (
    Group,
    ScheduleState,
    StageState,
    Unsavable,
    plain,
    same,
)
from pipelab.engine.rank.optimizers import Named
from pipelab.errors import OptimizerError

_BY_DEVICE = ("foreach", "fused", "capturable")
_OURS = ("params", "param_names")  # of a group: who its parameters are, which may change


def state_of(optimizer: Optimizer, schedule: LRScheduler | None, named: Named) -> StageState:
    """All that an optimizer and its schedule keep, in host memory."""
    names = {id(parameter): name for name, parameter in named}
    entries = [(names.get(id(key)), key, plain(x)) for key, x in optimizer.state.items()]
    found = StageState(
        kind=type(optimizer).__name__,
        groups=[_group(group, names) for group in optimizer.param_groups],
        state={name: entry for name, _, entry in entries if name is not None},
        shared={plain(key): entry for name, key, entry in entries if name is None},
    )
    for key in optimizer.state_dict().keys() - {"state", "param_groups"}:
        found["shared"][key] = Unsavable("kept outside of its state and its groups")
    if schedule is not None:
        kind, state = type(schedule).__name__, plain(schedule.state_dict())
        found["lr_schedule"] = ScheduleState(kind=kind, state=state)
    return found


def settings_by_name(optimizer: Optimizer, named: Named) -> dict[str, dict[str, Any]]:
    """The settings of each parameter's group, without those that depend on its device."""
    names = {id(parameter): name for name, parameter in named}
    groups = [_group(group, names) for group in optimizer.param_groups]
    return {
        name: {key: x for key, x in group["settings"].items() if key not in _BY_DEVICE}
        for group in groups
        for name in group["names"]
    }


def check_same(
    expected: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]], named: Named
) -> None:
    """Raise OptimizerError if the same maker gave a parameter other settings in the parent."""
    for name, _ in named:
        there, here = expected.get(name), found.get(name)
        if there is None and here is None:
            continue
        if there is None or here is None:
            what = f"has {name} {'only here' if there is None else 'there alone'}"
        else:
            differing = [key for key in there if not same(there[key], here.get(key))]
            if not differing:
                continue
            key = differing[0]
            what = f"gives {name} {key}={here.get(key)} here and {key}={there[key]} there"
        raise OptimizerError(
            f"optimizer= makes something else here than in the parent:\nit {what}. A rank has "
            f"copies of the\nparameters: know them by name (def make(parameters, names)), not by "
            f"id()"
        )


def load_into(
    optimizer: Optimizer, schedule: LRScheduler | None, named: Named, state: StageState
) -> None:
    """Give a new optimizer and its new schedule what ``state_of`` found.

    The first of its groups are the optimizer's, in this order; more of them take some of the
    parameters of these. Not by the optimizer's own ``load_state_dict``: that casts a state to its
    parameter's type, and NAdam's is another.
    """
    state = copy.deepcopy(state)
    _regroup(optimizer, schedule, dict(named), state["groups"])
    for name, parameter in named:
        if name in state["state"]:
            optimizer.state[parameter] = {
                key: _placed(key, value, optimizer, parameter)
                for key, value in state["state"][name].items()
            }
    optimizer.state.update(state["shared"])
    if schedule is not None and "lr_schedule" in state:
        schedule.load_state_dict(state["lr_schedule"]["state"])


def _regroup(
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    parameters: dict[str, nn.Parameter],
    groups: Sequence[Group],
) -> None:
    """Give the groups their parameters and settings, and make those that are more."""
    own = optimizer.param_groups
    number_of = {id(p): number for number, group in enumerate(own) for p in group["params"]}
    for number, saved in enumerate(groups):
        members = [parameters[name] for name in saved["names"]]
        if number == len(own):
            source = number_of[id(members[0])]
            own.append(dict(own[source]))
            _more_rates(schedule, source)
        own[number].update(saved["settings"], params=members)
        if "param_names" in own[number]:
            own[number]["param_names"] = saved["names"]


def _more_rates(schedule: Any, source: int) -> None:
    """A new group's rates follow the function of the group that it was taken from.

    All else that a schedule keeps for each group is in its state.
    """
    for inner in getattr(schedule, "_schedulers", ()):
        _more_rates(inner, source)
    if hasattr(schedule, "lr_lambdas"):
        schedule.lr_lambdas = [*schedule.lr_lambdas, schedule.lr_lambdas[source]]


def _group(group: dict[str, Any], names: dict[int, str]) -> Group:
    settings = {key: value for key, value in group.items() if key not in _OURS}
    return Group(names=[names[id(p)] for p in group["params"]], settings=plain(settings))


def _placed(key: str, value: Any, optimizer: Optimizer, parameter: Tensor) -> Any:
    """One entry of a parameter's state, where torch's optimizers want it, in its own type.

    That is where the parameter is, except for the number of steps, which most keep on the host.
    """
    if not isinstance(value, Tensor):
        return value
    counts_there = any(g.get("fused") or g.get("capturable") for g in optimizer.param_groups)
    at_host = key == "step" and not counts_there
    return value.to("cpu" if at_host else parameter.device)

"""What kind of value each option of a pipeline may be; another is refused before the start.

Else it would fail on a rank in words about something else, or do something else: an unknown
``reduction`` once scaled the loss.
"""

from collections.abc import Callable, Collection
from numbers import Integral, Real

import torch

from pipelab.engine.protocol.host import under_torchrun
from pipelab.errors import PartitionError, PipelabError
from pipelab.simulator import Cost


def check_kinds(**options: object) -> None:
    """Raise PipelabError for an option that is not what its name asks for; None is left alone."""
    for name, value in options.items():
        is_right, what = _KINDS[name]
        if not (is_right(value) or (value is None and name not in _NEEDED)):
            more = "" if name in _NEEDED else ", or leave it out"
            raise PipelabError(f"{name}={value!r}: give {what}{more}")


def check_cut(split: object) -> None:
    """Raise PartitionError where the ranks would not all make the same cut."""
    if isinstance(split, str) and split == "time" and under_torchrun():
        raise PartitionError(
            "split='time' measures, and each process of torchrun would find other times and may "
            "cut\nelsewhere: measure once, and write the cut down, as split=[2, 2]"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _are_stages(value: object) -> bool:
    stages = () if isinstance(value, bool) else value
    return isinstance(stages, Collection) and all(map(_is_whole, stages))


_NEEDED = ("replicas", "seed", "timeout", "reduction", "checkpoint")
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "replicas": (_is_whole, "a whole number, the copies of the pipeline"),
    "seed": (_is_whole, "a whole number"),
    "timeout": (_is_number, "seconds, a number"),
    "idle_timeout": (_is_number, "seconds, a number"),
    "clip_norm": (_is_number, "a number, the largest norm of all gradients together"),
    "memory_budget": (_is_number, "bytes, a number"),
    "pace": (lambda value: isinstance(value, Cost), "a Cost, in seconds"),
    "count": (callable, "a function of a microbatch's targets"),
    "reduction": (lambda value: value in ("mean", "sum"), "'mean' or 'sum'"),
    "autocast": (
        lambda value: value in (torch.bfloat16, torch.float16),
        "torch.bfloat16 or torch.float16",
    ),
    "checkpoint": (_are_stages, "True, False or a list of stages, such as [0, 1]"),
}

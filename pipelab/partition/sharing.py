"""What several stages share. Each rank has a copy of its stages: one object becomes several.

a tied weight     a parameter that several stages have: the engine keeps its copies equal
                  (engine/rank/tied_weights.py)
a shared object   a module, a buffer, a cache: its copies are equal as long as none of them
                  changes, which the engine checks (engine/rank/shared_objects.py)
refused           a weight that a stage uses without having it as a parameter, or that is
                  memory of another parameter: no copy of it would be trained
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.errors import PartitionError
from pipelab.partition.reach import is_atom, is_trained, walk


class Tie(NamedTuple):
    """A tied weight.

    Attributes:
        names: by stage, lowest first, its name there. The lowest stage is its owner.
        is_trained: False for a frozen one.
    """

    names: dict[int, str]
    is_trained: bool = True

    @property
    def owner(self) -> int:
        """The stage that updates it."""
        return min(self.names)

    @property
    def name(self) -> str:
        """The model's own: in a model, a parameter has the name of its first place."""
        return self.names[self.owner]


class SharedObject(NamedTuple):
    """An object that is no weight: by stage, lowest first, its path there."""

    paths: dict[int, str]
    value: object


class Sharing(NamedTuple):
    """All that the stages of a model share."""

    ties: tuple[Tie, ...] = ()
    objects: tuple[SharedObject, ...] = ()

    def of(self, stages: Sequence[int]) -> "Sharing":
        """What a rank with these stages needs: all ties, since their order is the same on all."""
        own = (shared for shared in self.objects if not shared.paths.keys().isdisjoint(stages))
        return Sharing(self.ties, tuple(own))


NOTHING_SHARED = Sharing()
_LOSS = "(the loss)"
_OF_LAYER = (
    "Make it one in __init__, which ties both\n"
    "(self.weight = other.weight), or keep both layers in one stage."
)
_OF_LOSS = (
    "For a penalty on weights,\n"
    "use the optimizer's weight_decay=, or let the layer that has them hand it on."
)


class _Use(NamedTuple):
    """An object where one stage holds it."""

    stage: int
    path: str
    value: object
    is_registered: bool  # as a parameter or buffer of a module

    def __str__(self) -> str:
        return f"{self.path} (stage {self.stage})"


def find_sharing(stages: Sequence[nn.Module], loss: object = None) -> Sharing:
    """What the stages share; the loss is on the rank of the last one.

    Raises:
        PartitionError: a weight that cannot be trained from several ranks.
    """
    uses: dict[int, list[_Use]] = defaultdict(list)
    for stage, module in enumerate(stages):
        for use in _uses(stage, module, loss if stage == len(stages) - 1 else None):
            uses[id(use.value)].append(use)
    shared = [found for found in uses.values() if len(found) > 1]
    ties = [
        Tie({use.stage: use.path for use in found}, is_trained(found[0].value))
        for found in shared
        if _is_tied(found)
    ]
    ties.sort(key=lambda tie: (tie.owner, tie.name))
    _refuse_common_memory([use for found in uses.values() for use in found])
    return Sharing(tuple(ties), tuple(_topmost(shared)))


def _uses(stage: int, module: nn.Module, loss: object) -> Iterator[_Use]:
    """All objects that a stage holds, each once; parameters and buffers by their names."""
    registered = (*module.named_buffers(), *module.named_parameters())
    names = {id(tensor): name for name, tensor in registered}
    seen = {id(value): (path, value) for path, value in (*walk(loss, _LOSS), *walk(module))}
    for path, value in seen.values():
        if not is_atom(value):
            yield _Use(stage, names.get(id(value), path), value, id(value) in names)


def _is_tied(found: Sequence[_Use]) -> bool:
    """Whether an object is a tied weight. Raises PartitionError if a stage just refers to it."""
    have = [use for use in found if use.is_registered]
    others = [use for use in found if not use.is_registered]
    value = found[0].value
    if have and others and is_trained(value):
        is_loss = others[0].path.startswith(_LOSS)
        raise PartitionError(
            f"{others[0]} is the weight {have[0]}, but no parameter there:\n"
            f"no gradient of this use would reach it. {_OF_LOSS if is_loss else _OF_LAYER}"
        )
    return isinstance(value, nn.Parameter) and not others


def _topmost(shared: Sequence[Sequence[_Use]]) -> Iterator[SharedObject]:
    """The shared objects, without those that belong to another one of them."""
    inside: set[int] = set()
    for found in shared:
        value = found[0].value
        if id(value) in inside or isinstance(value, tuple | frozenset) or is_trained(value):
            continue
        inside |= {id(part) for _, part in walk(value)}
        yield SharedObject({use.stage: use.path for use in found}, value)


def _refuse_common_memory(uses: Sequence[_Use]) -> None:
    """Raise PartitionError for a weight whose memory is another tensor, too: copies have two."""
    spans = [(*_span(use.value), use) for use in uses if isinstance(use.value, Tensor)]
    before: list[tuple[int, _Use]] = []  # the last addresses, and what is there
    for start, end, use in sorted(spans, key=lambda span: span[:2]):
        before = [(last, other) for last, other in before if last > start]
        for _, other in before:
            if _is_one_too_many(use, other, uses):
                raise PartitionError(
                    f"{use} is in the memory of {other}, but is another tensor:\n"
                    f"on their ranks they would be two. Tie them as one parameter\n"
                    f"(head.weight = embedding.weight, not .data), or give each its own memory."
                )
        before.append((end, use))


def _is_one_too_many(a: _Use, b: _Use, uses: Sequence[_Use]) -> bool:
    """Whether one is a weight, and the other one would no longer follow it.

    What a stage makes of a weight that it has is left alone: a hook makes it in each forward.
    """
    if a.value is b.value or not (is_trained(a.value) or is_trained(b.value)):
        return False
    if a.is_registered and b.is_registered:
        return True
    made, weight = (a, b) if is_trained(b.value) else (b, a)
    return not any(use.value is weight.value and use.stage == made.stage for use in uses)


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of a tensor's first byte, and behind its last; equal if it has none."""
    if tensor.layout != torch.strided or nn.parameter.is_lazy(tensor) or not tensor.numel():
        return 0, 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    size = (1 + sum((length - 1) * step for length, step in steps)) * tensor.element_size()
    start = tensor.data_ptr()  # 0 on the device "meta"
    return start, start + (size if start else 0)

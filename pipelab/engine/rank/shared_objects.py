"""Objects that stages share, such as one ``nn.ReLU`` for all layers: nobody may change them.

Each rank has a copy. A cache, a counter or running statistics would become another one on each of
them, and no gradient of one process would come out. So they are compared with what they were: at
the end of each batch, and in the first one that trains and the first that does not, after each
forward.
"""

from collections.abc import Sequence, Set

from pipelab.errors import PartitionError
from pipelab.partition.reach import change, snapshot
from pipelab.partition.sharing import SharedObject


class SharedObjects:
    """The shared objects of one rank."""

    def __init__(self, objects: Sequence[SharedObject]):
        self.objects = objects
        self.remember()

    def remember(self) -> None:
        """Take them as they are now for right: at the start, and after a load."""
        self.before = [snapshot(shared.value, "") for shared in self.objects]
        self.trusted: set[bool] = set()  # training, evaluation: whether a batch changed nothing

    def after_forward(self, stage: int, train: bool) -> None:
        """Raise PartitionError if what a stage shares has changed in its forward."""
        if train not in self.trusted:
            self._check({stage})

    def after_batch(self, stages: Set[int], train: bool) -> None:
        """Raise PartitionError if what these stages share has changed in a forward or backward."""
        self._check(stages)
        self.trusted.add(train)

    def _check(self, stages: Set[int]) -> None:
        for shared, before in zip(self.objects, self.before, strict=True):
            if here := stages & shared.paths.keys():
                path = change(before, snapshot(shared.value, ""))
                if path is not None:
                    raise PartitionError(_changed(shared, min(here), path))


def _changed(shared: SharedObject, stage: int, path: str) -> str:
    kind, here = type(shared.value).__name__, shared.paths[stage]
    others = ", ".join(f"{p} of stage {s}" for s, p in shared.paths.items() if s != stage)
    what = here + path if path.startswith("[") else f"{here}.{path}" if path else here
    return (
        f"a shared {kind} has changed:\n"
        f"  {here} of stage {stage} is also {others}, and {what} changed.\n"
        f"  Each rank has a copy, and each copy would change in another way than the one object\n"
        f"  of one process. Give each stage its own, or keep these layers in one stage:\n"
        f"  split(model, num_stages, sizes=...)."
    )

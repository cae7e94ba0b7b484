"""Objects that stages share, such as one ``nn.ReLU`` for all layers: nobody may change them.

Each rank has a copy. A cache, a counter or running statistics would become another one on each of
them, and no gradient of one process would come out. So after a forward they are compared with what
they were: after each one of the first batch that trains and of the first that does not, and after
the last one of any other.
"""

from collections.abc import Sequence

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
        self.trusted: set[tuple[int, bool]] = set()  # stages that changed nothing in a batch

    def check(self, stage: int, train: bool, is_last: bool) -> None:
        """After a forward of a stage. Raises PartitionError if a shared object has changed."""
        if not is_last and (stage, train) in self.trusted:
            return
        for shared, before in zip(self.objects, self.before, strict=True):
            if stage not in shared.paths:
                continue
            path = change(before, snapshot(shared.value, ""))
            if path is not None:
                raise PartitionError(_changed(shared, stage, path))
        if is_last:
            self.trusted.add((stage, train))


def _changed(shared: SharedObject, stage: int, path: str) -> str:
    kind, here = type(shared.value).__name__, shared.paths[stage]
    others = ", ".join(f"{p} of stage {s}" for s, p in shared.paths.items() if s != stage)
    what = here + path if path.startswith("[") else f"{here}.{path}" if path else here
    return (
        f"a shared {kind} has changed:\n"
        f"  {here} of stage {stage} is also {others}, and a forward changed {what}.\n"
        f"  Each rank has a copy, and each copy would change in another way than the one object\n"
        f"  of one process. Give each stage its own, or keep these layers in one stage:\n"
        f"  split(model, num_stages, sizes=...)."
    )

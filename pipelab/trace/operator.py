"""What PyTorch's profiler saw of a step: its operators, on the clock of the trace's events.

event      F 3 │aten::layer_norm│aten::linear ───────────│aten::gelu│ ...
                                │aten::addmm ──────────│                 operators nest
"""

from collections.abc import Iterable
from typing import NamedTuple


class Operator(NamedTuple):
    """One call of one operator, or one kernel of a GPU; seconds as in the trace's events.

    ``device``: ``"cpu"``, ``"cuda"``, or ``"under way"`` for what nobody computes, a message of
    gloo's. ``thread``: of its rank, as the profiler counts them; for a GPU, the stream.
    """

    rank: int
    name: str
    device: str
    thread: int
    start: float
    end: float

    @property
    def row(self) -> str:
        """The name of the row that it stands in."""
        names = {"cpu": f"operators {self.thread}", "under way": "messages under way"}
        return names.get(self.device, f"GPU stream {self.thread}")


def rows_of(operators: Iterable[Operator]) -> list[str]:
    """The names of all rows: threads of the CPU first, GPUs last."""
    return sorted(
        {operator.row for operator in operators}, key=lambda row: ("omG".find(row[0]), row)
    )

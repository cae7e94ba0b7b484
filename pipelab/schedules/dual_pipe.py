"""DualPipeV: a V in which an F and a B of two microbatches overlap (DeepSeek-V3, 2024).

    rank 0   0F0 0F1 ... 7I0 7W0 7F1 ... (0F3;7B1) (7F2;0B0) (0F4;7B2) ...

Rank r owns stages r and 2p-1-r, as in ZB-V. In the steady state every action is a pair, of one
stage's F and the other stage's B, so that one of them can compute while the other one's messages
travel. (arXiv 2412.19437, section 3.2; cut in half for a V by Sea AI Lab.)
"""

from collections import Counter

from pipelab.action import Action, Kind, Overlap
from pipelab.errors import ScheduleError
from pipelab.schedules.builders import check_sizes
from pipelab.schedules.schedule import Schedule


def dual_pipe_v(num_ranks: int, num_microbatches: int) -> Schedule:
    """DualPipeV: every rank holds 2p+1 activations of one stage, and needs m >= 2p.

    Idle (p-1)(F&B + B - 3W) on every rank, in times of one stage, if F = I = W and F&B = F + B.

    >>> print(dual_pipe_v(1, 3))  # a plus: it overlaps with the F before it
    dual_pipe_v: 1 rank, 3 microbatches
    rank 0  0F0  1F0  0F1  1B0  1F1  +0B0 0F2  +1B1 1F2  +0B1 1B2  0I2  0W2
    """
    check_sizes(num_ranks, num_microbatches)
    if num_microbatches < 2 * num_ranks:
        raise ScheduleError(
            f"DualPipeV of {num_ranks} ranks wants at least {2 * num_ranks} microbatches, two for "
            f"each rank, not {num_microbatches}:\ncut the batch into more, or take zero_bubble_v"
        )
    rows = [_Row(rank, num_ranks) for rank in range(num_ranks)]
    for row in rows:
        row.fill(num_microbatches)
    return Schedule(
        tuple(tuple(row.actions) for row in rows),
        "dual_pipe_v",
        overlaps=frozenset(both for row in rows for both in row.overlaps),
    )


class _Row:
    """One rank's row. Leg 0 is its stage in the first half of the model, leg 1 in the second."""

    def __init__(self, rank: int, num_ranks: int):
        self.rank, self.num_ranks = rank, num_ranks
        self.stages = rank, 2 * num_ranks - 1 - rank
        self.count: Counter[tuple[bool, int]] = Counter()  # forwards and backwards of each leg
        self.actions: list[Action] = []
        self.overlaps: list[Overlap] = []
        self.weights: list[Action] = []  # left open by an I, the oldest first

    def fill(self, m: int) -> None:
        """All actions, in the eight parts that DeepSeek's program has."""
        rank, p = self.rank, self.num_ranks
        after = p - 1 - rank  # ranks
        for _ in range(2 * after):  # warmup
            self.run("F", 0)
        for _ in range(rank + 1):
            self.run("F", 0)
            self.run("F", 1)
        for _ in range(after):
            self.run("I", 1)
            self.run_weight()
            self.run("F", 1)
        for i in range(m - 2 * p + rank + 1):  # steady
            self.run_both(0, overlap=i > 0 or after > 0)
            self.run_both(1)
        for _ in range(after):  # cooldown
            self.run("B", 1)
            self.run_both(1)
        self.end()

    def end(self) -> None:
        """The last backwards: from the middle on in halves, since W fits where a rank waits."""
        after, last = self.num_ranks - 1 - self.rank, self.rank + 1
        whole = 2 * (last // 2) + (self.rank + 1) % 2
        for i in range(2 * last):
            self.run("B" if i < whole else "I", leg=(i + 1) % 2)
        for _ in range(after):
            self.run_weight()
            self.run("I", 0)
        for _ in range(last):
            self.run_weight()

    def run(self, kind: str, leg: int) -> Action:
        """One more F, B or I on a leg."""
        counted = kind == "F", leg
        action = Action(self.stages[leg], Kind(kind), self.count[counted])
        self.count[counted] += 1
        self.actions.append(action)
        if kind == "I":
            self.weights.append(action._replace(kind=Kind.W))
        return action

    def run_weight(self) -> None:
        """The oldest W that is open, if there is one."""
        if self.weights:
            self.actions.append(self.weights.pop(0))

    def run_both(self, leg: int, overlap: bool = True) -> None:
        """F on this leg and B on the other one, as one action."""
        forward, backward = self.run("F", leg), self.run("B", 1 - leg)
        if overlap:
            self.overlaps.append(Overlap(forward, backward))

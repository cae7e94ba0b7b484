"""A list scheduler: whenever a rank is free, run the best action that is ready and fits.

One stage per rank. It knows costs and a memory limit, which no fixed pattern does: with unequal
stages or slow messages it often finds a shorter order than the patterns of the papers.
"""

import heapq
from dataclasses import dataclass

from pipelab.action import Action, Kind
from pipelab.schedules import Schedule
from pipelab.simulator.cost import Cost


@dataclass(frozen=True)
class Preference:
    """What to prefer where there is a choice.

    Attributes:
        halves: split each backward in I and W.
        forward_first: the number of ranks, from rank 0, that fill up with forwards before they run
            a backward, within the limit. The last rank's first backward is what the others wait
            for, so all but the last one is a choice as good as all or none.
    """

    halves: bool = True
    forward_first: int = 0


def greedy(
    num_ranks: int, num_microbatches: int, cost: Cost, limit: int, prefer: Preference
) -> Schedule:
    """A schedule in which no rank ever holds more than ``limit`` microbatches' activations.

    Backwards run in microbatch order. It cannot get stuck: the oldest microbatch in flight always
    fits, since it is in already wherever it waits.
    """
    ranks = [_Rank(r, num_ranks, num_microbatches, limit, prefer) for r in range(num_ranks)]
    clock = [(0.0, r) for r in range(num_ranks)]
    free = [0.0] * num_ranks
    while clock:
        now, r = heapq.heappop(clock)
        action = ranks[r].choose(now) if free[r] <= now else None
        if action is None:
            continue
        free[r] = now + cost.seconds(action)
        heapq.heappush(clock, (free[r], r))
        forward = action.kind is Kind.F
        other = r + 1 if forward else r - 1
        if action.kind is not Kind.W and 0 <= other < num_ranks:
            send = Action(r, Kind.SEND_F if forward else Kind.SEND_B, action.microbatch)
            there = free[r] + cost.message_seconds(send)
            arrived = ranks[other].forwards if forward else ranks[other].backwards
            arrived.append(there)
            heapq.heappush(clock, (there, other))
    return Schedule(tuple(tuple(rank.row) for rank in ranks), "greedy")


class _Rank:
    """One rank's row so far, and when what it may run next arrived."""

    def __init__(self, rank: int, p: int, m: int, limit: int, prefer: Preference):
        self.rank = rank
        self.is_last = rank == p - 1
        self.m = m
        self.limit = limit
        self.prefer = prefer
        self.row: list[Action] = []
        self.done = {Kind.F: 0, Kind.I: 0, Kind.W: 0}
        self.forwards = [0.0] * m if rank == 0 else []  # arrival of each microbatch's input
        self.backwards: list[float] = []  # ... and of each output's gradient

    def choose(self, now: float) -> Action | None:
        """Append the next action to the row, or return None if nothing can run now."""
        f, i, w = self.done[Kind.F], self.done[Kind.I], self.done[Kind.W]
        fits = f - (w if self.prefer.halves else i) < self.limit
        forward = f < min(self.m, len(self.forwards)) and self.forwards[f] <= now and fits
        backward = i < f and (
            self.is_last or (i < len(self.backwards) and self.backwards[i] <= now)
        )
        if forward and (self.rank < self.prefer.forward_first or not backward):
            return self._run(Kind.F)
        if backward:
            return self._run(Kind.I)
        return self._run(Kind.W) if self.prefer.halves and w < i else None

    def _run(self, kind: Kind) -> Action:
        number = self.done[kind]
        self.done[kind] += 1
        if kind is Kind.I and not self.prefer.halves:
            kind = Kind.B
        self.row.append(Action(self.rank, kind, number))
        return self.row[-1]

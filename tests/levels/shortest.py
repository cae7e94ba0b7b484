"""The shortest order of a level, by trying all that can be the shortest: a second opinion on par.

Always the action that could end first decides which rank is next; of that rank, all that could
start before that end are tried (active orders: Giffler and Thompson 1960, Operations Research 8).
A branch ends where the work that is left cannot be done in time, or where the same work was done
with all ranks free and all results there no later.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipelab.action import Action, Kind, needs, produces
from pipelab.levels.level import Level
from pipelab.schedules import Schedule

_NEAR = 1e-9  # seconds


class _Start(NamedTuple):
    end: float
    start: float
    rank: int
    action: Action


class Shortest:
    """Branch and bound over the orders of one level, its stages where they are at the start."""

    def __init__(self, level: Level, homes: dict[int, int] | None = None):
        self.level = level
        self.homes = homes or level.homes
        at_home = Schedule(
            tuple(
                tuple(Action(s, Kind.F, 0) for s in sorted(self.homes) if self.homes[s] == rank)
                for rank in range(level.num_ranks)
            )
        )
        self.cost = level.cost_of(at_home)
        self.back = Kind.I if level.is_split else Kind.B
        self.kinds = (Kind.F, Kind.I, Kind.W) if level.is_split else (Kind.F, Kind.B)
        self.best = float("inf")
        self.seen: dict[tuple[int, ...], list[tuple[float, ...]]] = {}
        self.cells = [(stage, kind) for stage in sorted(self.homes) for kind in self.kinds]
        stages = [list(self.homes.values()).count(rank) for rank in range(level.num_ranks)]
        self.most = [(level.limit or level.num_microbatches) * count for count in stages]

    def seconds(self, below: float) -> float:
        """The shortest step, if it is shorter than ``below``; else infinity."""
        self.best = below - _NEAR
        self._try([0.0] * self.level.num_ranks, dict.fromkeys(self.cells, 0), {}, [0] * 9)
        return self.best if self.best < below - 2 * _NEAR else float("inf")

    def _try(
        self,
        free: list[float],
        done: dict[tuple[int, Kind], int],
        ends: dict[Action, float],
        held: list[int],
    ) -> None:
        if self._least(free, done) >= self.best - _NEAR:
            return
        if all(count == self.level.num_microbatches for count in done.values()):
            self.best = max(free)
            return
        if self._was_better(free, done, ends):
            return
        starts = [*self._starts(free, done, ends, held)]
        first = min(starts, default=None, key=lambda start: start.end)
        if first is None:
            return
        for each in starts:
            if each.rank == first.rank and each.start < first.end - _NEAR:
                action, rank = each.action, each.rank
                gives = {Kind.F: 1, Kind.B: -1, Kind.W: -1}.get(action.kind, 0)
                now = [h + gives if r == rank else h for r, h in enumerate(held)]
                later = [each.end if r == rank else f for r, f in enumerate(free)]
                cell = (action.stage, action.kind)
                made = {**ends, produces(action): each.end}
                self._try(later, {**done, cell: done[cell] + 1}, made, now)

    def _least(self, free: list[float], done: dict[tuple[int, Kind], int]) -> float:
        left = [*free]
        for stage, kind in self.cells:
            count = self.level.num_microbatches - done[stage, kind]
            left[self.homes[stage]] += count * self.cost.seconds(Action(stage, kind, 0))
        return max(left)

    def _was_better(
        self,
        free: list[float],
        done: dict[tuple[int, Kind], int],
        ends: dict[Action, float],
    ) -> bool:
        times = (*free, *(end for _, end in sorted(ends.items())))
        known = self.seen.setdefault(tuple(done.values()), [])
        if any(all(a <= b + _NEAR for a, b in zip(old, times, strict=True)) for old in known):
            return True
        known.append(times)
        return False

    def _starts(
        self,
        free: list[float],
        done: dict[tuple[int, Kind], int],
        ends: dict[Action, float],
        held: list[int],
    ) -> Iterator[_Start]:
        """What could be next on each rank: microbatches of a stage and kind run in order."""
        for stage, kind in self.cells:
            rank = self.homes[stage]
            action = Action(stage, kind, done[stage, kind])
            if action.microbatch == self.level.num_microbatches:
                continue
            if kind is Kind.F and held[rank] == self.most[rank]:
                continue
            inputs = needs(action, len(self.homes))
            if any(each not in ends for each in inputs):
                continue
            there = [
                ends[each] + self.level.latency * (self.homes[each.stage] != rank)
                for each in inputs
            ]
            start = max([free[rank], *there])
            yield _Start(start + self.cost.seconds(action), start, rank, action)

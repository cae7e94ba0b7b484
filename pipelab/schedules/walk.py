"""Walk through programs as the ranks would run them: the one loop below validate and simulate.

Each rank runs its program in order; an action starts when its rank is free and all results that
it needs are there. The walk is event-driven: a rank that must wait is woken by the one result it
waits for, so time and memory grow linearly with the number of actions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipelab.action import Action, produces
from pipelab.errors import DeadlockError

Program = Sequence[Action]


class Visit(NamedTuple):
    """One action as it would run; times in the unit of ``busy``.

    ``free``: since when its rank had nothing else to do. It waits from ``free`` to ``start``.
    """

    rank: int
    action: Action
    free: float
    start: float
    end: float


def walk(
    programs: Sequence[Program],
    needs: Callable[[Action], Iterable[Action]],
    busy: Callable[[Action], float] = lambda action: 1.0,
    travel: Callable[[Action], float] = lambda action: 0.0,
) -> Iterator[Visit]:
    """Run all programs; yield each action once, after everything that it needs.

    Args:
        needs: the results that an action waits for (see ``action.produces``).
        busy: how long the rank is busy with an action.
        travel: how long after an action's end its result can be used (a message's way).

    Raises:
        DeadlockError: no rank can go on; the message says what each one waits for.
    """
    position = [0] * len(programs)
    free = [0.0] * len(programs)
    ready: dict[Action, float] = {}  # when each result can be used
    waiting: dict[Action, list[int]] = defaultdict(list)
    runnable = list(range(len(programs)))
    while runnable:
        rank = runnable.pop()
        while position[rank] < len(programs[rank]):
            action = programs[rank][position[rank]]
            wanted = needs(action)
            since = free[rank]
            try:
                start = max([since, *[ready[result] for result in wanted]])
            except KeyError as missing:
                waiting[missing.args[0]].append(rank)
                break
            end = start + busy(action)
            result = produces(action)
            free[rank], ready[result] = end, end + travel(action)
            position[rank] += 1
            yield Visit(rank, action, since, start, end)
            runnable.extend(waiting.pop(result, ()))
    if waiting:
        raise DeadlockError(_explain(programs, position, waiting))


def _explain(
    programs: Sequence[Program], position: Sequence[int], waiting: dict[Action, list[int]]
) -> str:
    """The deadlock in words: what each rank waits for, and the cycle, if there is one."""
    owner = {produces(a): (rank, a) for rank, program in enumerate(programs) for a in program}
    lines = ["deadlock: no rank can go on"]
    missing = {rank: result for result, ranks in waiting.items() for rank in ranks}
    waits_for: dict[int, int] = {}
    for rank, result in sorted(missing.items()):
        token = programs[rank][position[rank]].token
        if result in owner:
            waits_for[rank], action = owner[result]
            what = f"{action.token} of rank {waits_for[rank]}"
        else:
            what = f"{result.token}, which no rank runs"
        lines.append(f"  rank {rank} cannot start {token}: it waits for {what}")
    if cycle := _cycle(waits_for):
        lines.append("the cycle: " + " -> ".join(f"rank {rank}" for rank in cycle))
        lines.append("move one of these actions up, before the action that its rank is stuck in")
    return "\n".join(lines)


def _cycle(waits_for: dict[int, int]) -> list[int]:
    """The ranks that wait for each other in a ring, the first one named again at the end.

    >>> _cycle({0: 1, 1: 2, 2: 1})
    [1, 2, 1]
    """
    for start in waits_for:
        seen, rank = [start], start
        while (rank := waits_for.get(rank, -1)) >= 0:
            if rank in seen:
                return [*seen[seen.index(rank) :], rank]
            seen.append(rank)
    return []

"""Walk through programs as the ranks would run them: the one loop that lower and simulate use.

Each rank runs its program in order; an action starts when its rank is free and all results that
it needs are there. The walk is event-driven: a rank that must wait is woken by the one result it
waits for, so time and memory grow linearly with the number of actions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipelab.action import Action, produces
from pipelab.errors import Blocked, DeadlockError

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
        travel: how long after an action's end its result can be used: a message takes time.

    Raises:
        DeadlockError: no rank can continue; it says what each one waits for.
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
            start = since = free[rank]
            try:
                for result in wanted:
                    start = max(start, ready[result])
            except KeyError:
                waiting[result].append(rank)
                break
            end = start + busy(action)
            result = produces(action)
            free[rank], ready[result] = end, end + travel(action)
            position[rank] += 1
            yield Visit(rank, action, since, start, end)
            runnable.extend(waiting.pop(result, ()))
    if waiting:
        raise _deadlock(programs, position, waiting)


def _deadlock(
    programs: Sequence[Program], position: Sequence[int], waiting: dict[Action, list[int]]
) -> DeadlockError:
    """What each rank waits for, and the ring in which they wait, if there is one."""
    owner = {produces(a): (rank, a) for rank, program in enumerate(programs) for a in program}
    missing = sorted((rank, result) for result, ranks in waiting.items() for rank in ranks)
    blocked = []
    for rank, result in missing:
        peer, needed = owner.get(result, (None, result))
        stuck = programs[rank][position[rank]]
        blocked.append(Blocked(rank, stuck.token, needed.token, peer))
    ring = cycle({b.rank: b.peer for b in blocked if b.peer is not None})
    cells = [(b.rank, position[b.rank]) for b in blocked]
    return DeadlockError(_sentences(blocked, ring), cells, blocked, ring)


def _sentences(blocked: Sequence[Blocked], ring: Sequence[int]) -> str:
    lines = ["deadlock: no rank can go on"]
    for rank, action, needed, peer in blocked:
        what = f"{needed}, which no rank runs" if peer is None else f"{needed} of rank {peer}"
        lines.append(f"  rank {rank} cannot start {action}: it waits for {what}")
    if ring:
        lines.append("the cycle: " + " -> ".join(f"rank {rank}" for rank in [*ring, ring[0]]))
        lines.append(
            "on one of them, move the action that another rank waits for up, before the one that "
            "it cannot start"
        )
    return "\n".join(lines)


def cycle(peers: Mapping[int, int]) -> list[int]:
    """The ranks that wait for each other in a ring, from the lowest one; [] if there is no ring.

    Args:
        peers: for each rank that waits, the rank that it waits for.

    >>> cycle({0: 1, 1: 2, 2: 1}), cycle({0: 1, 1: 2})
    ([1, 2], [])
    """
    for rank in sorted(peers):
        path: list[int] = []
        while rank in peers and rank not in path:
            path.append(rank)
            rank = peers[rank]
        if rank in path:
            ring = path[path.index(rank) :]
            lowest = ring.index(min(ring))
            return ring[lowest:] + ring[:lowest]
    return []

"""Walk through programs as the ranks would run them: the one loop that lower and simulate use.

Each rank runs its program in order; an action starts when its rank is free and all results that
it needs are there. The walk is event-driven: a rank that must wait is woken by the one result it
waits for, so time and memory grow linearly with the number of actions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from pipelab.action import Action, Kind, produces
from pipelab.errors import Blocked, DeadlockError

Program = Sequence[Action]

_NOTHING: Mapping[Action, Action] = {}


class _Results(NamedTuple):
    """What the actions of one kind on one stage give, by microbatch."""

    ready: dict[int | None, float]  # when each can be used
    waiting: dict[int | None, list[int]]  # the ranks that wait for it


def walk(
    programs: Sequence[Program],
    needs: Callable[[Action], Iterable[Action]],
    busy: Callable[[Action], float] = lambda action: 1.0,
    travel: Callable[[Action], float] = lambda action: 0.0,
    alike: bool = True,
    together: Mapping[Action, Action] = _NOTHING,
) -> list[list[float]]:
    """Run all programs; return for each rank when each of its actions starts.

    An action needs only results of the same microbatch, so ``needs`` is asked once per kind and
    stage; so are ``busy`` and ``travel`` if microbatches are ``alike``, else for each of them.

    Args:
        needs: the results that an action waits for (see ``action.produces``).
        busy: how long the rank is busy with an action.
        travel: how long after an action's end its result can be used: a message takes time.
        together: actions that start only when what another one needs is there too: of two that
            overlap, the first for the second.

    Raises:
        DeadlockError: no rank can continue; it says what each one waits for.
    """
    results: dict[tuple[int, Kind], _Results] = defaultdict(lambda: _Results({}, {}))

    @cache
    def before(stage: int, kind: Kind) -> list[_Results]:
        return [results[result[:2]] for result in needs(Action(stage, kind, 0))]

    @cache
    def after(stage: int, kind: Kind, microbatch: int) -> tuple[float, float, _Results]:
        action = Action(stage, kind, microbatch)
        return busy(action), travel(action), results[produces(action)[:2]]

    starts: list[list[float]] = [[] for _ in programs]
    free = [0.0] * len(programs)
    runnable = list(range(len(programs)))
    while runnable:
        rank = runnable.pop()
        program, begun, time = programs[rank], starts[rank], free[rank]
        for position in range(len(begun), len(program)):
            stage, kind, microbatch = program[position]
            try:
                for ready, waiting in before(stage, kind):  # noqa: B007 - the handler reads it
                    if time < ready[microbatch]:
                        time = ready[microbatch]
                if together and (other := together.get(program[position])):
                    microbatch = other.microbatch
                    for ready, waiting in before(other.stage, other.kind):  # noqa: B007
                        time = max(time, ready[microbatch])
                    microbatch = program[position].microbatch
            except KeyError:
                waiting.setdefault(microbatch, []).append(rank)
                break
            begun.append(time)
            seconds, travels, (ready, waiting) = after(stage, kind, 0 if alike else microbatch or 0)
            time += seconds
            ready[microbatch] = time + travels
            if microbatch in waiting:
                runnable += waiting.pop(microbatch)
        free[rank] = time
    if any(waiting for _, waiting in results.values()):
        raise _deadlock(programs, starts, results)
    return starts


def _deadlock(
    programs: Sequence[Program],
    starts: Sequence[Sequence[float]],
    results: Mapping[tuple[int, Kind], _Results],
) -> DeadlockError:
    """What each rank waits for, and the ring in which they wait, if there is one."""
    owner = {produces(a): (rank, a) for rank, program in enumerate(programs) for a in program}
    missing = sorted(
        (rank, Action(*key, microbatch))
        for key, (_, waiting) in results.items()
        for microbatch, ranks in waiting.items()
        for rank in ranks
    )
    blocked = []
    for rank, result in missing:
        peer, needed = owner.get(result, (None, result))
        stuck = programs[rank][len(starts[rank])]
        blocked.append(Blocked(rank, stuck.token, needed.token, peer))
    ring = cycle({b.rank: b.peer for b in blocked if b.peer is not None})
    cells = [(b.rank, len(starts[b.rank])) for b in blocked]
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

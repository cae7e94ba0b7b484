"""The rules that every schedule keeps: its stages, its microbatches, the order on each rank.

Each check returns, or raises a ScheduleError that names the rule and marks the cells.
"""

from collections import defaultdict
from itertools import pairwise

from pipelab.action import COMPUTE, PER_STAGE, Kind, Overlap, needs, produces
from pipelab.errors import ScheduleError
from pipelab.schedules.schedule import Schedule, refusal

_COMPLETE = {(1, 1, 0, 0), (1, 0, 1, 1)}  # how many F, B, I and W one microbatch has on a stage
_WANT = "want one F and one B, or one F, one I and one W"
_TURNS = {Kind.B: 0, Kind.I: 0, Kind.W: 0, Kind.REDUCE_GRAD: 1, Kind.STEP: 2}


def check_stages(schedule: Schedule) -> None:
    """Every rank has work, every stage exists and is on one rank."""
    home: dict[int, tuple[int, int]] = {}
    if not schedule.ranks:
        raise ScheduleError("the schedule has no ranks: give it one row of actions for each rank")
    for rank, row in enumerate(schedule.ranks):
        if not row:
            raise ScheduleError(f"rank {rank} has no actions: every rank runs at least one stage")
        for i, action in enumerate(row):
            first, j = home.setdefault(action.stage, (rank, i))
            if first != rank:
                seen = schedule.ranks[first][j]
                raise refusal(
                    f"stage {action.stage} runs on rank {first} ({seen.token}) and on rank {rank} "
                    f"({action.token}): a stage's weights live on one rank",
                    schedule.ranks,
                    [(first, j), (rank, i)],
                )
    for stage in range(schedule.num_stages):
        if stage not in home:
            raise ScheduleError(
                f"stage {stage} is on no rank, but stage {schedule.num_stages - 1} is: "
                f"stages are numbered 0, 1, 2 ... without gaps"
            )


def check_complete(schedule: Schedule) -> None:
    """Each stage runs each microbatch once forward and once backward, whole or in two halves."""
    found: dict[tuple[int, Kind], list[int]] = defaultdict(list)  # microbatches
    for rank, row in enumerate(schedule.ranks):
        for i, (stage, kind, microbatch) in enumerate(row):
            if kind not in COMPUTE:
                continue
            if microbatch is None or microbatch < 0 or stage < 0:
                raise ScheduleError(
                    f"rank {rank}: {row[i].token} wants a stage and a microbatch, numbered 0, 1 "
                    f"...",
                    [(rank, i)],
                )
            found[stage, kind].append(microbatch)
    num_microbatches = max(map(max, found.values()), default=-1) + 1
    for stage in range(schedule.num_stages):
        of_kind = [found[stage, kind] for kind in (Kind.F, Kind.B, Kind.I, Kind.W)]
        if not _is_complete(of_kind, num_microbatches):
            raise _incomplete(schedule, stage, of_kind)


def _is_complete(of_kind: list[list[int]], count: int) -> bool:
    """Given the microbatches of F, B, I and W on one stage: all numbers below ``count`` once."""
    f, b, i, w = of_kind
    halves_match = sorted(i) == sorted(w)
    return halves_match and all(len(set(n)) == len(n) == count for n in (f, b + i))


def _incomplete(schedule: Schedule, stage: int, of_kind: list[list[int]]) -> ScheduleError:
    """The error for the stage's first microbatch that is not complete."""
    microbatch, counts = 0, tuple(numbers.count(0) for numbers in of_kind)
    while counts in _COMPLETE:
        microbatch += 1
        counts = tuple(numbers.count(microbatch) for numbers in of_kind)
    f, b, i, w = counts
    return refusal(
        f"stage {stage}, microbatch {microbatch}: found {f} F, {b} B, {i} I, {w} W; {_WANT}",
        schedule.ranks,
        _cells(schedule, stage, microbatch),
    )


def check_overlaps(schedule: Schedule) -> None:
    """What overlaps is an F and, next among what its rank computes, a B of another microbatch."""
    left = set(schedule.overlaps)
    for rank, row in enumerate(schedule.ranks if left else ()):
        computing = [(i, a) for i, a in enumerate(row) if a.kind in COMPUTE]
        for (i, first), (j, second) in pairwise(computing):
            if (both := Overlap(first, second)) not in left:
                continue
            left.remove(both)
            if first.microbatch == second.microbatch:
                raise refusal(
                    f"rank {rank}: {both.token} are of one microbatch: its backward needs what its "
                    f"forward makes,\nso they cannot overlap; take two microbatches",
                    schedule.ranks,
                    [(rank, i), (rank, j)],
                )
    for both in left:
        raise ScheduleError(
            f"{both.token}: these do not stand one after the other on one rank, F first, so they "
            f"cannot overlap"
        )


def check_order(schedule: Schedule) -> None:
    """On its own rank, nothing stands before what it needs. Messages are left aside."""
    for rank, row in enumerate(schedule.ranks):
        place = {produces(a): i for i, a in enumerate(row) if a.kind in COMPUTE}
        for i, action in enumerate(row):
            for result in needs(action, schedule.num_stages):
                if place.get(result, -1) >= i:
                    needed = row[place[result]]
                    raise refusal(
                        f"rank {rank} runs {action.token} (place {i + 1}) before {needed.token} "
                        f"(place {place[result] + 1}), which it needs: move {needed.token} up",
                        schedule.ranks,
                        [(rank, i), (rank, place[result])],
                    )


def check_steps(schedule: Schedule) -> None:
    """A stage's REDUCE_GRAD and STEP stand at most once, in this order, behind its backwards."""
    for rank, row in enumerate(schedule.ranks):
        if all(action.kind not in PER_STAGE for action in row):
            continue
        reached: dict[int, tuple[int, int]] = {}
        for i, action in enumerate(row):
            turn = _TURNS.get(action.kind)
            if turn is None:
                continue
            latest, j = reached.get(action.stage, (0, i))
            if turn < latest or turn == latest > 0:
                raise refusal(
                    f"rank {rank} runs {row[j].token} (place {j + 1}) before {action.token} "
                    f"(place {i + 1}): a stage averages its gradients once and steps once, in this "
                    f"order, after its last backward; move {row[j].token} down, or remove it",
                    schedule.ranks,
                    [(rank, j), (rank, i)],
                )
            reached[action.stage] = turn, i


def _cells(schedule: Schedule, stage: int, microbatch: int) -> list[tuple[int, int]]:
    """Where the computing actions of one microbatch on one stage stand."""
    return [
        (rank, i)
        for rank, row in enumerate(schedule.ranks)
        for i, a in enumerate(row)
        if a.stage == stage and a.microbatch == microbatch and a.kind in COMPUTE
    ]

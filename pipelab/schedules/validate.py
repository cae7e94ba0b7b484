"""Judge a schedule before anything runs: complete, in order, free of deadlock."""

from collections import Counter

from pipelab.action import COMPUTE, Action, Kind, needs, produces
from pipelab.errors import ScheduleError
from pipelab.schedules.communication import lower, message_needs
from pipelab.schedules.grid import marked
from pipelab.schedules.messages import check_messages
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.walk import walk

_HALVES = (Kind.F, Kind.B, Kind.I, Kind.W)
_WANT = "want one F and one B, or one F, one I and one W"


def validate(schedule: Schedule, rendezvous: bool = True) -> None:
    """Return if the schedule can run; say what is wrong with it otherwise.

    A schedule of computation is also checked with its messages (``communication.lower``). A
    schedule that holds messages already is judged as it stands: with ``rendezvous`` a send
    blocks until its receive is posted, without it sends are buffered.

    Raises:
        ScheduleError: a rank without actions, a stage missing or on two ranks, an action
            missing, doubled, or before what it needs on its own rank.
        DeadlockError: ranks wait for each other.
    """
    _check_stages(schedule)
    _check_complete(schedule)
    compute = Schedule(
        tuple(tuple(a for a in row if a.kind in COMPUTE) for row in schedule.ranks), schedule.name
    )
    _check_order(compute)
    lowered = schedule if schedule.is_lowered else lower(schedule)  # refuses a deadlock itself
    check_messages(lowered, compute)
    for _ in walk(lowered.ranks, message_needs(compute, rendezvous)):
        pass


def _check_stages(schedule: Schedule) -> None:
    """Every rank has work, every stage exists and lives on one rank."""
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
                raise ScheduleError(
                    f"stage {action.stage} runs on rank {first} ({seen.token}) and on rank {rank} "
                    f"({action.token}): a stage's weights live on one rank\n"
                    + marked(schedule.ranks, [(first, j), (rank, i)])
                )
    for stage in range(schedule.num_stages):
        if stage not in home:
            raise ScheduleError(
                f"stage {stage} is on no rank, but stage {schedule.num_stages - 1} is: "
                f"stages are numbered 0, 1, 2 ... without gaps"
            )


def _check_complete(schedule: Schedule) -> None:
    """Each stage runs each microbatch once forward and once backward, whole or in two halves."""
    count = Counter(action for row in schedule.ranks for action in row)
    for stage in range(schedule.num_stages):
        for microbatch in range(schedule.num_microbatches):
            found = [count[Action(stage, kind, microbatch)] for kind in _HALVES]
            if found not in ([1, 1, 0, 0], [1, 0, 1, 1]):
                f, b, i, w = found
                raise ScheduleError(
                    f"stage {stage}, microbatch {microbatch}: "
                    f"found {f} F, {b} B, {i} I, {w} W; {_WANT}\n"
                    + marked(schedule.ranks, _cells(schedule, stage, microbatch))
                )


def _check_order(schedule: Schedule) -> None:
    """On its own rank, nothing stands before what it needs."""
    for rank, row in enumerate(schedule.ranks):
        place = {produces(action): i for i, action in enumerate(row)}
        for i, action in enumerate(row):
            for result in needs(action, schedule.num_stages):
                if place.get(result, -1) >= i:
                    needed = row[place[result]]
                    raise ScheduleError(
                        f"rank {rank} runs {action.token} (position {i}) before {needed.token} "
                        f"(position {place[result]}), which it needs: move {needed.token} up\n"
                        + marked(schedule.ranks, [(rank, i), (rank, place[result])])
                    )


def _cells(schedule: Schedule, stage: int, microbatch: int) -> list[tuple[int, int]]:
    """Where the computing actions of one microbatch on one stage stand."""
    return [
        (rank, i)
        for rank, row in enumerate(schedule.ranks)
        for i, a in enumerate(row)
        if a.stage == stage and a.microbatch == microbatch and a.kind in COMPUTE
    ]

"""Judge a schedule before anything runs: complete, in order, free of deadlock."""

from collections import defaultdict

from pipelab.action import COMPUTE, needs, produces
from pipelab.errors import DeadlockError, ScheduleError
from pipelab.schedules.collector import paused_collector
from pipelab.schedules.communication import lower, message_needs
from pipelab.schedules.grid import marked
from pipelab.schedules.messages import check_messages, check_steps
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.walk import walk

_COMPLETE = ("BF", "FIW")  # the letters of one stage and microbatch, sorted
_WANT = "want one F and one B, or one F, one I and one W"


@paused_collector()
def validate(schedule: Schedule, rendezvous: bool = True) -> None:
    """Return if the schedule can run; say what is wrong with it otherwise.

    A schedule of computation is also given its messages (``communication.lower``). A schedule
    that holds messages already is judged as it stands: with ``rendezvous`` a send blocks until
    its receive is posted, without it sends are buffered.

    Raises:
        ScheduleError: a rank without actions, a stage missing or on two ranks, an action
            missing, doubled, or before what it needs on its own rank; a message,
            REDUCE_GRAD or STEP out of place.
        DeadlockError: ranks wait for each other.
    """
    lowered = checked(schedule)
    if schedule.is_lowered:  # what lower() makes runs under either rule: it holds the proof
        for _ in walk(lowered.ranks, message_needs(lowered, rendezvous)):
            pass


@paused_collector()
def checked(schedule: Schedule) -> Schedule:
    """The schedule with its messages. Whether messages written by hand deadlock, a walk must tell.

    Raises:
        ScheduleError: all that ``validate`` finds, but for such a deadlock.
    """
    _check_stages(schedule)
    compute = schedule.compute
    _check_complete(compute)
    if not schedule.is_lowered:
        try:
            return lower(compute)
        except DeadlockError:
            _check_order(compute)  # says it better where one rank alone is to blame
            raise
    _check_order(compute)
    check_messages(schedule, compute)
    check_steps(schedule)
    return schedule


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
    letters: dict[tuple[int, int | None], str] = defaultdict(str)
    for rank, row in enumerate(schedule.ranks):
        for action in row:
            stage, kind, microbatch = action
            if microbatch is None or microbatch < 0 or stage < 0:
                raise ScheduleError(
                    f"rank {rank}: {action.token} wants a stage and a microbatch, numbered 0, 1 ..."
                )
            letters[stage, microbatch] += kind
    for stage in range(schedule.num_stages):
        for microbatch in range(schedule.num_microbatches):
            found = letters[stage, microbatch]
            if "".join(sorted(found)) not in _COMPLETE:
                f, b, i, w = (found.count(letter) for letter in "FBIW")
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

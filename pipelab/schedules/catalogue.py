"""All builders by name, and what a schedule costs besides time: activations and messages."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelab.accounting import Accounts, Part
from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.schedules.builders import eager_one_f_one_b, gpipe, one_f_one_b, sequential
from pipelab.schedules.communication import message_of
from pipelab.schedules.interleaved import interleaved, looped_bfs
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.zero_bubble import zero_bubble_h1, zero_bubble_h2, zero_bubble_v


@dataclass(frozen=True)
class Builder:
    """One schedule of the literature.

    Attributes:
        name: the string that commands and controls use, such as ``"1f1b"``.
        build: (num_ranks, num_microbatches, stages_per_rank) -> Schedule; those with a fixed
            number of stages per rank take no notice of the third.
        stages_per_rank: 1 or 2 where it is fixed, None where it can be chosen.
    """

    name: str
    build: Callable[[int, int, int], Schedule]
    stages_per_rank: int | None = 1


BUILDERS = {
    builder.name: builder
    for builder in (
        Builder("sequential", lambda p, m, v: sequential(p, m)),
        Builder("gpipe", lambda p, m, v: gpipe(p, m)),
        Builder("1f1b", lambda p, m, v: one_f_one_b(p, m)),
        Builder("eager_1f1b", lambda p, m, v: eager_one_f_one_b(p, m)),
        Builder("interleaved", interleaved, None),
        Builder("looped_bfs", looped_bfs, None),
        Builder("zero_bubble_h1", lambda p, m, v: zero_bubble_h1(p, m)),
        Builder("zero_bubble_h2", lambda p, m, v: zero_bubble_h2(p, m)),
        Builder("zero_bubble_v", lambda p, m, v: zero_bubble_v(p, m), 2),
    )
}


def build(name: str, num_ranks: int, num_microbatches: int, stages_per_rank: int = 2) -> Schedule:
    """A schedule by its builder's name. Raises ScheduleError for an unknown one.

    >>> build("1f1b", 2, 3).num_microbatches
    3
    """
    if name not in BUILDERS:
        raise ScheduleError(f"no schedule is called {name!r}: choose from {', '.join(BUILDERS)}")
    return BUILDERS[name].build(num_ranks, num_microbatches, stages_per_rank)


def peak_activations(schedule: Schedule) -> tuple[float, ...]:
    """For each rank, the most microbatches whose activations it holds at once.

    In units of a rank's whole slice of the model: with v stages, one stage's count 1/v. Who takes
    and who gives back is the table in accounting.py.

    >>> peak_activations(one_f_one_b(4, 8))
    (4.0, 3.0, 2.0, 1.0)
    """
    peaks = []
    for rank, row in enumerate(schedule.ranks):
        accounts, most = Accounts(), 0
        for action in row:
            accounts.count(action, int(action.kind is Kind.F))
            most = max(most, accounts.held[Part.ACTIVATIONS])
        peaks.append(most / max(1, len(schedule.stages_of(rank))))
    return tuple(peaks)


def count_messages(schedule: Schedule) -> int:
    """How many messages the ranks exchange in one step.

    >>> count_messages(gpipe(4, 8))
    48
    """
    return sum(message_of(a, schedule) is not None for row in schedule.ranks for a in row)

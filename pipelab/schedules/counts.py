"""What a schedule takes, counted: activations on each rank, messages in a step."""

from pipelab.accounting import Accounts, Part
from pipelab.action import Kind
from pipelab.schedules.messages import routes
from pipelab.schedules.schedule import Schedule

__all__ = ["count_messages", "peak_activations"]


def peak_activations(schedule: Schedule) -> tuple[float, ...]:
    """For each rank, the most microbatches whose activations it holds at once.

    In units of a rank's whole slice of the model: with v stages, one stage's count 1/v; and of
    whole microbatches: of a sequence in k slices, one slice's count 1/k. Who takes and who gives
    back is the table in accounting.py.

    >>> from pipelab.schedules import one_f_one_b
    >>> peak_activations(one_f_one_b(4, 8))
    (4.0, 3.0, 2.0, 1.0)
    """
    peaks = []
    for rank, row in enumerate(schedule.ranks):
        accounts, most = Accounts(), 0
        for action in row:
            accounts.count(action, int(action.kind is Kind.F))
            most = max(most, accounts.held[Part.ACTIVATIONS])
        peaks.append(most / max(1, len(schedule.stages_of(rank))) / schedule.slices)
    return tuple(peaks)


def count_messages(schedule: Schedule) -> int:
    """How many messages the ranks exchange in one step.

    >>> from pipelab.schedules import gpipe
    >>> count_messages(gpipe(4, 8))
    48
    """
    route = routes(schedule)
    return sum(route(a.stage, a.kind) is not None for row in schedule.ranks for a in row)

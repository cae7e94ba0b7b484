"""Stamp a block: microbatch 0's tokens, repeated with a period."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, from_block
from pipelab.schedules.communication import lower
from pipelab.simulator.cost import Cost
from pipelab.simulator.simulate import simulate


def stamped(schedule: Schedule, period: int, num_microbatches: int) -> Schedule:
    """Microbatch 0's pattern, as tight as it can run, repeated.

    Args:
        schedule: of it, the tokens of microbatch 0 count.
        period: slots from one microbatch to the next; F, I and W take one slot, B two.

    Raises:
        ScheduleError: microbatch 0 cannot run, or ``from_block`` refuses the period.
    """
    rows = (
        tuple(a for a in row if a.microbatch == 0 and a.kind in "FBIW") for row in schedule.ranks
    )
    block = lower(Schedule(tuple(rows)))
    pattern: list[dict[str, int]] = [{} for _ in block.ranks]
    for event in simulate(block.compute, Cost(1, 1, 1)).events:
        if event.kind in (Kind.F, Kind.B, Kind.I):  # a W fills what is free
            pattern[event.rank][f"{event.stage}{event.kind}0"] = round(event.start)
    p = block.num_ranks
    try:
        return from_block(pattern, period, p, num_microbatches)
    except ScheduleError as error:
        if longer := _longer_period(pattern, period, p):
            # tokens have no slots here, so the other advice cannot be followed
            raise ScheduleError(
                f"{error}\nthis order can be repeated with a period of {longer}; waits between the "
                f"tokens are for from_block(pattern, ...)",
                cells=error.cells,
            ) from None
        raise


def _longer_period(pattern: Sequence[Mapping[str, int]], period: int, p: int) -> int | None:
    """The next period with which no two actions collide."""
    last = max(slot for row in pattern for slot in row.values()) + 2
    for longer in range(period + 1, last + 1):
        with suppress(ScheduleError):
            from_block(pattern, longer, p, 1)
            return longer
    return None

"""Stamp a block: microbatch 0's tokens, repeated with a period."""

from pipelab.action import Kind
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
    return from_block(pattern, period, block.num_ranks, num_microbatches)

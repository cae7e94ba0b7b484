"""Stamp a block: microbatch 0's tokens, repeated with a period."""

from pipelab.action import Action, Kind, needs, produces
from pipelab.schedules import Schedule, from_block
from pipelab.schedules.blocks import check_room, slots_of
from pipelab.schedules.communication import lower
from pipelab.schedules.schedule import refusal
from pipelab.simulator.cost import Cost
from pipelab.simulator.simulate import simulate


def stamped(schedule: Schedule, period: int, num_microbatches: int) -> Schedule:
    """Microbatch 0's pattern, in the order of each rank's tokens, repeated.

    Each action starts in the first slot in which it can run, and which no other action of its rank
    has in this or another period. (Compilers place the instructions of a loop in this way: Rau and
    Glaeser 1981, MICRO 14.) A W runs in the first slot that is free.

    Args:
        schedule: of it, the tokens of microbatch 0 count.
        period: slots from one microbatch to the next; F, I and W take one slot, B two.

    Raises:
        ScheduleError: microbatch 0 cannot run, or a period has too few slots, or no two neighbours
            for a B.

    >>> block = Schedule.from_tokens([["0F0", "0I0", "0W0"], ["1F0", "1I0", "1W0"]])
    >>> print(stamped(block, 3, 2))
    block: 2 ranks, 2 microbatches
    rank 0  0F0 0F1 ·   0I0 0W0 ·   0I1 0W1
    rank 1  ·   1F0 1I0 1W0 1F1 1I1 1W1 ·
    """
    rows = (
        tuple(a for a in row if a.microbatch == 0 and a.kind in "FBIW") for row in schedule.ranks
    )
    block = lower(Schedule(tuple(rows))).compute
    check_room(block, period)
    return from_block(_placed(block, period), period, block.num_ranks, num_microbatches)


def _placed(block: Schedule, period: int) -> list[dict[str, int]]:
    """For each rank, the slots in which its F, B and I start."""
    pattern: list[dict[str, int]] = [{} for _ in block.ranks]
    taken: list[set[int]] = [set() for _ in block.ranks]  # slots of the period
    free = [0] * block.num_ranks  # the slot after a rank's last action
    ends: dict[Action, int] = {}
    for rank, action in _in_order(block):
        first = max([free[rank], *(ends[result] for result in needs(action, block.num_stages))])
        length = slots_of(action)
        choices = (range(slot, slot + length) for slot in range(first, first + period))
        fits = (own for own in choices if taken[rank].isdisjoint(slot % period for slot in own))
        own = next(fits, None)
        if own is None:
            raise refusal(
                f"rank {rank}, {action.token}: a B takes two slots in a row, and a period of "
                f"{period} has no two left:\nwrite it as I and W, or choose a longer period",
                block.ranks,
                [(rank, block.ranks[rank].index(action))],
            )
        taken[rank].update(slot % period for slot in own)
        pattern[rank][action.token] = own.start
        free[rank] = ends[produces(action)] = own.stop
    return pattern


def _in_order(block: Schedule) -> list[tuple[int, Action]]:
    """Rank and action, each after what it needs; a W has no slot to be placed in."""
    events = sorted(simulate(block, Cost(1, 1, 1)).events, key=lambda event: event.start)
    return [
        (event.rank, Action(event.stage, event.kind, event.microbatch))
        for event in events
        if event.kind in (Kind.F, Kind.B, Kind.I)
    ]

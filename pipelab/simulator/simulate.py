"""Predict: price a schedule's actions and walk through them. Nothing runs."""

from functools import partial

from pipelab.action import COMPUTE, Action, needs
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, validate
from pipelab.schedules.walk import walk
from pipelab.simulator.cost import Cost
from pipelab.trace import Event, Setting, Trace


def simulate(schedule: Schedule, cost: Cost) -> Trace:
    """The trace that ranks would record if every action took exactly its cost.

    A message costs ``cost.latency`` between two ranks and keeps neither of them busy.

    >>> from pipelab.schedules import one_f_one_b
    >>> simulate(one_f_one_b(4, 8), Cost()).duration
    33.0
    """
    if schedule.is_lowered:
        raise ScheduleError(
            "the schedule holds messages already: simulate the one that lower() made it from"
        )
    validate(schedule)
    home = schedule.rank_of_stage

    def delay(result: Action, action: Action) -> float:
        return cost.latency if home[result.stage] != home[action.stage] else 0.0

    events = [
        Event(v.rank, v.action.kind, v.action.stage, v.action.microbatch, v.start, v.end)
        for v in walk(
            schedule.ranks, partial(needs, num_stages=schedule.num_stages), cost.seconds, delay
        )
        if v.action.kind in COMPUTE
    ]
    setting = Setting(
        schedule.name, schedule.num_ranks, schedule.num_microbatches, "", "", str(cost)
    )
    return Trace(tuple(sorted(events, key=lambda e: (e.rank, e.start))), "predicted", setting)

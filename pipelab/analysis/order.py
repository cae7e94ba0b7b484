"""The schedule that a trace followed: each rank's computations in order of their start."""

from dataclasses import replace

from pipelab.action import COMPUTE, Action
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.trace import Trace

UNKNOWN = "custom"


def schedule_of(trace: Trace) -> Schedule:
    """Who ran what, in which order, under the name of the schedule that it is."""
    rows: list[list[Action]] = [[] for _ in range(trace.num_ranks)]
    for e in sorted(trace.events, key=lambda e: (e.start, e.end)):
        if e.kind in COMPUTE:
            rows[e.rank].append(Action(e.stage, e.kind, e.microbatch))
    schedule = Schedule(tuple(tuple(row) for row in rows))
    return replace(schedule, name=name_of(schedule))


def name_of(schedule: Schedule) -> str:
    """The name of the schedule of the catalogue that has this order; ``"custom"`` if none has."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    v, rest = divmod(schedule.num_stages, p)
    if rest or not m:
        return UNKNOWN
    for name, builder in BUILDERS.items():
        if builder.stages_per_rank not in (None, v):
            continue
        try:
            built = builder.build(p, m, v)
        except ScheduleError:
            continue
        if built.compute.ranks == schedule.ranks:
            return name
    return UNKNOWN


def named(trace: Trace) -> Trace:
    """The same trace, its setting with the name of its schedule."""
    if trace.setting.schedule != UNKNOWN:
        return trace
    name = schedule_of(trace).name
    return replace(trace, setting=replace(trace.setting, schedule=name))

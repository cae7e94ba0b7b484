"""How well simulations from a trace's own costs give the steps that were recorded."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from pipelab.analysis.order import schedule_of
from pipelab.analysis.own_costs import cost_of
from pipelab.errors import ScheduleError, TraceError
from pipelab.simulator import simulate
from pipelab.trace import Trace


class Fit(NamedTuple):
    """How well simulations from the trace's own costs give the recorded step times.

    Attributes:
        explained: simulated from a step's own costs over recorded; the median of all steps.
        spread: half of what the middle two thirds of the steps differ in that.
        steps: that were simulated.
        predicted: the mean of how far later steps are from one simulated with the first one's
            costs, as a share; None where there are none.
    """

    explained: float
    spread: float
    steps: int
    predicted: float | None


def fit_of(traces: Sequence[Trace], notes: list[str]) -> Fit | None:
    """Each step simulated from its own costs, and later ones from those of the first."""
    ratios: list[float] = []
    errors: list[float] = []
    first: dict[int, float] = {}
    skipped = 0
    for trace in traces:
        try:
            schedule = schedule_of(trace)
            simulated = simulate(schedule, cost_of(trace, schedule)).duration
        except (ScheduleError, TraceError):
            skipped += 1
            continue
        ratios.append(simulated / trace.duration)
        replica = trace.setting.replica
        if replica in first:
            errors.append(abs(first[replica] / trace.duration - 1))
        first.setdefault(replica, simulated)
    if skipped:
        notes.append(f"{skipped} of {len(traces)} steps could not be simulated")
    if not ratios:
        return None
    ratios.sort()
    n = len(ratios)
    spread = (ratios[n - 1 - n // 6] - ratios[n // 6]) / 2
    return Fit(median(ratios), spread, n, sum(errors) / len(errors) if errors else None)

"""Formulas of papers beside what the simulator, or a recording, shows for the same case."""

from typing import NamedTuple

from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.formulas import Case, Claim, Figure
from pipelab.simulator.cost import Cost
from pipelab.simulator.simulate import simulate
from pipelab.trace import Trace
from pipelab.trace.metrics import busy, step_span

_SAME = 1e-9  # of the larger of two figures: rounding in sums of many floats


class Judged(NamedTuple):
    """One formula beside what happens.

    Attributes:
        claim: the formula.
        formula, simulated: the figure, in the case's unit or in microbatches.
        applies: whether the case fulfils the formula's condition.
    """

    claim: Claim
    formula: float
    simulated: float
    applies: bool

    @property
    def difference(self) -> float:
        """What the simulation shows above the formula."""
        return self.simulated - self.formula

    @property
    def agrees(self) -> bool:
        """Whether the two are the same, but for rounding."""
        return abs(self.difference) <= _SAME * max(1.0, abs(self.formula), abs(self.simulated))


def judge(name: str, case: Case) -> tuple[Judged, ...]:
    """All formulas of a schedule of the catalogue, in one case.

    Raises:
        ScheduleError: no such schedule, or it refuses these sizes.

    >>> [judged] = [j for j in judge("1f1b", Case(4, 8)) if j.claim.figure == "idle"]
    >>> judged.formula, judged.simulated
    (9.0, 9.0)
    """
    schedule, case = built(name, case)
    trace = simulate(schedule, cost_of(case))
    return tuple(
        Judged(
            claim, claim.value(case), figure_of(trace, schedule, claim.figure), claim.holds(case)
        )
        for claim in BUILDERS[name].claims
    )


def built(name: str, case: Case) -> tuple[Schedule, Case]:
    """The schedule of a case, and the case with the stages per rank that the schedule has."""
    schedule = BUILDERS[name].build(case.p, case.m, case.v)
    return schedule, case._replace(v=schedule.num_stages // schedule.num_ranks)


def cost_of(case: Case) -> Cost:
    """The price of one stage's actions."""
    v = case.v
    of_stage = case.F / v, case.I / v, case.W / v
    return Cost(*of_stage, latency=case.latency, overlapped=case.overlapped / v)


def figure_of(trace: Trace, schedule: Schedule, figure: Figure) -> float:
    """What a trace of this schedule shows, predicted or recorded, in its unit of time."""
    if figure is Figure.PEAK:
        return max(peak_activations(schedule))
    computed = busy(trace.events, schedule.num_ranks)
    spans = [trace.duration] * schedule.num_ranks
    if figure is Figure.SPAN:
        rows = [[e for e in trace.events if e.rank == rank] for rank in range(schedule.num_ranks)]
        found = [step_span(row) or (0.0, 0.0) for row in rows]
        spans = [end - start for start, end in found]
    return max(span - seconds for span, seconds in zip(spans, computed, strict=True))

"""All that a recording says about its bubble: of all steps and replicas, and of one in detail."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import NamedTuple

from pipelab.action import COMPUTE, Kind
from pipelab.analysis.fit import Fit, fit_of
from pipelab.analysis.order import UNKNOWN, formula_of, order_in_words, schedule_of
from pipelab.analysis.own_costs import (
    Priced,
    as_fast_as,
    equal_microbatches,
    priced,
    stage_costs,
    unpaused,
)
from pipelab.analysis.slowdown import Slowdown, slowdown
from pipelab.analysis.slowest import Slowest, longest_microbatch, slowest
from pipelab.analysis.what_if import Compared, WhatIf, what_ifs
from pipelab.errors import PipelabError, TraceError
from pipelab.schedules import Schedule
from pipelab.simulator import simulate
from pipelab.trace import Trace, critical_path, explain_idle
from pipelab.trace.idle import Reason

_EVENTS = 400_000  # of the steps that are simulated and whose idle time is explained
_LEAST_STEPS = 8
_FAR = 0.1  # of the recorded time: a simulation that is farther off explains nothing
_NAMED = 8  # steps that an error names


class Replica(NamedTuple):
    """One copy of the pipeline: its number of steps, and medians over them.

    ``duration``: seconds from the first start to the last end of a computation.
    """

    number: int
    steps: int
    duration: float
    bubble_fraction: float


class Share(NamedTuple):
    """The critical path's time in one kind of one stage, or in ``"messages"`` and ``"gaps"``."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """Why a recorded pipeline's bubble is there; printed, one screen.

    Attributes:
        trace: the step that is shown: of median duration, of the replica that takes longest.
        schedule: the name of what it followed, ``"custom"`` if it is in no catalogue.
        order: the same in words, or what it is nearest to.
        ranks: of one pipeline (p).
        microbatches: m.
        stages_per_rank: v.
        num_replicas: that were read.
        num_steps: that were read, of all replicas.
        duration: seconds of a step; median of all steps.
        bubble_fraction: recorded; median of all steps.
        formula: its text and what it says for this schedule; without one the simulator's bubble
            with equal stages and free messages; None for an order that cannot be simulated.
        longest_microbatch: the computation of a step's longest microbatch, on all ranks, over that
            of the average one; median of all steps.
        slowest_replica: seconds of each step's slowest replica, which the others wait for before
            the optimizer's step; median of all steps.
        idle: for each reason the share of all rank-time; the mean of all steps.
        slowest: rank, stage and kind.
        path: where the critical path of ``trace`` spends its time, the largest first.
        what_ifs: of ``trace``; empty where it cannot be simulated.
        simulated: seconds of ``trace`` as it is, simulated; 0.0 where it cannot be.
        slowdown: against a job whose ranks are all alike; None where that cannot be simulated.
        fit: of all steps; None where they cannot be simulated.
        replicas: the figures of each.
        notes: what the files do not hold, and what could not be done.
    """

    trace: Trace
    schedule: str
    order: str
    ranks: int
    microbatches: int
    stages_per_rank: int
    num_replicas: int
    num_steps: int
    duration: float
    bubble_fraction: float
    formula: tuple[str, float] | None
    longest_microbatch: float
    slowest_replica: float
    idle: dict[Reason, float]
    slowest: Slowest
    path: tuple[Share, ...]
    what_ifs: tuple[WhatIf, ...]
    simulated: float
    slowdown: Slowdown | None
    fit: Fit | None
    replicas: tuple[Replica, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """One screen."""
        from pipelab.analysis.screen import screen

        return screen(self)

    def data(self) -> dict[str, object]:
        """All figures, for JSON; times in seconds, shares of 1."""
        found = asdict(replace(self, trace=Trace((), "recorded")))
        del found["trace"]
        found["slowest"] = {
            name: {**slow._asdict(), "ratio": slow.ratio}
            for name, slow in self.slowest._asdict().items()
        }
        found["path"] = [share._asdict() for share in self.path]
        found["what_ifs"] = [what._asdict() for what in self.what_ifs]
        found["replicas"] = [row._asdict() for row in self.replicas]
        found["slowdown"] = self.slowdown._asdict() if self.slowdown else None
        found["fit"] = self.fit._asdict() if self.fit else None
        shown = self.trace.setting
        found["shown"] = {
            "step": shown.step,
            "replica": shown.replica,
            "duration": self.trace.duration,
            "bubble_fraction": bubble(self.trace),
        }
        found["source"] = self.trace.source_line
        return found


def diagnose(
    traces: Iterable[Trace], step: int | None = None, replica: int | None = None
) -> Diagnosis:
    """Explain a recording, as ``Trace.read`` gives it.

    Args:
        traces: all steps and replicas of one job.
        step: the step to show in detail; None for one of median duration.
        replica: the replica to show; None for the one that takes longest.

    Raises:
        TraceError: there is nothing in it, or not this step and replica.
    """
    traces = [trace for trace in traces if trace.duration]
    if not traces:
        raise TraceError("no step with a computation to explain: record, or open, at least one")
    shown, schedule = _shown(traces, step, replica)
    notes = [*dict.fromkeys(note for trace in traces for note in trace.setting.notes)]
    found = slowest(traces)
    some = _sample(traces)
    if len(some) < len(traces):
        notes.append(f"idle time and fit are those of {len(some)} of {len(traces)} steps")
    p, m = schedule.num_ranks, schedule.num_microbatches
    changes, simulated, fit = _simulations(some, shown, schedule, found, notes)
    return Diagnosis(
        trace=shown,
        schedule=schedule.name,
        order=order_in_words(schedule),
        ranks=p,
        microbatches=m,
        stages_per_rank=max(len(schedule.stages_of(rank)) for rank in range(p)),
        num_replicas=len({trace.setting.replica for trace in traces}),
        num_steps=len(traces),
        duration=median(trace.duration for trace in traces),
        bubble_fraction=median(map(bubble, traces)),
        formula=formula_of(schedule),
        longest_microbatch=longest_microbatch(traces),
        slowest_replica=_slowest_replica(traces),
        idle=_idle(some),
        slowest=found,
        path=tuple(_path(shown)),
        what_ifs=tuple(changes),
        simulated=simulated,
        slowdown=slowdown(traces),
        fit=fit,
        replicas=tuple(_replicas(traces)),
        notes=tuple(notes),
    )


def _sample(traces: Sequence[Trace]) -> list[Trace]:
    """All steps, or as many of a huge recording as take seconds; always the same ones."""
    size = sum(len(trace.events) for trace in traces) / len(traces)
    number = max(_LEAST_STEPS, round(_EVENTS / size))
    chosen = sorted(random.Random(0).sample(range(len(traces)), min(number, len(traces))))
    return [traces[i] for i in chosen]


def _shown(
    traces: Sequence[Trace], step: int | None, replica: int | None
) -> tuple[Trace, Schedule]:
    """The trace to show in detail, with the name of its schedule."""
    if replica is None:
        replica = max(_replicas(traces), key=lambda row: row.duration).number
    own = [trace for trace in traces if trace.setting.replica == replica]
    found = [trace for trace in own if step is None or trace.setting.step == step]
    if not found:
        numbers = sorted({trace.setting.step for trace in own or traces})
        there = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
        replicas = ", ".join(str(number) for number in sorted({t.setting.replica for t in traces}))
        raise TraceError(
            f"step {'of median duration' if step is None else step} of replica {replica} is not "
            f"there: choose from steps {there} and replicas {replicas}"
        )
    found.sort(key=lambda trace: trace.duration)
    trace = found[(len(found) - 1) // 2]
    schedule = schedule_of(trace)
    if trace.setting.schedule == UNKNOWN:
        trace = replace(trace, setting=replace(trace.setting, schedule=schedule.name))
    else:
        schedule = replace(schedule, name=trace.setting.schedule)
    return trace, schedule


def bubble(trace: Trace) -> float:
    """Its bubble fraction over the ranks that were recorded: others may be missing in the files."""
    there = {e.rank for e in trace.events if e.kind in COMPUTE}
    return 1 - sum(trace.utilisation[rank] for rank in there) / len(there)


def _replicas(traces: Iterable[Trace]) -> list[Replica]:
    rows: dict[int, list[Trace]] = defaultdict(list)
    for trace in traces:
        rows[trace.setting.replica].append(trace)
    return [
        Replica(number, len(own), median(t.duration for t in own), median(map(bubble, own)))
        for number, own in sorted(rows.items())
    ]


def _slowest_replica(traces: Iterable[Trace]) -> float:
    longest: dict[int, float] = defaultdict(float)
    for trace in traces:
        step = trace.setting.step
        longest[step] = max(longest[step], trace.duration)
    return median(longest.values())


def _idle(traces: Sequence[Trace]) -> dict[Reason, float]:
    """For each reason the share of the recorded ranks' time, the largest first."""
    sums: dict[Reason, float] = defaultdict(float)
    for trace in traces:
        there = {e.rank for e in trace.events if e.kind in COMPUTE}
        whole = len(there) * trace.duration * len(traces)
        for idle in explain_idle(trace):
            if idle.rank in there:
                sums[idle.reason] += idle.seconds / whole
    return dict(sorted(sums.items(), key=lambda row: -row[1]))


def _path(trace: Trace) -> list[Share]:
    """Seconds of the critical path by kind and stage; between its events are messages and gaps."""
    sums: dict[str, float] = defaultdict(float)
    received = {(e.rank, e.stage, e.microbatch, e.kind): e.end for e in trace.events}
    before: float | None = None
    for event, why in critical_path(trace):
        if event.kind not in COMPUTE:
            continue
        if before is not None and event.start > before:
            recv = Kind.RECV_F if event.kind is Kind.F else Kind.RECV_B
            came = received.get((event.rank, event.stage, event.microbatch, recv), before)
            cut = event.start if why == "message" else min(max(came, before), event.start)
            sums["messages"] += cut - before
            sums["gaps"] += event.start - cut
        sums[f"{event.kind} of stage {event.stage}"] += event.end - event.start
        before = event.end
    return [Share(*row) for row in sorted(sums.items(), key=lambda row: -row[1]) if row[1] > 0]


def _simulations(
    traces: Sequence[Trace], shown: Trace, schedule: Schedule, found: Slowest, notes: list[str]
) -> tuple[list[WhatIf], float, Fit | None]:
    """Changes, the step as it is, and how well that fits; a note where nothing can be simulated."""
    try:
        own = priced(shown, schedule)
        simulated = simulate(schedule, own.cost).duration
        compared = _compared(traces, shown, schedule, found, own)
        changes = what_ifs(schedule, own, compared)
    except PipelabError as error:
        reason = str(error).splitlines()[0]
        notes.append(f"nothing can be simulated from this trace: {reason}")
        return [], 0.0, None
    fit = fit_of(traces, notes)
    if fit and abs(fit.explained - 1) > _FAR:
        notes.append(
            "the simulation does not explain the recorded step: what-ifs say little; ranks, steps "
            "or replicas may not be what their numbers in the file say"
        )
    return changes, simulated, fit


def _compared(
    traces: Sequence[Trace], shown: Trace, schedule: Schedule, found: Slowest, own: Priced
) -> Compared:
    """What the shown step is changed to."""
    replica = shown.setting.replica
    here = [trace for trace in traces if trace.setting.replica == replica]
    others = [trace for trace in traces if trace.setting.replica != replica]
    rows = stage_costs(own.cost, schedule)
    return Compared(
        slowest(here)._replace(stage=found.stage),
        equal_microbatches(shown, schedule, own),
        unpaused(shown, schedule, own) if own.pauses else None,
        as_fast_as(rows, others, here, schedule) if others else None,
        replica,
    )

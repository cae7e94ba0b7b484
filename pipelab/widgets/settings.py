"""What one live run is to do: sizes, schedule, pace; and what it is predicted to record."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.communication import Lowered, lower
from pipelab.simulator import Cost, simulate
from pipelab.simulator.cost import Seconds
from pipelab.trace import Trace

LAYERS = 16  # of the model of every run: no more stages than that
View = Callable[[Trace], Trace]
PACE = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010)


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        pace: seconds of a rank's actions and messages; None: as fast as this machine can. Where a
            rank has two stages, each takes half of it; a list gives what each stage takes.
        overlap: messages are sent while ranks compute.
        replicas: copies of the pipeline.
        memory_budget: bytes that a rank may hold; None: no limit.
        own: a schedule written by hand, in place of the one that ``schedule`` names.
        guess: the predicted bubble fraction for so many ranks and microbatches.
        view: what to show of a trace, predicted or recorded; None: all of it.
        title: what a story calls the schedule.
    """

    num_ranks: int
    num_microbatches: int
    schedule: str
    pace: Cost | None
    overlap: bool = True
    replicas: int = 1
    memory_budget: int | None = None
    own: Schedule | None = None
    guess: float | None = None
    view: View | None = None
    title: str = ""

    def seen(self, trace: Trace) -> Trace:
        """What ``view`` shows of a trace."""
        return trace if self.view is None else self.view(trace)

    @property
    def guesses(self) -> dict[tuple[int, int], float]:
        """The guess as ``pipelab.widgets.overlay`` takes it."""
        sizes = self.num_ranks, self.num_microbatches
        return {} if self.guess is None else {sizes: self.guess}

    def build(self) -> Schedule:
        """The schedule. Raises ScheduleError where there is none."""
        if self.own is not None:
            return self.own
        if self.schedule not in BUILDERS:
            raise ScheduleError(
                f"schedule={self.schedule!r} is not known here: choose {', '.join(BUILDERS)}"
            )
        return BUILDERS[self.schedule].build(self.num_ranks, self.num_microbatches, 2)

    @cached_property
    def lowered(self) -> Lowered:
        """The schedule with its messages. Raises ScheduleError where it cannot run."""
        return lower(self.build())

    @property
    def ranks(self) -> Hashable:
        """What a pipeline keeps from its launch: another run needs new ranks if it differs."""
        schedule = self.lowered.schedule
        return (
            schedule.num_ranks,
            *schedule.rank_of_stage.items(),
            self.replicas,
            self.overlap,
            self.memory_budget,
            self.pace is None,  # which decides on threads
        )

    @cached_property
    def cost(self) -> Cost | None:
        """What one stage's actions take. Raises ScheduleError for a pace of other stages."""
        if self.pace is None:
            return None
        schedule = self.build()
        self.pace.check_stages(schedule.num_stages)
        self.pace.check_microbatches(schedule.num_microbatches)
        return _each(self.pace, 1 / len(schedule.stages_of(0)), of_lists=False)

    @cached_property
    def prediction(self) -> Trace | None:
        """What a paced run should record, for all replicas; None for an unpaced one."""
        if self.cost is None:
            return None
        trace, p = simulate(self.lowered, self.cost, self.overlap), self.lowered.num_ranks
        events = tuple(
            e._replace(rank=e.rank + copy * p, peer=None if e.peer is None else e.peer + copy * p)
            for copy in range(self.replicas)
            for e in trace.events
        )
        setting = replace(trace.setting, ranks=p * self.replicas, replicas=self.replicas)
        return self.seen(Trace(events, "predicted", setting))


def part(pace: Cost, parts: int) -> Cost:
    """One of ``parts`` equal parts of the work; the latency of a message stays.

    >>> part(Cost(8.0, 8.0, 8.0, latency=0.5), 4).forward
    2.0
    """
    return times(pace, 1 / max(1, parts))  # without ranks there is no run, and it says why


def slowed(pace: Cost, factor: float, latency: float) -> Cost:
    """A pace ``factor`` times slower, whose messages take at least a share (0 to 1) of F.

    >>> slowed(Cost(1.0, 1.0, 1.0), 5, 0.1).latency
    0.5
    """
    slow = times(pace, factor)
    return replace(slow, latency=max(pace.latency * factor, first_stage(slow)[0] * latency))


def times(pace: Cost, factor: float) -> Cost:
    """Another length for every action, the same latency."""
    return _each(pace, factor, of_lists=True)


def _each(pace: Cost, factor: float, of_lists: bool) -> Cost:
    """F, I and W times a factor; lists, which speak of stages, only where it says so."""

    def scaled(seconds: Seconds) -> Seconds:
        if not isinstance(seconds, Sequence):
            return seconds * factor
        rows = ([x * factor for x in s] if isinstance(s, Sequence) else s * factor for s in seconds)
        return [*rows] if of_lists else seconds

    f, i, w = map(scaled, _seconds(pace))
    return replace(pace, forward=f, backward_input=i, backward_weight=w)


def first_stage(pace: Cost) -> list[float]:
    """What F, I and W of the first stage take, for the first microbatch."""
    rows = (s[0] if isinstance(s, Sequence) else s for s in _seconds(pace))
    return [row[0] if isinstance(row, Sequence) else row for row in rows]


def _seconds(pace: Cost) -> tuple[Seconds, Seconds, Seconds]:
    """What F, I and W take."""
    return pace.forward, pace.backward_input, pace.backward_weight

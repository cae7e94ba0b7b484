"""What one live run is to do: sizes, schedule, pace; and what it is predicted to record."""

from dataclasses import dataclass, replace
from functools import cached_property

from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.communication import Lowered, lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

LAYERS = 16  # of the model of every run: no more stages than that


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        pace: seconds of a rank's actions and messages; None: as fast as this machine can. Where a
            rank has two stages, each takes half of it.
        overlap: messages are sent while ranks compute.
        replicas: copies of the pipeline.
        memory_budget: bytes that a rank may hold; None: no limit.
        own: a schedule written by hand, in place of the one that ``schedule`` names.
        guess: the predicted bubble fraction for so many ranks and microbatches.
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

    @cached_property
    def cost(self) -> Cost | None:
        """What one stage's actions take."""
        pace = self.pace
        seconds = ("forward", "backward_input", "backward_weight")
        if pace is None or any(not isinstance(getattr(pace, name), float) for name in seconds):
            return pace
        stages = len(self.build().stages_of(0))
        return replace(pace, **{name: getattr(pace, name) / stages for name in seconds})

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
        return Trace(events, "predicted", setting)

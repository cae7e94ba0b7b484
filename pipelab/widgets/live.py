"""A live run: settings become a trace recorded on real ranks, in a thread of its own.

The thread owns the pipeline, and so the processes. They live as long as the run does: four ranks
are up in a tenth of a second, so nothing is kept between two runs. A second thread looks at what
the ranks are in, and reports bars while they work.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Literal

import torch

from pipelab.engine import Pipeline, StepResult
from pipelab.errors import PipelabError, PipelineClosed, ScheduleError
from pipelab.models import mlp
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.communication import Lowered, lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Trace
from pipelab.widgets.watch import Watch

LAYERS, WIDTH, ROWS = 16, 256, 256  # the model and the batch of every run
_WATCHED = 1.5  # seconds that a run must be predicted to take, to be displayed before it is over
LOOK, TELL = 0.01, 0.1  # seconds between two looks at the ranks, and between two reports

State = Literal["running", "done", "stopped", "error"]

_ONE_AT_A_TIME = threading.Lock()  # two runs would measure each other


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        pace: what a rank's actions and messages take; None: as fast as this machine can. Where a
            rank has two stages, each takes half of it.
        overlap: messages travel while ranks compute.
        replicas: copies of the pipeline.
        memory_budget: bytes that a rank may hold; None: all that there are.
        own: a schedule written by hand, in place of the one that ``schedule`` names.
        guess: the bubble fraction that somebody predicted for so many ranks and microbatches.
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
        """The guess as ``pipelab.widgets.over`` takes it."""
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
        pace, seconds = self.pace, ("forward", "backward_input", "backward_weight")
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


class LiveRun:
    """One run, started at once. ``state`` says how far it is, ``bars`` what was seen of it.

    Args:
        number: to tell runs apart.
        settings: what to run.
        report: called from threads of the run whenever ``state`` or ``bars`` have changed.
    """

    def __init__(self, number: int, settings: Settings, report: Callable[["LiveRun"], None]):
        self.number = number
        self.settings = settings
        self.state: State = "running"
        self.bars: tuple[Event, ...] = ()
        self.now = 0.0  # seconds since the step began
        self.result: StepResult | None = None
        self.error: Exception | None = None
        self.ended = threading.Event()  # set after the last report
        self._report = report
        self._guard = threading.Lock()
        self._stopping = False
        self._pipeline: Pipeline | None = None
        threading.Thread(target=self._main, name=f"pipelab run {number}", daemon=True).start()

    @property
    def predicted(self) -> Trace | None:
        """What it should record; None if it is unpaced, or cannot run at all."""
        try:
            return self.settings.prediction
        except PipelabError:  # the run itself says what is wrong
            return None

    def stop(self) -> None:
        """End the run and its processes, wherever it is. May be called twice, from any thread."""
        with self._guard:
            self._stopping = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.close()

    def first_look(self, seconds: float) -> Trace | None:
        """The prediction of a run that takes long, and is to be watched; any other is awaited.

        An interrupt meanwhile ends the run: its learner has no Stop button yet.
        """
        if self.predicted is not None and self.predicted.duration > _WATCHED:
            return self.predicted
        try:
            self.ended.wait(seconds)
        except KeyboardInterrupt:
            self.stop()
            raise
        return None

    def _main(self) -> None:
        try:
            self._tell("running")
            with _ONE_AT_A_TIME:
                if self._stopping:  # while another run came to its end: launch nothing for this one
                    raise PipelineClosed("stopped before it began")
                self._record()
        except Exception as error:  # shown in the widget, and raised by its wait()
            self.error = None if self._stopping else error
            self._tell("stopped" if self._stopping else "error")
        finally:
            self.ended.set()

    def _tell(self, state: State) -> None:
        self.state = state
        self._report(self)

    def _record(self) -> None:
        """Launch, run, report, and then end the processes, which nobody has to wait for."""
        model, inputs, targets = _experiment()
        settings = self.settings
        with Pipeline(
            model,
            settings.lowered,
            loss=torch.nn.functional.cross_entropy,
            optimizer=partial(torch.optim.SGD, lr=0.1),
            replicas=settings.replicas,
            overlap=settings.overlap,
            memory_budget=settings.memory_budget,
        ) as pipeline:
            with self._guard:
                self._pipeline = pipeline
                if self._stopping:
                    raise PipelineClosed("stopped before its first step")
            self.result = self._second_step(pipeline, inputs, targets)
            self._tell("done")

    def _second_step(
        self, pipeline: Pipeline, inputs: torch.Tensor, targets: torch.Tensor
    ) -> StepResult:
        """The first, unpaced, has what a first step pays once."""
        pipeline.step(inputs, targets)
        if self.settings.cost is None:  # over before anybody could watch
            return pipeline.step(inputs, targets)
        pipeline.pace = self.settings.cost
        pipeline.use(self.settings.lowered)
        with _Watcher(pipeline, self._seen):
            return pipeline.step(inputs, targets)

    def _seen(self, bars: tuple[Event, ...], now: float) -> None:
        self.bars, self.now = bars, now
        self._report(self)


class _Watcher:
    """Looks at the ranks from a thread of its own, for the length of a ``with`` block."""

    def __init__(self, pipeline: Pipeline, seen: Callable[[tuple[Event, ...], float], None]):
        self._watch = Watch(lambda: pipeline.begun, pipeline.schedule, pipeline.replicas)
        self._seen = seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._main, name="pipelab watch", daemon=True)

    def __enter__(self) -> "_Watcher":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _main(self) -> None:
        told = 0.0
        while not self._over.wait(LOOK):
            clock = time.monotonic()
            self._watch.look(clock)
            bars, now = self._watch.bars(clock)
            if bars and clock - told >= TELL:
                told = clock
                self._seen(bars, now)


@cache
def _experiment() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """The same model and batch every time, whatever else is drawn; ranks train copies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(WIDTH, LAYERS, features=WIDTH)
        return model, torch.randn(ROWS, WIDTH), torch.randint(10, (ROWS,))

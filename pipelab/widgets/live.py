"""A live run: settings become a trace recorded on real ranks, in a thread of its own.

The thread owns the pipeline, and so the processes. They live as long as the run does: four ranks
are up in a tenth of a second, so nothing is kept between two runs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from pipelab.engine import Pipeline, StepResult
from pipelab.errors import PipelineClosed, ScheduleError
from pipelab.models import mlp
from pipelab.schedules import Schedule, gpipe, one_f_one_b, sequential
from pipelab.simulator import Cost

SCHEDULES = {"gpipe": gpipe, "1f1b": one_f_one_b, "sequential": sequential}
LAYERS, WIDTH, ROWS = 8, 256, 256  # the model and the batch of every run

State = Literal["running", "done", "stopped", "error"]

_ONE_AT_A_TIME = threading.Lock()  # two runs would measure each other


@dataclass(frozen=True)
class Settings:
    """What the controls say. ``pace`` None: as fast as this machine can."""

    num_ranks: int
    num_microbatches: int
    schedule: str
    pace: Cost | None

    def build(self) -> Schedule:
        """The schedule. Raises ScheduleError where there is none."""
        if self.schedule not in SCHEDULES:
            raise ScheduleError(
                f"schedule={self.schedule!r} is not known here: choose {', '.join(SCHEDULES)}"
            )
        return SCHEDULES[self.schedule](self.num_ranks, self.num_microbatches)


class LiveRun:
    """One run, started at once. ``state`` says how far it is.

    Args:
        number: to tell runs apart.
        settings: what to run.
        report: called from the run's thread whenever ``state`` has changed.
    """

    def __init__(self, number: int, settings: Settings, report: Callable[["LiveRun"], None]):
        self.number = number
        self.settings = settings
        self.state: State = "running"
        self.result: StepResult | None = None
        self.error: Exception | None = None
        self.ended = threading.Event()  # set after the last report
        self._report = report
        self._guard = threading.Lock()
        self._stopping = False
        self._pipeline: Pipeline | None = None
        threading.Thread(target=self._main, name=f"pipelab run {number}", daemon=True).start()

    def stop(self) -> None:
        """End the run and its processes, wherever it is. May be called twice, from any thread."""
        with self._guard:
            self._stopping = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.close()

    def _main(self) -> None:
        try:
            self._tell("running")
            with _ONE_AT_A_TIME:
                self.result = self._record()
            self._tell("done")
        except Exception as error:  # shown in the widget, and raised by its wait()
            self.error = None if self._stopping else error
            self._tell("stopped" if self._stopping else "error")
        finally:
            self.ended.set()

    def _tell(self, state: State) -> None:
        self.state = state
        self._report(self)

    def _record(self) -> StepResult:
        """The second of two steps: the first, unpaced, has what a first step pays once."""
        model, inputs, targets = _experiment()
        with Pipeline(
            model,
            self.settings.build(),
            loss=torch.nn.functional.cross_entropy,
            optimizer=partial(torch.optim.SGD, lr=0.1),
        ) as pipeline:
            with self._guard:
                self._pipeline = pipeline
                if self._stopping:
                    raise PipelineClosed("stopped before its first step")
            pipeline.step(inputs, targets)
            if self.settings.pace is not None:
                pipeline.pace = self.settings.pace
                pipeline.use(pipeline.schedule)
            return pipeline.step(inputs, targets)


def _experiment() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """The same model and the same batch every time, whatever else this process draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(WIDTH, LAYERS, features=WIDTH)
        return model, torch.randn(ROWS, WIDTH), torch.randint(10, (ROWS,))

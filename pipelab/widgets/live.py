"""A live run: settings become a trace recorded on real ranks, in a separate thread.

The thread owns the pipeline while the run lasts. The processes of a complete run are kept for a
while, in case that the next one has the same ranks; those of any other end with it. A second thread
reads what the ranks are in, and reports bars while they work.
"""

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Literal, NamedTuple

import torch

from pipelab.engine import GradientReport, Pipeline, verify_gradients
from pipelab.errors import PipelabError, PipelineClosed
from pipelab.models import mlp
from pipelab.simulator import Cost
from pipelab.threads import num_threads
from pipelab.trace import Event, Trace, least_disturbed
from pipelab.widgets.kept_pipeline import kept
from pipelab.widgets.live_bars import LiveBars
from pipelab.widgets.settings import LAYERS, Settings

WIDTH = 256  # features of the model of every run
ROWS = 256  # of its batch
# Seconds. A run predicted to take longer is displayed before it has ended; nobody could follow a
# shorter one, and each picture takes the processor from its ranks.
_LONG = 1.5
_UNSEEN = 0.002  # of delay in a step that nobody sees; for more it is recorded again
POLL_SECONDS = 0.01  # between two readings of the ranks
_FIRST_POLL_SECONDS = 0.002  # until there is a first bar, which somebody waits for
REPORT_SECONDS = 0.1  # between two reports of their bars, at least
_REPORTS = 100  # of one run, at most about

State = Literal["running", "done", "stopped", "error"]

_ONE_AT_A_TIME = threading.Lock()  # two runs would measure each other
_LAST_SECONDS = 5.0  # for runs in progress at the end of the interpreter
_running: set["LiveRun"] = set()


class Recorded(NamedTuple):
    """What a run gave: what is shown of its trace, its loss, and its gradients' check if asked."""

    trace: Trace
    loss: float
    gradients: GradientReport | None = None


class LiveRun:
    """One run, started at once. ``state`` is its progress, ``bars`` what was seen of it.

    Args:
        number: of the run, from 1.
        settings: what to run.
        report: called from threads of the run whenever ``state`` or ``bars`` have changed.
    """

    def __init__(self, number: int, settings: Settings, report: Callable[["LiveRun"], None]):
        self.number = number
        self.settings = settings
        self.state: State = "running"
        self.bars: tuple[Event, ...] = ()
        self.now = 0.0  # seconds since the step began
        self.result: Recorded | None = None
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
        except PipelabError:  # the run itself reports what is wrong
            return None

    def stop(self) -> None:
        """End the run and its processes, wherever it is. May be called twice, from any thread."""
        with self._guard:
            self._stopping = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.close()

    def first_look(self, seconds: float) -> Trace | None:
        """The prediction of a run that takes long; any other run is awaited.

        An interrupt meanwhile ends the run: its learner has no Stop button yet.
        """
        if self._is_long:
            return self.predicted
        try:
            self.ended.wait(seconds)
        except KeyboardInterrupt:
            self.stop()
            raise
        return None

    @property
    def _is_long(self) -> bool:
        """Whether there is time to look at it while it runs."""
        return self.predicted is not None and self.predicted.duration > _LONG

    def _main(self) -> None:
        _running.add(self)
        try:
            self._set_state("running")
            with _ONE_AT_A_TIME:
                if self._stopping:  # while it waited for another run: launch nothing
                    raise PipelineClosed("stopped before it began")
                self._record()
        except Exception as error:  # shown in the widget, and raised by its wait()
            self.error = None if self._stopping else error
            self._set_state("stopped" if self._stopping else "error")
        finally:
            _running.discard(self)
            self.ended.set()

    def _set_state(self, state: State) -> None:
        self.state = state
        self._report(self)

    def _record(self) -> None:
        """Launch, run and report; keep the processes of a run that is complete."""
        cost = self.settings.cost  # a pace of other stages is refused before any process starts
        kept_ranks = self._kept(cost)
        pipeline = kept_ranks or self._launched()
        try:
            with self._guard:
                self._pipeline = pipeline
                if self._stopping:
                    raise PipelineClosed("stopped before its first step")
            best, loss = self._recorded(pipeline, cost, is_new=kept_ranks is None)
            gradients = self._verified() if self.settings.verify else None
            with self._guard:  # from now on stop() has nothing to end
                self._pipeline = None
                if self._stopping:
                    raise PipelineClosed("stopped in its last step")
        except BaseException:
            pipeline.close()
            raise
        self.result = Recorded(self.settings.seen(best), loss, gradients)
        self._set_state("done")
        self._keep(pipeline)

    def _keep(self, pipeline: Pipeline) -> None:
        """Let the ranks wait for another run, as they were at their launch.

        That takes a moment, which nobody waits for once the picture is displayed.
        """
        model, _, _ = _experiment()
        with _closed_by_an_error(pipeline):
            pipeline.load_state_dict(model.state_dict())
            kept.keep(pipeline, self.settings.ranks)

    def _kept(self, cost: Cost | None) -> Pipeline | None:
        """The pipeline of the run before, if it has the ranks for this one."""
        pipeline, ready = kept.take(self.settings.ranks), None
        if pipeline is not None:
            with _closed_by_an_error(pipeline):
                self._pace(pipeline, cost)
                ready = pipeline
        return ready

    def _pace(self, pipeline: Pipeline, cost: Cost | None) -> None:
        """Let the ranks follow this run's schedule, at this pace."""
        pipeline.pace = cost
        pipeline.use(self.settings.lowered)

    def _verified(self) -> GradientReport:
        """The schedule's gradients beside those of one process; on ranks of their own."""
        model, inputs, targets = _experiment()
        loss = torch.nn.functional.cross_entropy
        return verify_gradients(model, self.settings.build(), inputs, targets, loss)

    def _launched(self) -> Pipeline:
        """The pipeline, whose paced ranks have one thread each.

        On a busy machine several threads wait for each other at every operation.
        """
        model, _, _ = _experiment()
        settings = self.settings
        with num_threads(1) if settings.pace is not None else nullcontext():
            return Pipeline(
                model,
                settings.lowered,
                loss=torch.nn.functional.cross_entropy,
                optimizer=partial(torch.optim.SGD, lr=0.1),
                replicas=settings.replicas,
                overlap=settings.overlap,
                memory_budget=settings.memory_budget,
            )

    def _recorded(self, pipeline: Pipeline, cost: Cost | None, is_new: bool) -> tuple[Trace, float]:
        """What a step, or a less disturbed one after it, recorded; and the loss of the second step.

        The first step of new ranks, unpaced, pays what is paid once, whatever they run later.
        """
        _, inputs, targets = _experiment()
        losses = []

        def step() -> Trace:
            result = pipeline.step(inputs, targets)
            losses.append(result.loss)
            return result.trace

        if is_new:
            step()
            if cost is not None:
                self._pace(pipeline, cost)
        if self._is_long:
            with _Poller(pipeline, self._seen, self._pause):
                trace = step()
        else:
            trace = step()
            if trace.disturbance.seconds >= _UNSEEN:
                trace = least_disturbed([trace, step()])
        if len(losses) == 1:
            if cost is not None:
                self._pace(pipeline, None)
            losses.append(pipeline.evaluate(inputs, targets))
        return trace, losses[1]

    @property
    def _pause(self) -> float:
        """Seconds between two reports."""
        return max(REPORT_SECONDS, self.predicted.duration / _REPORTS if self.predicted else 0.0)

    def _seen(self, bars: tuple[Event, ...], now: float) -> None:
        self.bars, self.now = bars, now
        self._report(self)


@contextmanager
def _closed_by_an_error(pipeline: Pipeline) -> Iterator[None]:
    """Close a pipeline that waits if its ranks do not outlive the wait."""
    try:
        yield
    except BaseException as error:
        pipeline.close()
        if not isinstance(error, PipelabError):
            raise


@atexit.register
def _end_all() -> None:
    """A thread that is inside PyTorch when the interpreter ends would abort the process."""
    runs = [*_running]
    for run in runs:
        run.stop()
    for run in runs:
        run.ended.wait(_LAST_SECONDS)
    kept.close()


class _Poller:
    """Reads what the ranks are in from a separate thread, for the length of a ``with`` block."""

    def __init__(
        self, pipeline: Pipeline, seen: Callable[[tuple[Event, ...], float], None], pause: float
    ):
        self._pause = pause
        self._bars = LiveBars(lambda: pipeline.begun, pipeline.schedule, pipeline.replicas)
        self._seen = seen
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="pipelab poll", daemon=True)

    def __enter__(self) -> "_Poller":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _main(self) -> None:
        reported = 0.0
        while not self._ended.wait(POLL_SECONDS if reported else _FIRST_POLL_SECONDS):
            clock = time.monotonic()
            self._bars.update(clock)
            bars, now = self._bars.bars(clock)
            if bars and clock - reported >= self._pause:
                reported = clock
                self._seen(bars, now)


@cache
def _experiment() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """The same model and batch every time; ranks train copies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(WIDTH, LAYERS, features=WIDTH)
        return model, torch.randn(ROWS, WIDTH), torch.randint(10, (ROWS,))

"""What every widget with live runs shares: a run, its picture in traits, and the thread rules.

    browser  --run_asked, stop_asked-->  LiveWidget  --settings-->  LiveRun (two threads)  --> ranks
       ^                                   |    ^                      |
       +--------------traits---------------+    +---------report-------+

All state is in traits, so a view that opens late shows the same. Only the latest run is shown.
"""

import threading
from abc import abstractmethod
from collections.abc import Mapping

from traitlets import Bool, Bytes, Dict, Float, Int, Unicode

from pipelab.errors import PipelineClosed
from pipelab.trace import Trace
from pipelab.widgets import run_traits
from pipelab.widgets.export import ExportedWidget
from pipelab.widgets.kept_pipeline import kept
from pipelab.widgets.live import LiveRun
from pipelab.widgets.page import timeline_page
from pipelab.widgets.settings import Settings

LAUNCH_SECONDS = 20.0  # for a first picture, or a last end: the fork server may just be starting


class LiveWidget(ExportedWidget):
    """A widget that starts runs on real ranks and shows the latest. Subclasses say which, and how.

    Traits are set by the threads of a run and by the thread of the browser's messages, so each
    takes the lock for as long as it changes several.
    """

    run_asked = Int(0).tag(sync=True)  # the browser counts up to ask for a run
    stop_asked = Int(0).tag(sync=True)

    state = Unicode("idle").tag(sync=True)  # idle, running, done, error
    data = Bytes(b"").tag(sync=True)
    head = Dict().tag(sync=True)
    ghost_data = Bytes(b"").tag(sync=True)
    ghost_head = Dict().tag(sync=True)
    live = Bool(False).tag(sync=True)  # the bars are what was seen of a run that has not ended
    now = Float(0.0).tag(sync=True)  # seconds since its step began

    # Of the class, so that close() works where a constructor has failed.
    _run: LiveRun | None = None
    _recorded: LiveRun | None = None  # the last run that was complete
    _trace: Trace | None = None
    _closed = False

    def __init__(self, **traits: object):
        self._lock = threading.RLock()
        super().__init__(**traits)
        self.observe(lambda change: self.run(), names=["run_asked"])
        self.observe(lambda change: self.stop(), names=["stop_asked"])

    @property
    def trace(self) -> Trace | None:
        """The trace recorded last."""
        return self._trace

    def run(self) -> None:
        """Start a run with the settings as they are now; a run in progress is stopped for it."""
        with self._lock:
            if self._closed:
                name = type(self).__name__
                raise PipelineClosed(f"this {name} is closed: make a new {name}")
            settings = self._settings()
            if settings is None:
                return
            before = self._run
            number = before.number + 1 if before is not None else 1
            self.state = "running"
            self._run = LiveRun(number, settings, self._report)
        if before is not None:
            before.stop()

    def stop(self) -> None:
        """Stop the run in progress, if there is one."""
        if self._run is not None:
            self._run.stop()

    def close(self) -> None:
        """End the run and its processes, and remove the widget from the page.

        Once: ipywidgets calls it again when a closed widget is collected as garbage, at any moment,
        and the ranks that wait then are another widget's.
        """
        if not self._closed:
            self._closed = True
            if self._run is not None:
                self._run.stop()
                self._run.ended.wait(LAUNCH_SECONDS)
                kept.close()
        super().close()

    def set_state(self, sync_data: Mapping[str, object]) -> None:
        """Take what the browser sent, not in the middle of a report."""
        with self._lock:
            super().set_state(sync_data)

    @abstractmethod
    def _settings(self) -> Settings | None:
        """What to run now; None where nothing can."""

    @abstractmethod
    def _shown(self, run: LiveRun, picture: run_traits.Traits) -> Mapping[str, object]:
        """The traits to set for the state of the latest run; ``picture``: what was seen of it."""

    def _exported(self) -> tuple[Trace, str] | None:
        run = self._recorded
        if run is None or run.result is None:
            return None
        trace, budget = run.result.trace, run.settings.memory_budget
        return trace, timeline_page(trace, run.predicted, budget=budget, show=self.show)

    def _report(self, run: LiveRun) -> None:
        """Show the progress of a run; called from its threads. Only the latest run is shown."""
        with self._lock:  # run() holds it until the run is known as the latest
            if run is not self._run or self._closed:
                return
        picture = run_traits.traits(run)
        with self._lock:
            if run is not self._run:
                return
            if run.state == "done" and run.result is not None:
                self._recorded, self._trace = run, run.result.trace
            self._set(self._shown(run, picture))

    def _set(self, values: Mapping[str, object]) -> None:
        """Set several traits in one message."""
        with self._lock, self.hold_sync():
            for name, value in values.items():
                setattr(self, name, value)

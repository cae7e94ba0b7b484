"""TimelineLab: controls that start live runs on real ranks, and the timelines that they record.

    controls (lab.js)  --traits-->  TimelineLab  --settings-->  LiveRun (two threads)  -->  ranks
         ^                              |   ^                      |
         +-----------traits-------------+   +-----bars, report-----+

All state is in traits, so a view that comes late shows the same. The latest change wins: it stops
the run before it.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import anywidget
from traitlets import Bool, Bytes, Dict, Float, Int, List, Unicode

from pipelab.errors import PipelineClosed
from pipelab.plots import timeline_text
from pipelab.simulator import Cost
from pipelab.trace import Trace
from pipelab.widgets import front, report, words
from pipelab.widgets.live import LiveRun, Settings
from pipelab.widgets.over import Shares, overlay, shares
from pipelab.widgets.still import png, still

PACE = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010)
_SETTINGS = (
    "num_ranks", "num_microbatches", "schedule", "pacing", "latency", "overlap", "replicas",
    "budget",
)  # fmt: skip
_FIRST = 20.0  # seconds for a first picture, or a last end: the fork server may just be starting
_NOTE = "A still picture: run this cell to get the controls."


class TimelineLab(anywidget.AnyWidget):
    """Change ranks, microbatches or schedule, and see real ranks run it again.

    The first display starts a run, as does every change of a setting, here or in the browser.

    Args:
        num_ranks: processes, at most one for each of the model's 16 layers.
        num_microbatches: parts that the batch is cut into.
        schedule: a name of the catalogue, such as ``"gpipe"`` or ``"1f1b"``.
        paced: pad each action to ``pace``; without it, ranks run as fast as this machine can.
        pace: seconds per action of a rank; its latency is paid by every message.
        over: bubble fractions that somebody predicted, by (ranks, microbatches); each is drawn
            over the runs of these sizes, and in the chart of all runs.
        shared: ``pace`` is the whole model's and the whole batch's: each action takes its part,
            so that more ranks, or more microbatches, have less to do at a time.
        budget: bytes that a rank may hold, one of ``words.BUDGETS``; 0: all there is.

    Raises:
        TraceError: ``over`` holds something else.
    """

    _esm = front.script(*front.PARTS, "controls", "chart", "lab")
    _css = front.style("timeline", "lab")

    # From the controls. Choices are words, as a <select> has them.
    num_ranks = Int(4).tag(sync=True)
    num_microbatches = Int(8).tag(sync=True)
    schedule = Unicode("1f1b").tag(sync=True)
    pacing = Unicode("1").tag(sync=True)  # how many times slower than ``pace``, or "off"
    latency = Unicode("0").tag(sync=True)  # of a message, in per cent of F
    overlap = Bool(True).tag(sync=True)
    replicas = Unicode("1").tag(sync=True)
    budget = Unicode("0").tag(sync=True)  # bytes of a rank; "0" for all there is
    run_asked = Int(0).tag(sync=True)  # "run again" counts up
    stop_asked = Int(0).tag(sync=True)
    choices = Dict().tag(sync=True)

    # To the view.
    state = Unicode("idle").tag(sync=True)  # idle, running, done, error
    run_number = Int(0).tag(sync=True)
    summary = Unicode("Nothing has run yet.").tag(sync=True)
    error = Unicode("").tag(sync=True)
    data = Bytes(b"").tag(sync=True)
    head = Dict().tag(sync=True)
    ghost_data = Bytes(b"").tag(sync=True)
    ghost_head = Dict().tag(sync=True)
    live = Bool(False).tag(sync=True)  # the bars are what was seen of a run that goes on
    now = Float(0.0).tag(sync=True)
    figures: List[dict[str, str]] = List().tag(sync=True)
    session: List[dict[str, object]] = List().tag(sync=True)  # every run that was finished
    curves = Dict().tag(sync=True)
    guesses: List[dict[str, object]] = List().tag(sync=True)

    def __init__(
        self,
        num_ranks: int = 4,
        num_microbatches: int = 8,
        schedule: str = "1f1b",
        *,
        paced: bool = True,
        pace: Cost = PACE,
        over: Shares | None = None,
        shared: bool = False,
        budget: int = 0,
    ):
        self._gate = threading.RLock()  # the run's threads and the comm's thread set traits
        self._run: LiveRun | None = None
        self._trace: Trace | None = None
        self._kept: dict[str, object] = {}  # the traits of the last picture that was whole
        self._shown = 0  # the run that it shows
        self._pace, self._over, self._shared = pace, shares(over), shared
        self._closed = False
        super().__init__(
            num_ranks=num_ranks,
            num_microbatches=num_microbatches,
            schedule=schedule,
            pacing="1" if paced else "off",
            budget=str(budget),
            choices=words.choices(pace, shared),
            guesses=words.guesses(self._over),
        )
        self.observe(self._on_setting, names=list(_SETTINGS))
        self.observe(lambda change: self.run(), names=["run_asked"])
        self.observe(lambda change: self.stop(), names=["stop_asked"])

    @property
    def trace(self) -> Trace | None:
        """The trace recorded last."""
        return self._trace

    def run(self) -> None:
        """Start a run with the settings as they are now; one that runs is stopped for it."""
        with self._gate:
            if self._closed:
                raise PipelineClosed("this lab is closed: make a new TimelineLab")
            before, number = self._run, self._run.number + 1 if self._run else 1
            self._run = LiveRun(number, self._settings(), self._report)
        if before is not None:
            before.stop()

    def stop(self) -> None:
        """Stop the run, if one is going."""
        if self._run is not None:
            self._run.stop()

    def wait(self, timeout: float = 60.0) -> Trace:
        """Block until the latest run has ended; return its trace, or raise its error.

        Starts the first run, if there was none.

        Raises:
            TimeoutError: the run did not end in ``timeout`` seconds. It goes on.
            PipelineClosed: the run was stopped.
        """
        if self._run is None:
            self.run()
        until = time.monotonic() + timeout
        while True:  # a change while we wait starts another run
            run = self._run
            assert run is not None
            if not run.ended.wait(max(0.0, until - time.monotonic())):
                raise TimeoutError(f"run {run.number} has not ended after {timeout:g} s")
            if run is self._run:
                break
        if run.error is not None:
            raise run.error
        if run.result is None:
            raise PipelineClosed(f"run {run.number} was stopped: lab.run() starts another")
        return run.result.trace

    def close(self) -> None:
        """End the run and its processes, and take the widget off the page."""
        self._closed = True
        if self._run is not None:
            self._run.stop()
            self._run.ended.wait(_FIRST)
        super().close()

    def set_state(self, sync_data: Mapping[str, object]) -> None:
        """Take what the browser sent, not in the middle of a report."""
        with self._gate:
            super().set_state(sync_data)

    def __repr__(self) -> str:
        return f"TimelineLab({self.num_ranks}, {self.num_microbatches}, {self.schedule!r})"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and beside it a still picture for notebooks that no kernel runs."""
        if self._run is None and not self._closed:
            self.run()
        watched = self._run.first_look(_FIRST) if self._run is not None else None
        shown = self._trace or watched
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None and shown is not None:
            above = overlay(shown, self._over)
            bundle[0].update(still(shown, png(shown, above.line), above.words, _NOTE))
            lines = timeline_text(shown), above.words
            bundle[0]["text/plain"] = "\n".join(filter(None, lines))
        return bundle

    def _settings(self) -> Settings:
        pace = None
        if self.pacing != "off":
            parts = self.num_ranks * self.num_microbatches if self._shared else 1
            pace = words.part(self._pace, parts)
            pace = words.slowed(pace, float(self.pacing), float(self.latency) / 100)
        return Settings(
            self.num_ranks, self.num_microbatches, self.schedule, pace, self.overlap,
            int(self.replicas), int(self.budget) or None,
            guess=self._over.get((self.num_ranks, self.num_microbatches)),
        )  # fmt: skip

    def _on_setting(self, change: object) -> None:
        """Run, unless exactly this runs already: one message may change several settings."""
        run = self._run
        if run is None or run.ended.is_set() or run.settings != self._settings():
            self.run()

    def _report(self, run: LiveRun) -> None:
        """Show how far a run is; called from its threads. Only the latest run is shown."""
        with self._gate:  # run() holds it until the run is known as the latest
            if run is not self._run or self._closed:
                return
        shown = report.traits(run)
        with self._gate:
            if run is not self._run:
                return
            if run.state == "done" and run.result is not None:
                self._trace, self._shown, self._kept = run.result.trace, run.number, shown
                shown = {**shown, "session": [*self.session, words.point(run, self._trace)]}
            elif run.state != "running":
                shown = (self._kept or shown) | {"live": False}
            shown = {"error": "", **shown, **words.status(run, self._shown)}
            with self.hold_sync():
                for name, value in {**shown, "run_number": run.number}.items():
                    setattr(self, name, value)
        if run.state == "done":  # after the picture: it takes a moment, and changes little
            threading.Thread(target=self._show_theory, args=(run,), daemon=True).start()

    def _show_theory(self, run: LiveRun) -> None:
        s = run.settings
        found = words.curves(s.schedule, s.num_ranks, s.num_microbatches)
        with self._gate:
            if run is self._run:
                self.curves = found

"""TimelineLab: controls that start live runs on real ranks, and the timelines that they record.

The latest change wins: it stops the run before it. What is shared with the editor, the run and its
threads, is in ``live_widget``.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from traitlets import Bool, Dict, Int, List, Unicode

from pipelab.errors import PipelineClosed
from pipelab.notice import noticed
from pipelab.plots import timeline_text
from pipelab.simulator import Cost
from pipelab.story import all_reworded
from pipelab.trace import Trace
from pipelab.widgets import bundle, lab_text
from pipelab.widgets.data import lanes, timeline_state
from pipelab.widgets.live import LiveRun
from pipelab.widgets.live_widget import LAUNCH_SECONDS, LiveWidget
from pipelab.widgets.overlay import Shares, overlay, shares
from pipelab.widgets.run_traits import Traits
from pipelab.widgets.settings import PACE, Settings, View, part, slowed
from pipelab.widgets.static_picture import png, still
from pipelab.widgets.stored_state import stored

_SETTINGS = (
    "num_ranks", "num_microbatches", "schedule", "pacing", "latency", "overlap", "replicas",
    "budget",
)  # fmt: skip
_NOTE = (
    "A still picture. Choose Run > Run All Above Selected Cell, then run this cell to get the "
    "controls."
)


class TimelineLab(LiveWidget):
    """Change ranks, microbatches or schedule, and see real ranks run it again.

    The first display starts a run, and so does every change of a setting, here or in the browser.

    Args:
        num_ranks: processes, at most one for each of the model's 16 layers.
        num_microbatches: parts that the batch is split into.
        schedule: a name of the catalogue, such as ``"gpipe"`` or ``"1f1b"``.
        paced: pad each action to ``pace``; without it, ranks run as fast as this machine can.
        pace: seconds per action of a rank; its latency is paid by every message.
        over: predicted bubble fractions, by (ranks, microbatches); each is drawn
            over the runs of these sizes, and in the chart of all runs.
        shared: ``pace`` is the whole model's and the whole batch's: each action takes its part,
            so that more ranks, or more microbatches, have less to do at a time.
        story: a name in story.py: everything is shown in its words, without chart, and the
            controls are ranks, microbatches and ``schedules``, by their names in the story.
        view: what to show of each trace, predicted or recorded.
        budget: bytes that a rank may hold, one of ``lab_text.BUDGETS``; 0: no limit.
        show: what is drawn beside boxes and idle time at first, as in ``Timeline``.

    Raises:
        TraceError: ``over`` holds something else, or ``show`` another name.
    """

    _esm = bundle.script("lab")
    _css = bundle.style("timeline", "lab")

    # From the controls. Choices are words, as a <select> has them.
    num_ranks = Int(4).tag(sync=True)
    num_microbatches = Int(8).tag(sync=True)
    schedule = Unicode("1f1b").tag(sync=True)
    pacing = Unicode("1").tag(sync=True)  # how many times slower than ``pace``, or "off"
    latency = Unicode("0").tag(sync=True)  # of a message, in per cent of F
    overlap = Bool(True).tag(sync=True)
    replicas = Unicode("1").tag(sync=True)
    budget = Unicode("0").tag(sync=True)  # bytes of a rank; "0" for no limit
    choices = Dict().tag(sync=True)
    start = Dict().tag(sync=True)  # the settings to which "Reset" goes back

    # To the view.
    run_number = Int(0).tag(sync=True)
    title = Unicode("").tag(sync=True)  # what ran, or runs
    summary = Unicode("Nothing has run yet.").tag(sync=True)  # and its figures, for screen readers
    error = Unicode("").tag(sync=True)
    figures: List[dict[str, str]] = List().tag(sync=True)
    session: List[dict[str, object]] = List().tag(sync=True)  # every complete run
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
        show: Sequence[str] = (),
        story: str = "",
        schedules: Mapping[str, str] | None = None,
        view: View | None = None,
    ):
        self._kept: dict[str, object] = {}  # the traits of the last complete picture
        self._shown_run = 0  # the number of the run in the picture
        self._pace = pace
        self._over = shares(over)
        self._shared = shared
        self._view = view
        self._story, self._titles = story, schedules or {}
        self._esm = bundle.script("lab", story)
        choices = lab_text.story_choices(self._titles) if story else lab_text.choices(pace, shared)
        super().__init__(
            num_ranks=num_ranks,
            num_microbatches=num_microbatches,
            schedule=schedule,
            pacing="1" if paced else "off",
            budget=str(budget),
            choices=all_reworded(choices, story),
            guesses=lab_text.guesses(self._over),
            show=lanes(show),
        )
        self.start = {name: getattr(self, name) for name in _SETTINGS}
        self.observe(self._on_setting, names=list(_SETTINGS))

    def wait(self, timeout: float = 60.0) -> Trace:
        """Block until the latest run has ended; return its trace, or raise its error.

        Starts the first run, if there was none.

        Raises:
            TimeoutError: the run did not end in ``timeout`` seconds. It continues.
            PipelineClosed: the run was stopped.
        """
        if self._run is None:
            self.run()
        until = time.monotonic() + timeout
        while True:  # a change while we wait starts another run
            run = self._run
            assert run is not None
            with noticed(f"run {run.number}: starting its processes, and recording a step"):
                ended = run.ended.wait(max(0.0, until - time.monotonic()))
            if not ended:
                raise TimeoutError(f"run {run.number} has not ended after {timeout:g} s")
            if run is self._run:
                break
        if run.error is not None:
            raise run.error
        if run.result is None:
            raise PipelineClosed(f"run {run.number} was stopped: lab.run() starts another")
        return run.result.trace

    def __repr__(self) -> str:
        return f"TimelineLab({self.num_ranks}, {self.num_microbatches}, {self.schedule!r})"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and a static picture for notebooks without a kernel."""
        if self._run is None and not self._closed:
            self.run()
        predicted = self._run.first_look(LAUNCH_SECONDS) if self._run is not None else None
        shown = self._trace or predicted
        outputs = super()._repr_mimebundle_(**options)
        if outputs is not None and shown is not None:
            above = overlay(shown, self._over)
            outputs[0].update(still(shown, png(shown, above.line, self.show), above.words, _NOTE))
            budget = int(self.budget) or None
            state = timeline_state(shown, self._over, budget=budget, show=self.show)
            outputs[0].update(stored(state, shown.setting.story))
            lines = timeline_text(shown), above.words
            outputs[0]["text/plain"] = "\n".join(filter(None, lines))
        return outputs

    def _settings(self) -> Settings:
        """What the controls say."""
        return Settings(
            num_ranks=self.num_ranks,
            num_microbatches=self.num_microbatches,
            schedule=self.schedule,
            pace=self._paced(),
            overlap=self.overlap,
            replicas=int(self.replicas),
            memory_budget=int(self.budget) or None,
            guess=self._over.get((self.num_ranks, self.num_microbatches)),
            view=self._view,
            title=self._titles.get(self.schedule, ""),
        )

    def _paced(self) -> Cost | None:
        """What an action takes by the controls; None: as fast as this machine can."""
        if self.pacing == "off":
            return None
        parts = self.num_ranks * self.num_microbatches if self._shared else 1
        pace = part(self._pace, parts)
        return slowed(pace, float(self.pacing), float(self.latency) / 100)

    def _on_setting(self, change: object) -> None:
        """Run, unless a run with these settings is in progress: one message may change several."""
        run = self._run
        if run is None or run.ended.is_set() or run.settings != self._settings():
            self.run()

    def _shown(self, run: LiveRun, picture: Traits) -> Mapping[str, object]:
        """The state in words, and the picture: of this run, or of the last that was complete."""
        shown = {**picture}
        if run.state == "done" and run.result is not None:
            self._kept, self._shown_run = picture, run.number
            if not self._story:  # which has no chart of bubbles
                shown["session"] = [*self.session, lab_text.point(run, run.result.trace)]
        elif run.state != "running":
            shown = (self._kept or shown) | {"live": False}
        status = lab_text.status(run, self._shown_run)
        own = {n: all_reworded(value, self._story) for n, value in (shown | status).items()}
        return {"error": "", **own, "run_number": run.number}

    def _report(self, run: LiveRun) -> None:
        super()._report(run)
        if (
            run.state == "done" and not self._story
        ):  # after the picture: it takes a moment, and changes little
            threading.Thread(target=self._show_theory, args=(run,), daemon=True).start()

    def _show_theory(self, run: LiveRun) -> None:
        s = run.settings
        found = lab_text.curves(s.schedule, s.num_ranks, s.num_microbatches)
        with self._lock:
            if run is self._run:
                self.curves = found

"""ScheduleEditor: move tokens, see at once whether the schedule can run, and run it.

tokens (editor.js)  --rows-->  lower  --words, marks-->  the grid
|  it can run: its prediction
+--run_asked-->  LiveRun  -->  its recording
"""

import threading
from collections.abc import Mapping
from typing import Any

import anywidget
from traitlets import Bool, Bytes, Dict, Float, Int, List, Unicode

from pipelab.errors import PipelabError, ScheduleError
from pipelab.plots.terminal import number, percent
from pipelab.schedules import Schedule
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.widgets import front, report
from pipelab.widgets.data import head, packed
from pipelab.widgets.live import LiveRun, Settings
from pipelab.widgets.words import error_text

PACE = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010)


class ScheduleEditor(anywidget.AnyWidget):
    """A grid of tokens to drag, or to move with the keyboard; its value is ``schedule``.

    While one edits, ``lower`` judges, and what it refuses is said in words, with the tokens
    marked. A schedule that can run shows its prediction; "Run it" records it on real ranks.

    Args:
        schedule: to start from; it may be one that cannot run.
    """

    _esm = front.script(*front.PARTS, "controls", "editor")
    _css = front.style("timeline", "editor")

    rows: List[list[str]] = List().tag(sync=True)  # tokens, one row for each rank
    run_asked = Int(0).tag(sync=True)
    stop_asked = Int(0).tag(sync=True)

    state = Unicode("idle").tag(sync=True)  # idle, running
    verdict = Unicode("").tag(sync=True)
    marks: List[str] = List().tag(sync=True)  # tokens to blame
    can_run = Bool(False).tag(sync=True)
    data = Bytes(b"").tag(sync=True)
    head = Dict().tag(sync=True)
    ghost_data = Bytes(b"").tag(sync=True)
    ghost_head = Dict().tag(sync=True)
    live = Bool(False).tag(sync=True)
    now = Float(0.0).tag(sync=True)

    def __init__(self, schedule: Schedule):
        self._gate = threading.RLock()  # the run's threads and the comm's thread set traits
        self._run: LiveRun | None = None
        self._trace: Trace | None = None
        super().__init__(rows=[[action.token for action in row] for row in schedule.ranks])
        self._judge()
        self.observe(lambda change: self._edited(), names=["rows"])
        self.observe(lambda change: self.run(), names=["run_asked"])
        self.observe(lambda change: self.stop(), names=["stop_asked"])

    @property
    def schedule(self) -> Schedule:
        """The schedule as it stands. Raises ScheduleError for a row with what is no token."""
        return Schedule.from_tokens(self.rows)

    @property
    def trace(self) -> Trace | None:
        """The trace recorded last, of the schedule as it was then."""
        return self._trace

    def run(self) -> None:
        """Record the schedule on real ranks, if it can run."""
        with self._gate:
            self.stop()
            if not self.can_run:
                return
            schedule = self.schedule
            settings = Settings(
                schedule.num_ranks, schedule.num_microbatches, schedule.name, PACE, own=schedule
            )
            self.state = "running"
            self._run = LiveRun(1, settings, self._report)

    def stop(self) -> None:
        """Stop the run, if one is going."""
        if self._run is not None:
            self._run.stop()

    def close(self) -> None:
        """End the run and its processes, and take the widget off the page."""
        run, self._run = self._run, None
        if run is not None:
            run.stop()
            run.ended.wait(20.0)
        super().close()

    def set_state(self, sync_data: Mapping[str, object]) -> None:
        """Take what the browser sent, not in the middle of a report."""
        with self._gate:
            super().set_state(sync_data)

    def __repr__(self) -> str:
        return f"ScheduleEditor({len(self.rows)} ranks, {sum(map(len, self.rows))} actions)"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and the grid as text for notebooks that no kernel runs."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            rows = (f"rank {rank}  {' '.join(row)}" for rank, row in enumerate(self.rows))
            bundle[0]["text/plain"] = "\n".join(rows)
        return bundle

    def _edited(self) -> None:
        """Another schedule: a run of the one before is over."""
        with self._gate:
            run, self._run = self._run, None
            if run is not None:
                run.stop()
            self._judge()

    def _judge(self) -> None:
        """Say whether it can run, and show what it is predicted to do, or what is wrong."""
        try:
            schedule = self.schedule
            trace = simulate(lower(schedule), PACE)
        except PipelabError as error:
            cells = error.cells if isinstance(error, ScheduleError) else ()
            marks = sorted({self.rows[rank][position] for rank, position in cells})
            found = {"verdict": str(error), "can_run": False, "marks": marks}
        else:
            text = (
                f"It can run: {number(schedule.num_ranks, 'rank')}, "
                f"{number(schedule.num_microbatches, 'microbatch')}, "
                f"predicted bubble {percent(trace.bubble_fraction, 1)}."
            )
            found = {"verdict": text, "can_run": True, "marks": []}
            found |= {"data": packed(trace.events), "head": head(trace), "ghost_head": {}}
        self._set({**found, "live": False, "state": "idle"})

    def _report(self, run: LiveRun) -> None:
        """Show how far a run is; called from its threads."""
        shown = report.traits(run)
        with self._gate:
            if run is not self._run:
                return
            shown["state"] = "running" if run.state == "running" else "idle"
            if run.state == "done" and run.result is not None:
                self._trace = run.result.trace
                measured = percent(self._trace.bubble_fraction, 1)
                shown["verdict"] = f"It ran: bubble {measured} measured on real ranks."
            elif run.state == "error":
                shown |= {"verdict": error_text(run.error), "live": False}
            elif run.state == "stopped":
                shown |= {"verdict": "The run was stopped.", "live": False}
            self._set({name: v for name, v in shown.items() if name != "figures"})

    def _set(self, values: Mapping[str, object]) -> None:
        with self._gate, self.hold_sync():
            for name, value in values.items():
                setattr(self, name, value)

"""ScheduleEditor: move tokens, see at once whether the schedule can run, and run it.

tokens (editor.js)  --rows-->  lower  --message, marks-->  the grid
|  it can run: its prediction
+--run_asked-->  LiveRun  -->  its recording
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from traitlets import Bool, Int, List, Unicode

from pipelab.errors import PipelabError
from pipelab.schedules import Schedule
from pipelab.schedules.communication import lower
from pipelab.simulator import simulate
from pipelab.simulator.stamp import stamped
from pipelab.trace import Trace
from pipelab.widgets import bundle
from pipelab.widgets.data import head, lanes, packed, subject
from pipelab.widgets.editor_text import judged, marked
from pipelab.widgets.lab_text import error_text
from pipelab.widgets.live import LiveRun, Recorded
from pipelab.widgets.live_widget import LiveWidget
from pipelab.widgets.page import timeline_page
from pipelab.widgets.run_traits import Traits
from pipelab.widgets.settings import PACE, Settings
from pipelab.widgets.stored_state import NAMES, stored
from pipelab.words import percent, unbroken


class ScheduleEditor(LiveWidget):
    """A grid of tokens to drag, or to move with the keyboard; its value is ``schedule``.

    Each edit is checked by ``lower``; what it refuses is explained, with the tokens marked. A
    schedule that can run shows its prediction; "Run it" records it on real ranks.

    Args:
        schedule: to start from; it may be one that cannot run.
        show: what is drawn beside boxes and idle time at first, as in ``Timeline``:
            ``["memory"]`` follows each edit with what the ranks hold.
    """

    _esm = bundle.script("editor")
    _css = bundle.style("timeline", "editor")

    rows: List[list[str]] = List().tag(sync=True)  # tokens, one row for each rank
    message = Unicode("").tag(sync=True)  # whether it can run, or what is wrong
    marks: List[str] = List().tag(sync=True)  # tokens that the message is about
    can_run = Bool(False).tag(sync=True)
    checked = Int(0).tag(sync=True)  # how many edits have been answered
    stamp: List[int] = List().tag(sync=True)  # how often asked for, the period, microbatches

    def __init__(self, schedule: Schedule, *, show: Sequence[str] = (), **traits: object):
        super().__init__(rows=schedule.tokens, show=lanes(show), **traits)
        self._plan: Trace | None = None  # the prediction that is shown; None where a run is
        self._check()
        self.observe(lambda change: self._edited(), names=["rows"])
        self.observe(lambda change: self._stamped(*change["new"][1:]), names=["stamp"])

    @property
    def schedule(self) -> Schedule:
        """The schedule as it is now. Raises ScheduleError where a row holds something else."""
        return Schedule.from_tokens(self.rows)

    @property
    def csv(self) -> str:
        """The schedule as a file for torchtitan's ``pipeline_parallel_schedule_csv``.

        That is torch's compute-only CSV. Raises ScheduleError where it cannot run.
        """
        return lower(self.schedule).compute.to_csv()

    def stamp_block(self, period: int, num_microbatches: int) -> None:
        """Repeat what is done for microbatch 0, each microbatch a period later than the last.

        The pattern is the order of microbatch 0's tokens, as tight as they can run; see
        ``pipelab.schedules.from_block``.

        Args:
            period: slots from one microbatch to the next; F, I and W take one slot, B two.

        Raises:
            ScheduleError: two actions collide, which names them; or microbatch 0 cannot run.
        """
        schedule = stamped(self.schedule, period, num_microbatches)
        self.rows = [[action.token for action in row] for row in schedule.ranks]

    @property
    def verdict(self) -> str:
        """The former name of ``message``; it goes with the next release."""
        text = "ScheduleEditor.verdict is now ScheduleEditor.message"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self.message

    def __repr__(self) -> str:
        return f"ScheduleEditor({len(self.rows)} ranks, {sum(map(len, self.rows))} actions)"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and for pages without a kernel the grid as text, and what was shown."""
        outputs = super()._repr_mimebundle_(**options)
        if outputs is not None:
            rows = (f"rank {rank}  {' '.join(row)}" for rank, row in enumerate(self.rows))
            outputs[0]["text/plain"] = "\n".join(rows)
            if self.head:
                outputs[0].update(stored({name: getattr(self, name) for name in NAMES}))
        return outputs

    def _edited(self) -> None:
        """Another schedule: stop the run of the one before, and show it no more."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                run.stop()
            self._check()

    def _stamped(self, period: int, num_microbatches: int) -> None:
        """Stamp a block from the page; a refusal is the message."""
        try:
            self.stamp_block(period, num_microbatches)
        except PipelabError as error:
            self._set({"message": str(error)})

    def _check(self) -> None:
        """Say whether it can run, and show what it is predicted to do, or what is wrong."""
        found: dict[str, object] = {"live": False, "state": "idle", "checked": self.checked + 1}
        try:
            schedule = self.schedule
            trace = simulate(lower(schedule), PACE)
        except PipelabError as error:
            found |= {"message": str(error), "can_run": False, "marks": marked(self.rows, error)}
        else:
            text = judged(schedule, trace, PACE)
            found |= {"message": text, "can_run": True, "marks": []}
            self._plan = trace
            shown = head(trace) | {"sentence": unbroken(subject(trace))}  # the message says more
            found |= {"data": packed(trace.events), "head": shown, "ghost_head": {}}
        self._set(found)

    def _exported(self) -> tuple[Trace, str] | None:
        """What is shown: the prediction, or the run once there is one."""
        if (plan := self._plan) is None:
            return super()._exported()
        return plan, timeline_page(plan, show=self.show)

    def _settings(self) -> Settings | None:
        """The schedule as it is now, if it can run."""
        if not self.can_run:
            return None
        schedule = self.schedule
        return Settings(
            num_ranks=schedule.num_ranks,
            num_microbatches=schedule.num_microbatches,
            schedule=schedule.name,
            pace=PACE,
            own=schedule,
        )

    def _shown(self, run: LiveRun, picture: Traits) -> Mapping[str, object]:
        """What the run is doing, and in the end what it says of the schedule."""
        found = {name: value for name, value in picture.items() if name != "figures"}
        found["state"] = "running" if run.state == "running" else "idle"
        if run.state == "done" and run.result is not None:
            found |= self._ran(run, run.result)
        elif run.state == "error":
            found |= {"message": error_text(run.error), "live": False}
        elif run.state == "stopped":
            found |= {"message": "The run was stopped.", "live": False}
        return found

    def _ran(self, run: LiveRun, result: Recorded) -> Mapping[str, object]:
        """What a complete run says, in the message below the grid."""
        self._plan = None
        measured = percent(result.trace.bubble_fraction, 1)
        return {"message": f"It ran: bubble {measured} measured on real ranks."}

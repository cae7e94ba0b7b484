"""Levels: the twelve puzzles in a notebook, where a solution runs on real ranks.

tokens (levels.js)  --rows, level, asked-->  level_answers  --figures, stars, advice-->  the page
|  it can run: its prediction
+--run_asked-->  LiveRun, paced with the level's costs  -->  its recording, its gradients checked
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from traitlets import Bool, Dict, Float, Int, List, Unicode

from pipelab.errors import PipelabError
from pipelab.levels import LEVELS
from pipelab.levels.level import Level
from pipelab.levels.puzzles import level_of
from pipelab.levels.real_runs import gradients_text
from pipelab.widgets import bundle
from pipelab.widgets.editor import ScheduleEditor
from pipelab.widgets.level_answers import (
    USUAL_BLOCK,
    YOUR_ORDER,
    Asked,
    Question,
    answer,
    contents,
)
from pipelab.widgets.live import LiveRun, Recorded
from pipelab.widgets.settings import Settings
from pipelab.words import percent, time_text


class Levels(ScheduleEditor):
    """Twelve puzzles: order the tokens so that a step reaches its goal, or par.

    Each has three hints, a coach that makes one move and says why (then the third star is for
    another time), and the reason of each bubble.
    "Run it" runs the order as it is on real ranks, paced with the level's times, and compares every
    gradient with one process. Progress is kept by the browser.

    Args:
        level: to begin with: a number from 1 to 12, or a name.

    Raises:
        PipelabError: there is no such level.
    """

    _esm = bundle.script("levels")
    _css = bundle.style("timeline", "editor", "levels")

    contents: List[dict[str, object]] = List().tag(sync=True)  # what each level says
    level = Unicode("").tag(sync=True)  # the name of the one that is played
    asked: List[object] = List().tag(sync=True)  # how often, what, and which bubble
    figures: List[list[str]] = List().tag(sync=True)  # step, goal, par ...
    stars = Int(0).tag(sync=True)  # of the order as it is
    coached = Bool(False).tag(sync=True)  # the coach has moved since the level began
    solved = Unicode("").tag(sync=True)  # what was built, once it earns a star
    advice = Unicode("").tag(sync=True)  # of the coach, or why a bubble is there
    pointed: List[str] = List().tag(sync=True)  # tokens that the advice is about
    at = Float(-1.0).tag(sync=True)  # seconds: where the picture is to look
    undo = Unicode("step").tag(sync=True)  # of other rows: a step, none, or joined to the last one
    progress = Dict().tag(sync=True)  # the most stars of each level, by its name

    usual: List[str] = List().tag(sync=True)  # period and microbatches of a block, at first
    rest = Int(0).tag(sync=True)  # ms without an edit before it is judged: a level is small
    _taking = False

    def __init__(self, level: int | str = 1):
        first = _chosen(level)
        super().__init__(
            first.schedule_at_start,
            level=first.name,
            contents=contents(),
            usual=[*USUAL_BLOCK],
            show=["memory", "prediction"],
        )
        self.observe(lambda change: self._begin(), names=["level"])
        self.observe(lambda change: self._asked_for(*change["new"][1:]), names=["asked"])

    def __repr__(self) -> str:
        return f"Levels({self.level!r}, {self.stars} stars)"

    def _edited(self) -> None:
        if not self._taking:  # else the rows are an answer's
            super()._edited()

    def _begin(self, rows: list[list[str]] | None = None, coached: bool = False) -> None:
        """Another level, or this one again: its start or given rows, and nothing from before."""
        if self._taking:
            return
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                run.stop()
            self._ask(Question(self.level, rows, "begin", coached=coached))

    def _asked_for(
        self,
        asked: Asked,
        place: int = 0,
        level: str = "",
        rows: list[list[str]] | None = None,
        coached: bool = False,
    ) -> None:
        """What a button of the page asks for."""
        if asked != "begin":
            now = None if asked == "again" else self.rows
            self._ask(Question(self.level, now, asked, place, coached=self.coached))
            return
        with self._lock:
            self._taking, self.level = True, level
            self._taking = False
            self._begin(rows, coached)

    def _stamped(self, period: int, num_microbatches: int) -> None:
        stamp = 0, period, num_microbatches
        self._ask(Question(self.level, self.rows, stamp=stamp, coached=self.coached))

    def _check(self) -> None:
        self._ask(Question(self.level, self.rows, coached=self.coached))

    def _ask(self, question: Question) -> None:
        """Answer, and show that; rows of the answer are not judged again."""
        found: dict[str, object] = {"live": False, "checked": self.checked + 1}
        if self._run is None:
            found["state"] = "idle"
        with self._lock:
            self._taking = True
            try:
                self._set({**found, **answer(question)})
            finally:
                self._taking = False

    def _settings(self) -> Settings | None:
        if not self.can_run:
            return None
        level, schedule = level_of(self.level), replace(self.schedule, name=YOUR_ORDER)
        parts = schedule.num_stages // schedule.num_ranks
        return Settings(
            num_ranks=schedule.num_ranks,
            num_microbatches=schedule.num_microbatches,
            schedule=level.title,
            pace=level.cost_of(schedule) if level.slow else level.cost(parts),
            own=schedule,
            verify=True,
        )

    def _ran(self, run: LiveRun, result: Recorded) -> Mapping[str, object]:
        """What a complete run says of the order."""
        return {"advice": _recording_text(run, result), "pointed": [], "at": -1.0}

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        outputs = super()._repr_mimebundle_(**options)
        if outputs is not None:
            level = level_of(self.level)
            outputs[0]["text/plain"] = f"{level.title}\n{outputs[0]['text/plain']}"
        return outputs


def _chosen(level: int | str) -> Level:
    if isinstance(level, int) and 1 <= level <= len(LEVELS):
        return LEVELS[level - 1]
    found = next((each for each in LEVELS if each.name == level), None)
    if found is None:
        names = ", ".join(each.name for each in LEVELS)
        raise PipelabError(f"there is no level {level!r}: give a number from 1 to 12, or {names}")
    return found


def _recording_text(run: LiveRun, result: Recorded) -> str:
    """What the recording says: times, and the gradients."""
    trace, report, predicted = result.trace, result.gradients, run.predicted
    took, bubble = time_text(trace.duration), percent(trace.bubble_fraction, 1)
    lines = [f"It ran on {trace.num_ranks} real ranks: {took}, bubble {bubble}."]
    if predicted is not None:
        lines[0] = f"{lines[0][:-1]}; predicted {time_text(predicted.duration)}."
    lines.append(trace.warning)
    if report is not None:
        rows = report.parameters
        right = gradients_text(sum(row.exact for row in rows), len(rows))
        lines.append(right if report.ok else f"Its gradients are wrong:\n{report}")
    return " ".join(filter(None, lines))

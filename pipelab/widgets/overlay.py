"""What can be drawn over a timeline: another trace, a schedule to predict, or a guessed number.

Timeline(recorded, over=simulate(schedule, cost))    predicted over recorded
Timeline(recorded, over=gpipe(4, 8))                 predicted from what the recording's took
Timeline(recorded, over=0.35)                        "I think it takes 0.35 s"
Timeline(recorded, over="30 %")                      "I think 30 % is bubble"
Timeline(recorded, over={(4, 8): 0.3})               the same, of a run of 4 ranks, 8 microbatches
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipelab.errors import TraceError
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, compare
from pipelab.trace.differences import starting_with
from pipelab.trace.metrics import busy
from pipelab.widgets.tables import Table, comparison_table, table
from pipelab.words import change, number, percent, points, time_text

Shares = Mapping[tuple[int, int], float]  # bubble fractions, by (ranks, microbatches)
Over = Trace | Schedule | float | str | Shares

_FARTHEST = 4.0  # durations: a line farther away would make the trace too small
_PERCENT = re.compile(r"\s*([0-9]+(?:[.,][0-9]+)?)\s*%\s*")


class Overlay(NamedTuple):
    """What is drawn over a trace, and the difference in numbers.

    Attributes:
        trace: another one, drawn as a ghost.
        line: seconds and words: where the step would end, had the guess been right.
        numbers: a table.
        words: a guess and what was measured, in a sentence.
    """

    trace: Trace | None = None
    line: tuple[float, str] | None = None
    numbers: Table | None = None
    words: str = ""

    @property
    def guess(self) -> dict[str, object] | None:
        """The line as the front end reads it."""
        return None if self.line is None else {"time": self.line[0], "text": self.line[1]}


def overlay(trace: Trace, over: Over | None) -> Overlay:
    """What to draw. Raises TraceError for what is no trace, schedule, time or per cent."""
    if over is None:
        return Overlay()
    if isinstance(over, Schedule):
        over = _predicted(over, trace)
    if isinstance(over, Trace):
        same = over.source == trace.source
        names = ("other run", "this run") if same else (str(over.source), str(trace.source))
        over = starting_with(over, trace)
        return Overlay(over, None, comparison_table(compare(over, trace), names))
    if isinstance(over, Mapping):
        s = trace.setting
        share = shares(over).get((s.ranks // s.replicas, s.microbatches))
        return Overlay() if share is None else _guessed_share(trace, share)
    if isinstance(over, str):
        return _guessed_share(trace, _read(over))
    if isinstance(over, bool) or not isinstance(over, (int, float)) or not 0 < over < float("inf"):
        raise TraceError(
            f"over={over!r} cannot be drawn over a trace: give a Trace, a Schedule, seconds "
            f"such as 0.35, or a share such as '30 %' or {{(4, 8): 0.3}}"
        )
    return _guessed_seconds(trace, over)


def _predicted(schedule: Schedule, trace: Trace) -> Trace:
    """A schedule at what the actions of a trace took."""
    stages = max((e.stage for e in trace.events), default=-1) + 1
    if stages != schedule.num_stages:
        raise TraceError(
            f"over={schedule.name} cuts the model into {number(schedule.num_stages, 'stage')}, the "
            f"trace has {stages}:\nwhat its actions took says nothing of stages of another size"
        )
    return simulate(schedule, Cost.from_trace(trace))


def shares(over: Shares | None) -> dict[tuple[int, int], float]:
    """Guessed bubble fractions by (ranks, microbatches). Raises TraceError for anything else."""
    if over is not None and not isinstance(over, Mapping):
        raise TraceError(
            f"over={over!r}: give bubble fractions by ranks and microbatches, as {{(4, 8): 0.3}}"
        )
    found = dict(over or {})
    for key, share in found.items():
        sizes = isinstance(key, tuple) and len(key) == 2 and all(isinstance(n, int) for n in key)
        if not sizes or isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TraceError(
                f"{{{key!r}: {share!r}}} is not a guess: give the bubble fraction of a run by its "
                f"ranks and microbatches, such as {{(4, 8): 0.3}} for 30 %"
            )
        if not 0 <= share <= 1:
            raise TraceError(f"{{{key!r}: {share!r}}}: a bubble fraction is between 0 and 1")
    return found


def _read(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    share = float(match[1].replace(",", ".")) / 100 if match else 1.0
    if share >= 1:
        raise TraceError(f"over={text!r}: a share of idle time is written '30 %', below 100 %")
    return share


def _guessed_seconds(trace: Trace, seconds: float) -> Overlay:
    guess, took = time_text(seconds), time_text(trace.duration)
    numbers = _numbers([["duration", guess, took, change(trace.duration / seconds)]])
    words = f"You predicted {guess}; it took {took}."
    return Overlay(None, _line(trace, seconds, guess), numbers, words)


def _guessed_share(trace: Trace, share: float) -> Overlay:
    """A bubble fraction; the line is where the step would end with it."""
    work = sum(busy(trace.events, trace.num_ranks)) / trace.num_ranks
    guess, was = f"{percent(share)} bubble", percent(trace.bubble_fraction, 1)
    numbers = _numbers([["bubble", percent(share, 1), was, points(trace.bubble_fraction - share)]])
    line = _line(trace, work / (1 - share), guess) if share < 1 else None
    return Overlay(None, line, numbers, f"You predicted {guess}; it was {was}.")


def _line(trace: Trace, seconds: float, guess: str) -> tuple[float, str] | None:
    near = seconds <= _FARTHEST * trace.duration
    return (seconds, f"your prediction: {guess}") if near else None


def _numbers(rows: list[list[str]]) -> Table:
    return table("Your prediction", ["", "predicted", "it was", "difference"], rows)

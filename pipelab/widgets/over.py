"""What can lie over a timeline: another trace, a schedule to predict, or a number that one guessed.

Timeline(recorded, over=simulate(schedule, cost))    predicted over recorded
Timeline(recorded, over=gpipe(4, 8))                 predicted from what the recording's took
Timeline(recorded, over=0.35)                        "I think it takes 0.35 s"
Timeline(recorded, over="30 %")                      "I think 30 % is bubble"
"""

import re
from typing import NamedTuple

from pipelab.errors import TraceError
from pipelab.plots.terminal import percent, time_text
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, compare
from pipelab.trace.metrics import busy
from pipelab.widgets.tables import Table, comparison_table, table

Over = Trace | Schedule | float | str

_PERCENT = re.compile(r"\s*([0-9]+(?:[.,][0-9]+)?)\s*%\s*")


class Overlay(NamedTuple):
    """What is drawn over a trace, and the difference in numbers."""

    trace: Trace | None = None
    guess: dict[str, object] | None = None  # a line at a time, with words
    numbers: Table | None = None


def overlay(trace: Trace, over: Over | None) -> Overlay:
    """What to draw. Raises TraceError for what is no trace, schedule, time or per cent."""
    if over is None:
        return Overlay()
    if isinstance(over, Schedule):
        over = simulate(over, Cost.from_trace(trace))
    if isinstance(over, Trace):
        same = over.source == trace.source
        names = f"{over.source}, over" if same else over.source, str(trace.source)
        return Overlay(over, None, comparison_table(compare(over, trace), names))
    if isinstance(over, str):
        return _guessed_share(trace, over)
    if isinstance(over, bool) or not isinstance(over, (int, float)) or not 0 < over < float("inf"):
        raise TraceError(
            f"over={over!r} is nothing to draw over a trace: give a Trace, a Schedule, seconds "
            f"such as 0.35, or a share such as '30 %'"
        )
    return _guessed_seconds(trace, over)


def _guessed_seconds(trace: Trace, seconds: float) -> Overlay:
    line = {"time": seconds, "text": f"your prediction: {time_text(seconds)}"}
    off = trace.duration / seconds - 1
    row = ["duration", time_text(seconds), time_text(trace.duration), f"{100 * off:+.1f} %"]
    return Overlay(None, line, _numbers([row]))


def _guessed_share(trace: Trace, text: str) -> Overlay:
    """A bubble fraction; the line stands where the step would end, were it that."""
    match = _PERCENT.fullmatch(text)
    share = float(match[1].replace(",", ".")) / 100 if match else 1.0
    if share >= 1:
        raise TraceError(f"over={text!r}: a share of idle time is written '30 %', below 100 %")
    seconds = sum(busy(trace.events, trace.num_ranks)) / (trace.num_ranks * (1 - share))
    line = {"time": seconds, "text": f"your prediction: {percent(share)} bubble"}
    points = 100 * (trace.bubble_fraction - share)
    row = ["bubble", percent(share, 1), percent(trace.bubble_fraction, 1), f"{points:+.1f} points"]
    return Overlay(None, line, _numbers([row]))


def _numbers(rows: list[list[str]]) -> Table:
    return table("Your prediction", ["", "predicted", "it was", "difference"], rows)

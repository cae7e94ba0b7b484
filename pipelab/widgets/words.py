"""What the lab says: all sentences and figures of its view; the browser only lays them out."""

import re

from pipelab.engine import StepResult
from pipelab.plots import terminal
from pipelab.plots.terminal import number, percent, time_text
from pipelab.simulator import Cost
from pipelab.trace import Trace, expected_bubble_fraction
from pipelab.widgets.live import LiveRun

_NAMES = {"gpipe": "GPipe", "1f1b": "1F1B", "sequential": "sequential"}


def choices(layers: int, pace: Cost) -> dict[str, object]:
    """What the controls offer."""
    return {
        "num_ranks": [1, layers],
        "num_microbatches": [1, 16],
        "schedule": list(_NAMES.items()),
        "paced": f"Paced: {pace}",
        "pacedHelp": "Real processes and real messages; each action is padded to a set time, as "
        "a device of that speed would take it. Without pacing, the ranks share this machine's "
        "cores and run as fast as it can.",
    }


def status(run: LiveRun, shown: int) -> dict[str, object]:
    """The run's state and the sentence for it; ``shown`` is the run that the picture shows."""
    s = run.settings
    what = f"{s.schedule} on {number(s.num_ranks, 'rank')}, " + number(
        s.num_microbatches, "microbatch"
    )
    still = f" The picture shows run {shown}." if shown else ""
    match run.state:
        case "done" if run.result is not None:
            text = f"Run {run.number}: {what}. {sentence(run.result)}"
            return {"state": "done", "summary": text}
        case "error":
            text = f"Run {run.number} failed: {what}.{still}"
            return {"state": "error", "summary": text, "error": error_text(run.error)}
        case "stopped":
            text = f"Run {run.number} was stopped.{still}"
            return {"state": "idle", "summary": text}
        case _:
            return {"state": "running", "summary": f"Run {run.number} is going: {what} …"}


def shown(result: StepResult) -> dict[str, object]:
    """What a finished run shows beside its picture."""
    trace = result.trace
    return {
        "alt": terminal.describe(trace),
        "figures": figures(result),
        "table": table(trace),
    }


def sentence(result: StepResult) -> str:
    """The bubble, measured and by the formula, the loss."""
    trace = result.trace
    formula, share = formula_of(trace)
    return (
        f"Of the ranks' time, {percent(trace.bubble_fraction, 1)} was bubble; "
        f"the formula {formula} says {percent(share, 1)}. Loss {result.loss:.4f}."
    )


def figures(result: StepResult) -> list[dict[str, str]]:
    """The large numbers below the picture."""
    trace = result.trace
    formula, share = formula_of(trace)
    return [
        {"name": "bubble, measured", "value": percent(trace.bubble_fraction, 1)},
        {"name": f"bubble by {formula}", "value": percent(share, 1)},
        {"name": "one step", "value": time_text(trace.duration)},
        {"name": "loss", "value": f"{result.loss:.4f}"},
    ]


def formula_of(trace: Trace) -> tuple[str, float]:
    """The bubble fraction on paper: equal stages, free messages, one device for each rank.

    >>> from pipelab.trace import Setting
    >>> formula_of(Trace((), "predicted", Setting("sequential", 4, 8)))
    ('(p−1)/p', 0.75)
    """
    p, m = trace.setting.ranks, trace.setting.microbatches
    if trace.setting.schedule == "sequential":
        return "(p−1)/p", (p - 1) / p
    return "(p−1)/(m+p−1)", expected_bubble_fraction(p, m)


def table(trace: Trace) -> dict[str, object]:
    """The picture's twin: where its numbers come from, heads, one row per rank."""
    rows = [
        [
            f"rank {row.rank}",
            time_text(row.busy_ms / 1e3),
            time_text(row.idle_ms / 1e3),
            percent(row.idle_percent / 100),
        ]
        for row in terminal.table(trace)
    ]
    heads = ["rank", "busy", "idle", "idle share"]
    return {"caption": trace.source_line, "heads": heads, "rows": rows}


def error_text(error: Exception | None) -> str:
    """An error as a reader needs it: its words, without a file of this machine."""
    text = f"{type(error).__name__}: {error}"
    return re.sub(r'File "[^"]*[/\\]([^"/\\]+)"', r'File "\1"', text)

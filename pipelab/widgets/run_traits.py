"""The traits that show a run: first the bars seen so far, then the recorded trace."""

from pipelab.trace import Setting, Trace, compare
from pipelab.widgets import lab_text
from pipelab.widgets.data import frame, ghost_head, head, packed, subject
from pipelab.widgets.live import LiveRun
from pipelab.widgets.overlay import overlay
from pipelab.widgets.tables import comparison_table
from pipelab.words import unbroken

Traits = dict[str, object]


def traits(run: LiveRun) -> Traits:
    """The traits that hold the picture; none where there is nothing to see."""
    if run.state == "done" and run.result is not None:
        return _recorded(run)
    return _seen(run) if run.bars else {}


def _seen(run: LiveRun) -> Traits:
    s = run.settings
    prediction = s.prediction
    setting = Setting(s.schedule, s.num_ranks * s.replicas, s.num_microbatches, replicas=s.replicas)
    shown = frame(Trace(prediction.events if prediction else run.bars, "recorded", setting))
    shown["sentence"] = unbroken(lab_text.seen(run))
    if run.state != "running":
        shown["totals"] = lab_text.begun(run)
    if prediction is not None:  # how much work there will be, and so where a guessed end is
        shown["guess"] = overlay(prediction, s.guesses).guess
    return {
        "data": packed(run.bars),
        "head": shown,
        **_ghost(run),
        "live": run.state == "running",
        "now": run.now,
    }


def _recorded(run: LiveRun) -> Traits:
    assert run.result is not None
    trace = run.result.trace
    budget = run.settings.memory_budget
    above = overlay(trace, run.settings.guesses)
    tables = [] if above.numbers is None else [above.numbers]
    if (prediction := run.settings.prediction) is not None:
        tables.append(comparison_table(compare(prediction, trace), ("predicted", "recorded")))
    shown = head(trace, tables)
    shown["sentence"] = unbroken(subject(trace))  # the figures say what it took
    shown |= {"guess": above.guess, "alt": f"{shown['alt']} {above.words}".strip()}
    return {
        "data": packed(trace.events),
        "head": shown | ({"budget": budget} if budget else {}),
        **_ghost(run),
        "live": False,
        "now": 0.0,
        "figures": lab_text.figures(run.result, run.settings),
    }


def _ghost(run: LiveRun) -> Traits:
    prediction = run.settings.prediction
    if prediction is None:
        return {"ghost_data": b"", "ghost_head": {}}
    return {"ghost_data": packed(prediction.events), "ghost_head": ghost_head(prediction)}

"""All sentences and figures of the lab's view; the browser only lays them out."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from pipelab.errors import RankOutOfMemory, ScheduleError
from pipelab.schedules.catalogue import BUILDERS, paper_bubble, title_of
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.trace.memory import peak_bytes
from pipelab.widgets.live import LiveRun, Recorded
from pipelab.widgets.settings import LAYERS, Settings, first_stage
from pipelab.words import bytes_text, number, percent, time_text

SLOWDOWNS = (1, 5, 30)
LATENCIES = (0, 10, 25, 50, 100)  # per cent of F
BUDGETS = (0, 3_000_000, 4_500_000, 6_000_000)  # bytes; in 3 MB fits 1F1B at p=4, m=8, not GPipe
MOST_RANKS, MOST_MICROBATCHES = 8, 16


def choices(pace: Cost, shared: bool = False) -> dict[str, object]:
    """What the controls offer; ``shared``: the pace is that of a whole step on one rank."""
    f, i, w = first_stage(pace)
    of = " in all, shared" if shared else ""
    paces = [
        (str(k), f"F {time_text(f * k)}, B {time_text((i + w) * k)}{of}{_EXTRA.get(k, '')}")
        for k in SLOWDOWNS
    ]
    least = time_text(pace.latency) if pace.latency else "none"
    return {
        "num_ranks": [1, MOST_RANKS],
        "num_microbatches": [1, MOST_MICROBATCHES],
        "schedule": [(name, title_of(name)) for name in BUILDERS],
        "pacing": [*paces, ("off", "unpaced: as fast as they can")],
        "pacingHelp": "Real processes and real messages. Paced, each action is padded to a set "
        "time, as a device of that speed would take it. Unpaced, the ranks share this machine's "
        "cores.",
        "latency": [(str(k), f"{k} % of F" if k else least) for k in LATENCIES],
        "overlap": "Messages travel while ranks compute",
        "replicas": [("1", "1"), ("2", "2, on separate ranks")],
        "budget": [(str(b), bytes_text(b) if b else "no limit") for b in BUDGETS],
    }


def story_choices(schedules: Mapping[str, str]) -> dict[str, object]:
    """What the controls of a story's lab offer: two numbers, and schedules in its words."""
    return {
        "num_ranks": [1, MOST_RANKS],
        "num_microbatches": [1, MOST_MICROBATCHES],
        "schedule": [*schedules.items()],
        "labels": {"num_ranks": "Ranks", "num_microbatches": "Microbatches", "schedule": "Order"},
        "story": True,
    }


_EXTRA = {5: ": slower", 30: ": slow enough to follow"}


def what(settings: Settings) -> str:
    """The experiment in a few words."""
    ranks = settings.num_ranks * settings.replicas
    microbatches = number(settings.num_microbatches, "microbatch")
    copies = f", {settings.replicas} replicas" if settings.replicas > 1 else ""
    name = f"{settings.title}," if settings.title else f"{title_of(settings.schedule)} on"
    return f"{name} {number(ranks, 'rank')}, {microbatches}{copies}"


def status(run: LiveRun, shown: int) -> dict[str, object]:
    """The run's state and the sentence for it; ``shown`` is the run that the picture shows."""
    text = what(run.settings)
    still = f" The picture shows run {shown}." if shown else ""
    match run.state:
        case "done" if run.result is not None:
            title = f"Run {run.number}: {text}."
            words = sentence(run.result, run.settings.guess)
            summary = f"{run.result.trace.warning} {title} {words}".lstrip()
            return {"state": "done", "title": title, "summary": summary}
        case "error":
            text = f"Run {run.number} failed: {text}.{still}"
            more = {"state": "error", "error": lab_error(run.error)}
        case "stopped":
            text, more = f"Run {run.number} was stopped.{still}", {"state": "idle"}
        case _:
            text, more = f"Run {run.number} in progress: {text} …", {"state": "running"}
    return {"title": text, "summary": text, **more}


def seen(run: LiveRun) -> str:
    """What the picture shows of a run that has no record: not yet, or it ended without one."""
    if run.state == "running":
        return f"Live: {what(run.settings)}. Bars appear as the ranks work; the record follows."
    end = "was stopped" if run.state == "stopped" else "failed"
    return f"What was seen of {what(run.settings)} until the run {end}: there is no record of it."


def begun(run: LiveRun) -> list[str]:
    """What each rank did of a run that ended without a record."""
    count = Counter(bar.rank for bar in run.bars)
    ranks = run.settings.num_ranks * run.settings.replicas
    return [f"began {number(count[rank], 'action')}" for rank in range(ranks)]


def sentence(result: Recorded, guess: float | None) -> str:
    """The bubble, measured, by the formula and as it was predicted; the loss.

    The bubble of a disturbed run is the machine's as well, and no measure of the schedule.
    """
    trace = result.trace
    if trace.setting.story:
        return f"All are done after {time_text(trace.duration)}."
    formula, share = formula_of(trace)
    bubble = percent(trace.bubble_fraction, 1)
    was = (
        f"With this machine's delays the bubble was {bubble}"
        if trace.warning
        else f"Of the ranks' time, {bubble} was bubble"
    )
    return (
        f"{was}; {formula} says {percent(share, 1)}"
        f"{'' if guess is None else f'; you predicted {percent(guess)}'}. "
        f"Loss {result.loss:.4f}."
    )


def figures(result: Recorded, settings: Settings) -> list[dict[str, str]]:
    """The large numbers. A prediction that the formula says already is not said again."""
    trace = result.trace
    if trace.setting.story:
        return [{"name": "all are done after", "value": time_text(trace.duration)}]
    formula, share = formula_of(trace)
    most = max(point.total for point in peak_bytes(trace))
    where = ", busy machine" if trace.warning else ", measured"  # in one line of its column
    found = [(f"bubble{where}", percent(trace.bubble_fraction, 1))]
    if settings.guess is not None:
        found.append(("bubble, your prediction", percent(settings.guess)))
    on_paper = percent(share, 1)
    found.append((f"bubble by {formula}", on_paper))
    prediction = settings.prediction
    if prediction is not None and percent(prediction.bubble_fraction, 1) != on_paper:
        found.append(("bubble, simulated", percent(prediction.bubble_fraction, 1)))
    found.append(("one step", time_text(trace.duration)))
    if prediction is not None and trace.disturbance:  # otherwise it is the same number
        found.append(("one step, simulated", time_text(prediction.duration)))
    found += [
        ("most bytes on a rank", bytes_text(most)),
        ("loss", f"{result.loss:.4f}"),
    ]
    return [{"name": name, "value": value} for name, value in found]


def formula_of(trace: Trace) -> tuple[str, float]:
    """The bubble fraction on paper: equal stages, free messages, one device for each rank.

    Where it has no short formula, the simulator's, with F, I and W equal.

    >>> from pipelab.trace import Setting
    >>> formula_of(Trace((), "predicted", Setting("sequential", 4, 8)))
    ('(p−1)/p', 0.75)
    """
    s = trace.setting
    p, m = s.ranks // s.replicas, s.microbatches
    if formula := paper_bubble(s.schedule, p, m):
        return formula
    share = theory(s.schedule, p, m) or trace.bubble_fraction
    return "the simulator with F = I = W and free messages", share


@lru_cache(maxsize=1024)
def theory(schedule: str, num_ranks: int, num_microbatches: int) -> float | None:
    """The bubble fraction with F = I = W and free messages; None where there is no such pipeline.

    >>> theory("1f1b", 4, 8), round(3 / 11, 9)
    (0.272727273, 0.272727273)
    """
    try:
        built = BUILDERS[schedule].build(num_ranks, num_microbatches, 2)
    except (ScheduleError, KeyError):
        return None
    if built.num_stages > LAYERS:
        return None
    return round(simulate(built, Cost(1.0, 1.0, 1.0)).bubble_fraction, 9)


def curves(schedule: str, num_ranks: int, num_microbatches: int) -> dict[str, object]:
    """Theory's bubble against m and against p, around one setting: the lines of the small chart."""
    against_m = ((m, theory(schedule, num_ranks, m)) for m in range(1, MOST_MICROBATCHES + 1))
    against_p = ((p, theory(schedule, p, num_microbatches)) for p in range(1, MOST_RANKS + 1))
    return {
        "name": title_of(schedule),
        "m": [[m, share] for m, share in against_m if share is not None],
        "p": [[p, share] for p, share in against_p if share is not None],
        "fixed": {"m": f"p = {num_ranks}", "p": f"m = {num_microbatches}"},
    }


def point(run: LiveRun, trace: Trace) -> dict[str, object]:
    """One finished run, as the small chart collects it."""
    s = run.settings
    return {
        "run": run.number,
        "schedule": s.schedule,
        "mark": BUILDERS[s.schedule].mark if s.schedule in BUILDERS else "?",
        "name": title_of(s.schedule),
        "p": s.num_ranks,
        "m": s.num_microbatches,
        "bubble": round(trace.bubble_fraction, 6),
        "paced": s.pace is not None,
        "disturbed": bool(trace.warning),
        "words": f"run {run.number}: {what(s)}, bubble {percent(trace.bubble_fraction, 1)}"
        + ("" if s.pace is not None else ", unpaced")
        + (f"; {trace.disturbance.fact}" if trace.disturbance else ""),
    }


def guesses(shares: Mapping[tuple[int, int], float]) -> list[dict[str, object]]:
    """Predictions, as marks of the small chart."""
    rows = ((p, m, share) for (p, m), share in sorted(shares.items()))
    return [
        {
            "p": p,
            "m": m,
            "bubble": share,
            "words": f"you predicted: {number(p, 'rank')}, {number(m, 'microbatch')}, "
            f"bubble {percent(share)}",
        }
        for p, m, share in rows
    ]


def lab_error(error: Exception | None) -> str:
    """An error whose advice names the lab's own controls, not arguments of a pipeline."""
    text = error_text(error)
    if isinstance(error, ScheduleError):
        return f"{text}\nOr change the controls: Reset returns to what the lab began with."
    if not isinstance(error, RankOutOfMemory):
        return text
    advice = "Choose more ranks, more microbatches, 1F1B, or more memory of a rank."
    return f"{text.splitlines()[0]}\nAll ranks were stopped. {advice}"


def error_text(error: Exception | None) -> str:
    """An error's type and message, without the folders of this machine."""
    text = f"{type(error).__name__}: {error}"
    return re.sub(r'File "[^"]*[/\\]([^"/\\]+)"', r'File "\1"', text)

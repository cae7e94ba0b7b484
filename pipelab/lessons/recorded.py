"""What a recorded run says about an answer: order, and who waited for whom. No clock decides alone.

A schedule that is right in all this can be slow for one reason only: the machine has other work.
So its time is compared with that of a reference run, recorded between its own steps, and where the
two differ, the row says that the machine was too busy, and passes.
"""

from collections.abc import Iterator

from pipelab.action import COMPUTE, Action, needs, produces
from pipelab.lessons.results import Result
from pipelab.schedules import Schedule
from pipelab.story import reworded
from pipelab.trace import Event, Trace

__all__ = ["order", "timed"]

LOW, HIGH = 0.8, 1.3  # of the reference run's time
BUSY = "your {} is right; the machine was too busy to time it"


def order(schedule: Schedule, trace: Trace) -> Iterator[Result]:
    """Two rows: each rank ran its actions in this order, and none before what it needs was there.

    Actions that the trace leaves out are not asked for.
    """
    computed = [e for e in trace.events if e.kind in COMPUTE]
    rows = [[_action(e) for e in computed if e.rank == rank] for rank in range(trace.num_ranks)]
    kinds = {e.kind for e in computed}
    wanted = [[a for a in row if a.kind in kinds] for row in schedule.ranks]
    good = sum(row == want for row, want in zip(rows, wanted, strict=True))
    hint = "run it in a cell and print trace.events: a rank ran something else than it was given"
    name = reworded("recorded: ranks in your order", trace.setting.story)
    yield _all(name, good, len(rows), reworded(hint, trace.setting.story))
    ends = {produces(_action(e)): e.end for e in computed}
    waits = [
        (e.start, max(made))
        for e in computed
        if (made := [ends[n] for n in needs(_action(e), schedule.num_stages) if n in ends])
    ]
    hint = "look at the timeline: a box begins before the one whose result it needs has ended"
    good = sum(start >= made for start, made in waits)
    yield _all("recorded: waited for what they need", good, len(waits), hint)


def timed(
    name: str,
    yours: float,
    reference: float,
    what: str = "schedule",
    quiet: tuple[float, float] = (LOW, HIGH),
) -> Result:
    """How many times as long as the reference run yours took; it never fails.

    Args:
        name: of the row.
        yours: seconds of the learner's run.
        reference: seconds of the reference run, recorded in the same minute.
        what: the learner wrote, and is judged to be right by other rows: "schedule" or "formula".
        quiet: the range of a machine that has nothing else to do.
    """
    times, (low, high) = yours / reference, quiet
    note = "" if low <= times <= high else BUSY.format(what)
    return Result(name, f"{low:g} to {high:g}", f"{times:.2f}", True, note=note)


def _all(name: str, good: int, whole: int, hint: str) -> Result:
    return Result(name, f"{whole} of {whole}", f"{good} of {whole}", good == whole, hint)


def _action(event: Event) -> Action:
    return Action(event.stage, event.kind, event.microbatch)

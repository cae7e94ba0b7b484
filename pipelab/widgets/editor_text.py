"""What the schedule editor says of a schedule that can run, and how it stamps a block.

It can run: 4 ranks, 6 microbatches, predicted bubble 33.3 %.
It holds at most 4, 3, 2, 1 microbatches on ranks 0 to 3.
Par is 210 ms with at most 4 held, by zero bubble H1; this takes 270 ms (+28.6 %).
Longest bubble: rank 0, 60 ms, from 40 ms on: it waits for 1B0 of rank 1, held up by rank 3.
Its order is 1F1B.
"""

from functools import lru_cache
from math import ceil

from pipelab.action import Kind
from pipelab.schedules import Schedule, from_block, recognise
from pipelab.schedules.catalogue import title_of
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, best_schedule, simulate
from pipelab.trace import Trace
from pipelab.trace.idle import explained, idle_texts
from pipelab.trace.links import link
from pipelab.words import change, number, percent, time_text

_MOST = 256  # ranks x microbatches: a search for more takes longer than an edit may


def judged(schedule: Schedule, trace: Trace, cost: Cost) -> str:
    """What it is, what it holds, how far from the best it is, and why its longest bubble is there.

    ``trace``: its prediction at ``cost``, which is that of one stage.
    """
    sizes = number(schedule.num_ranks, "rank"), number(schedule.num_microbatches, "microbatch")
    lines = [
        f"It can run: {', '.join(sizes)}, predicted bubble {percent(trace.bubble_fraction, 1)}.",
        _held(schedule),
        _par(schedule, trace, cost),
        _longest_bubble(trace),
        f"Its order is {recognise(schedule)}.",
    ]
    return "\n".join(filter(None, lines))


def stamped(schedule: Schedule, period: int, num_microbatches: int) -> Schedule:
    """Microbatch 0's pattern, repeated. Raises ScheduleError as ``from_block``."""
    rows = (
        tuple(a for a in row if a.microbatch == 0 and a.kind in "FBIW") for row in schedule.ranks
    )
    block = lower(Schedule(tuple(rows)))
    pattern: list[dict[str, int]] = [{} for _ in block.ranks]
    for event in simulate(block.compute, Cost(1, 1, 1)).events:
        if event.kind in (Kind.F, Kind.B, Kind.I):  # a W fills what is free
            pattern[event.rank][f"{event.stage}{event.kind}0"] = round(event.start)
    return from_block(pattern, period, block.num_ranks, num_microbatches)


def _held(schedule: Schedule) -> str:
    peaks = ", ".join(f"{peak:.3g}" for peak in peak_activations(schedule))
    last = schedule.num_ranks - 1
    ranks = f"ranks 0 to {last}" if last else "rank 0"
    return f"It holds at most {peaks} microbatches on {ranks}."


def _par(schedule: Schedule, trace: Trace, cost: Cost) -> str:
    """The best that is known for as much memory; "" with several stages on a rank, or slices."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    if schedule.num_stages != p or schedule.slices > 1 or p * m > _MOST:
        return ""
    held = ceil(max(peak_activations(schedule)))
    name, seconds = _best(p, m, cost, held)
    text = f"Par is {time_text(seconds)} with at most {held} held, by {name}; "
    ratio = trace.duration / seconds
    if ratio > 1 + 1e-9:
        return f"{text}this takes {time_text(trace.duration)} ({change(ratio)})."
    return f"{text}this is as short."


@lru_cache(maxsize=64)
def _best(p: int, m: int, cost: Cost, held: int) -> tuple[str, float]:
    found = best_schedule(p, m, cost, held)
    name = "a search" if found.schedule.name == "greedy" else title_of(found.schedule.name)
    return name, found.duration


def _longest_bubble(trace: Trace) -> str:
    links = link(trace)
    pieces = explained(trace, links)
    if not pieces:
        return ""
    i = max(range(len(pieces)), key=lambda i: pieces[i].seconds)
    piece, text = pieces[i], idle_texts(links, pieces)[i]
    where = f"rank {piece.rank}, {time_text(piece.seconds)}, from {time_text(piece.start)} on"
    return f"Longest bubble: {where}: it {text.sentence}."

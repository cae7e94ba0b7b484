"""What the schedule editor says of a schedule that can run, and how it stamps a block.

It can run: 4 ranks, 6 microbatches, predicted bubble 33.3 %.
It holds at most 4, 3, 2, 1 microbatches on ranks 0 to 3.
Par is 210 ms with at most 4 held, by zero bubble H1; this takes 270 ms (+28.6 %).
Longest bubble: rank 0, 60 ms, from 40 ms on: it waits for 1B0 of rank 1, held up by rank 3.
Its order is 1F1B.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from math import ceil

from pipelab.action import Kind
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import Schedule, from_block, recognise
from pipelab.schedules.catalogue import title_of
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Best, Cost, best_schedule, par, simulate
from pipelab.trace import Trace
from pipelab.trace.idle import explained, idle_texts
from pipelab.trace.links import link
from pipelab.words import change, number, percent, time_text

_TIMES = ("forward", "backward_input", "backward_weight", "overlapped")
_MOST = 256  # ranks x microbatches: a search for more takes longer than an edit may


def judged(schedule: Schedule, trace: Trace, cost: Cost) -> str:
    """What it is, what it holds, how far from the best it is, and why its longest bubble is there.

    ``trace``: its prediction at ``cost``, which is that of one stage.
    """
    sizes = number(schedule.num_ranks, "rank"), number(schedule.num_microbatches, "microbatch")
    lines = [
        f"It can run: {', '.join(sizes)}, predicted bubble {percent(trace.bubble_fraction, 1)}.",
        held_text(schedule),
        _par(schedule, trace, cost),
        longest_bubble(trace),
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
    p = block.num_ranks
    try:
        return from_block(pattern, period, p, num_microbatches)
    except ScheduleError as error:
        if longer := _longer_period(pattern, period, p):
            # tokens have no slots here, so the other advice cannot be followed
            raise ScheduleError(
                f"{error}\nthis order can be repeated with a period of {longer}; waits between the "
                f"tokens are for from_block(pattern, ...)",
                cells=error.cells,
            ) from None
        raise


def _longer_period(pattern: Sequence[Mapping[str, int]], period: int, p: int) -> int | None:
    """The next period with which no two actions collide."""
    last = max(slot for row in pattern for slot in row.values()) + 2
    for longer in range(period + 1, last + 1):
        with suppress(ScheduleError):
            from_block(pattern, longer, p, 1)
            return longer
    return None


def held_text(schedule: Schedule) -> str:
    """The most microbatches that each rank holds at once."""
    peaks = ", ".join(f"{peak:.3g}" for peak in peak_activations(schedule))
    last = schedule.num_ranks - 1
    ranks = f"ranks 0 to {last}" if last else "rank 0"
    return f"It holds at most {peaks} microbatches on {ranks}."


def _par(schedule: Schedule, trace: Trace, cost: Cost) -> str:
    """The best that is known for as much memory; of one stage a rank, where this has one, too."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    v, rest = divmod(schedule.num_stages, p)
    is_listed = any(isinstance(getattr(cost, name), tuple) for name in (*_TIMES, "message_bytes"))
    if rest or (v > 1 and is_listed) or schedule.slices > 1 or p * m > _MOST:
        return ""
    held = ceil(max(peak_activations(schedule)))
    return par_text(_best(p, m, v, cost, held), held, trace.duration)


def par_text(found: Best, held: int, duration: float) -> str:
    """How far a duration, in seconds, is from the best that is known with so many held."""
    name = "a search" if found.schedule.name == "greedy" else title_of(found.schedule.name)
    text = f"Par is {time_text(found.duration)} with at most {held} held, by {name}; "
    ratio = duration / found.duration
    if abs(ratio - 1) > 1e-9:  # shorter, too, where more are held
        return f"{text}this takes {time_text(duration)} ({change(ratio)})."
    return f"{text}this is as short."


@lru_cache(maxsize=64)
def _best(p: int, m: int, v: int, cost: Cost, held: int) -> Best:
    """``cost``: of one of the v stages that each rank has."""
    if v == 1:
        return best_schedule(p, m, cost, held)
    of_rank = {name: getattr(cost, name) * v for name in _TIMES}
    return par(p, m, replace(cost, **of_rank, activation_bytes=0, step=0, reduce=0), held)


def longest_bubble(trace: Trace) -> str:
    """Where it is, and why; "" without idle time."""
    links = link(trace)
    pieces = explained(trace, links)
    if not pieces:
        return ""
    i = max(range(len(pieces)), key=lambda i: pieces[i].seconds)
    piece, text = pieces[i], idle_texts(links, pieces)[i]
    begins = time_text(piece.start) if piece.start else "the start"
    where = f"rank {piece.rank}, {time_text(piece.seconds)}, from {begins} on"
    return f"Longest bubble: {where}: it {text.sentence}."


def marked(rows: Sequence[Sequence[str]], error: PipelabError) -> list[str]:
    """The tokens that a refusal of these rows is about."""
    cells = error.cells if isinstance(error, ScheduleError) else ()
    places = [_places(row) for row in rows]  # two that overlap are one token
    return sorted({rows[rank][places[rank][position]] for rank, position in cells if rows})


def _places(row: Sequence[str]) -> list[int]:
    """For each action of a row, the place of its token: one that overlaps two stands for both."""
    return [i for i, token in enumerate(row) for _ in range(2 if "OVERLAP" in token else 1)]

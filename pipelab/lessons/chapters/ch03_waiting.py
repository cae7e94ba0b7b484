"""Lesson 3, waiting: how much of the time ranks compute, read from the events of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from pipelab.action import COMPUTE, Kind
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch03_draws import BUBBLES, PARTS
from pipelab.lessons.chapters.ch03_questions import QUESTIONS
from pipelab.lessons.comparing import NUMBER, Compare, ask, rounding, same
from pipelab.lessons.exercise import Cases, Draws, Exercise, Judge, each, equal
from pipelab.lessons.experiment import experiment, record
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.written import short
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.trace.metrics import busy

_BUBBLE = "a function bubble(events, num_ranks): a share between 0 and 1"
_PARTS = "a function idle_parts(events, num_ranks): for each rank [before, between, after]"


def _event(rank: int, kind: Kind, number: int, start: float, end: float) -> Event:
    return Event(rank, kind, rank, number, start, end)


_LATE = tuple(  # the same log, read from a clock that did not start at zero
    e._replace(start=e.start + 100.0, end=e.end + 100.0)
    for e in simulate(one_f_one_b(3, 6), Cost(1.0, 1.0, 1.0)).events
)
_GAP = (
    _event(0, Kind.F, 0, 0.0, 1.0),
    _event(0, Kind.B, 0, 5.0, 7.0),
    _event(1, Kind.F, 0, 2.0, 3.0),
    _event(1, Kind.WAIT, 0, 0.0, 2.0),
    _event(1, Kind.B, 0, 3.0, 5.0),
)
_OVERLAP = (
    _event(0, Kind.F, 0, 0.0, 4.0),
    _event(0, Kind.F, 1, 2.0, 6.0),
    _event(0, Kind.STEP, 0, 6.0, 9.0),
    _event(1, Kind.F, 0, 4.0, 8.0),
)


def _cases(recorded: Trace) -> Cases:
    uneven = simulate(gpipe(2, 5), Cost([1.0, 3.0], [1.0, 3.0], [1.0, 3.0]))
    return {
        "recorded, 4 ranks, 3 microbatches": (recorded.events, 4),
        "one microbatch, 2 ranks": (simulate(gpipe(2, 1), Cost(1.0, 1.0, 1.0)).events, 2),
        "one rank alone": (simulate(gpipe(1, 3), Cost(1.0, 1.0, 1.0)).events, 1),
        "unequal stages": (uneven.events, 2),
        "a log that begins at 100 s": (_LATE, 3),
        "a log with a gap and a wait": (_GAP, 2),
        "boxes that overlap, and a step": (_OVERLAP, 2),
    }


def _judge_with(compare: Compare, draws: Draws) -> Judge:
    """A judge of functions that read the same logs; ``compare`` knows what each should return."""

    def drawn(name: str, value: object, *log: object) -> Result:
        return compare(name, value, *draws.arguments(*log))

    def judge(function: Function, seed: int) -> Iterator[Result | Shown]:
        trace = _run()
        logs = replace(draws, compare=drawn)
        tried = yield from each(function, _cases(trace), compare, logs, seed)
        if tried.values:  # it is written: show what it was given
            yield Shown("The recorded run that your function was given", trace)

    return judge


@cache
def _run() -> Trace:
    """One for all checks: what is judged is how it is read."""
    pace = Cost(0.004, 0.004, 0.004, latency=0.001)
    return record(experiment(rows=12, depth=4), gpipe(4, 3), pace)


def _compare_bubble(name: str, value: float, events: Sequence[Event], num_ranks: int) -> Result:
    hint = (
        "idle rank-time over all rank-time; all rank-time is the number of ranks × the time from "
        "the first start to the last end of a computation (F, B, I, W), and nothing else computes"
    )
    share = Trace(tuple(events), "recorded", Setting(ranks=num_ranks)).bubble_fraction
    result = equal(name, share, value, hint)
    slips = _slips(share, events, num_ranks)
    slip = next((words for wrong, words in slips if same(wrong, value)), "")
    return result if result.ok or not slip else result._replace(hint=slip)


def _slips(share: float, events: Sequence[Event], num_ranks: int) -> Iterator[tuple[float, str]]:
    """What known mistakes lead to in place of ``share``, and what to say of each."""
    yield 100 * share, "that is the percentage: return the share, 0.3 in place of 30"
    yield 1 - share, "that is the share in which the ranks compute: the bubble is the rest"
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    counted = sum(busy(events, num_ranks))
    summed = sum(e.end - e.start for e in work)
    twice = "where two boxes of a rank overlap, that time counts once: here it was counted twice"
    yield 1 - summed / (num_ranks * (last - first)), twice
    if last > 0:
        zero = "the clock was read from 0: the time begins when the first computation starts"
        for seconds in (counted, summed):
            yield 1 - seconds / (num_ranks * last), zero
    longest = max(e.end for e in events) - min(e.start for e in events)
    other = "the time is that of the computations alone: a WAIT, a message and a STEP are none"
    for seconds in (counted, summed):
        yield 1 - seconds / (num_ranks * longest), other


def _compare_parts(
    name: str, value: list[list[float]], events: Sequence[Event], num_ranks: int
) -> Result:
    ask(value, [[NUMBER]], "a list for each rank: [before, between, after]")
    parts = _parts(events, num_ranks)
    close = len(value) == num_ranks and all(
        len(row) == 3
        and all(abs(a - b) < 1e-6 or same(b, a) for a, b in zip(row, want, strict=True))
        for row, want in zip(value, parts, strict=True)
    )
    hint = "before, between and after add up to the idle time of the rank"
    got, expected = ([[round(t, 6) + 0.0 for t in row] for row in rows] for rows in (value, parts))
    note = "" if close else rounding(parts, value)
    return Result(name, short(expected), short(got), close, hint, note)


def _parts(events: Sequence[Event], num_ranks: int) -> list[list[float]]:
    """For each rank: idle before its first computation, between, and after its last, in seconds."""
    work = [e for e in events if e.kind in COMPUTE]
    first, last = min(e.start for e in work), max(e.end for e in work)
    parts = []
    for rank, seconds in enumerate(busy(events, num_ranks)):
        own = [e for e in work if e.rank == rank]
        before = min(e.start for e in own) - first
        after = last - max(e.end for e in own)
        parts.append([before, last - first - seconds - before - after, after])
    return parts


CHAPTER = Chapter(
    {
        "03.1": Exercise(
            "the bubble from the events",
            _BUBBLE,
            _judge_with(_compare_bubble, BUBBLES),
            (
                "Three numbers are enough: when did the first computation of all ranks start, when "
                "did the last one end, and how long did each rank compute?",
                "A WAIT, a message and the optimizer's STEP are events, too, but no computation. "
                "And a clock need not start at 0.",
                "Where two boxes of a rank overlap, that time counts once: sort a rank's boxes by "
                "their start, and remember until when it has been counted.",
            ),
            BUBBLES,
        ),
        "03.2": Exercise(
            "where the waiting is",
            _PARTS,
            _judge_with(_compare_parts, PARTS),
            (
                "Look at one row of the picture: it is idle before its first box, in the "
                "middle, and after its last box.",
                "Before: from the first start of *all* ranks to the first start of this one. "
                "After: from its last end to the last end of all.",
                "Between is the rest of its idle time; 03.1 showed how to get its busy time.",
            ),
            PARTS,
        ),
    },
    QUESTIONS,
)

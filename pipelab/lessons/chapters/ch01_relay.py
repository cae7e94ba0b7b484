"""Lesson 1, the relay team: cooks are ranks, dishes are microbatches, only forwards are shown."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline
from pipelab.errors import LessonError, ScheduleError
from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch01_draws import FOLLOW, KITCHENS, RELAYS
from pipelab.lessons.chapters.ch01_questions import QUESTIONS
from pipelab.lessons.comparing import ask
from pipelab.lessons.exercise import Cases, Exercise, against, each
from pipelab.lessons.experiment import in_turn
from pipelab.lessons.results import Result, Shown
from pipelab.schedules import Schedule, gpipe
from pipelab.simulator import Cost, simulate
from pipelab.story import MINUTE
from pipelab.trace import Event, Trace
from pipelab.trace.trace import in_order
from pipelab.words import number

__all__ = ["CHAPTER", "MINUTE", "cook", "kitchen_lab"]

if TYPE_CHECKING:
    from pipelab.widgets.lab import TimelineLab

Rows = Sequence[Sequence[str]]

_ORDER = "a function order(cooks, dishes): for each cook a list of slots, such as '0F0' or ''"
_MINUTES = "a function minutes(costs, dishes, hand_over)"


def cook(
    order: Rows,
    minutes: Sequence[float] = (),
    hand_over: float = 0.0,
    minute: float = MINUTE,
    *,
    one_by_one: bool = False,
) -> Trace:
    """Run an order of forwards on real processes, one for each cook; the recorded trace.

    The engine trains, so each dish also has a backward; it takes no time here and is left out.

    Args:
        order: for each cook its tokens; empty slots are skipped: a cook waits for a dish anyway.
        minutes: that each cook spends on a dish; 1 each if not given.
        hand_over: minutes from one cook to the next.
        minute: seconds that stand for a minute.
        one_by_one: no cook begins a dish before the backward of the one before it is done.

    Raises:
        ScheduleError: a dish is missing, appears twice, or is with the wrong cook.
    """
    schedule = with_backwards(order, one_by_one)
    with _kitchen(schedule) as pipeline:
        batch = _dishes(schedule)
        pipeline.step(*batch)  # opens the connections
        pipeline.pace = _pace(minutes, hand_over, minute)
        pipeline.use(schedule)
        return forwards(pipeline.step(*batch).trace)


def _kitchen(schedule: Schedule) -> Pipeline:
    model: list[nn.Module] = [nn.Linear(4, 4) for _ in range(schedule.num_ranks)]
    return Pipeline(model, schedule, loss=nn.functional.mse_loss)


def _dishes(schedule: Schedule) -> tuple[Tensor, Tensor]:
    return torch.ones(schedule.num_microbatches, 4), torch.zeros(schedule.num_microbatches, 4)


def _pace(minutes: Sequence[float], hand_over: float, minute: float) -> Cost:
    forward = [minute * t for t in minutes] or minute
    return Cost(forward, 0.0, 0.0, latency=hand_over * minute)


def _beside(
    schedules: Sequence[Schedule], minutes: Sequence[float] = (), hand_over: float = 0.0
) -> list[Trace]:
    """All of them on the same cooks, in turn."""
    batch, pace = _dishes(schedules[0]), _pace(minutes, hand_over, MINUTE)
    with _kitchen(schedules[0]) as pipeline:
        return [*map(forwards, in_turn(pipeline, batch, schedules, pace))]


def _in_turn(cooks: int, dishes: int) -> list[list[str]]:
    return [[f"{cook}F{dish}" for dish in range(dishes)] for cook in range(cooks)]


def with_backwards(order: Rows, one_by_one: bool = False) -> Schedule:
    """The order as a schedule: forwards, and a backward of each, at the end or one by one."""
    forward_rows = [[Action.parse(token) for token in row if token] for row in order]
    _check(forward_rows)
    rows = []
    for row in forward_rows:
        back = [a._replace(kind=Kind.B) for a in row]
        pairs = [action for pair in zip(row, back, strict=True) for action in pair]
        in_turn = sorted(back, key=lambda a: a.microbatch or 0)
        rows.append(tuple(pairs if one_by_one else [*row, *in_turn]))
    return Schedule(tuple(rows), "one by one" if one_by_one else "relay")


def _check(rows: Sequence[Sequence[Action]]) -> None:
    """Refuse what no kitchen can do, in its words."""
    dishes = sorted({dish for row in rows for _, _, dish in row if dish is not None})
    for cook, row in enumerate(rows):
        for action in row:
            if action.kind is not Kind.F:
                raise LessonError(
                    "only forwards can be given here: tokens such as 0F2, cook 0 with dish 2"
                )
            if action.stage != cook:
                raise ScheduleError(
                    f"{action.token} stands in the row of cook {cook}: cook {action.stage} does it"
                )
        for dish in dishes:
            if (times := row.count(Action(cook, Kind.F, dish))) != 1:
                raise ScheduleError(
                    f"cook {cook} works on dish {dish} {times} times: every dish needs every cook "
                    f"once, so {cook}F{dish} has to stand in the row of cook {cook} once"
                )


def forwards(trace: Trace) -> Trace:
    """The same trace up to the last forward of each rank."""
    last = {e.rank: e.end for e in trace.events if e.kind is Kind.F}

    def shown(e: Event) -> bool:
        if e.kind is Kind.SEND_F:  # a hand-over, if it takes time
            return e.end - e.start > MINUTE / 20
        return e.kind in (Kind.F, Kind.WAIT) and e.start <= last[e.rank]

    events = (e._replace(bytes=0) for e in trace.events if shown(e))
    return Trace(in_order(events), trace.source, replace(trace.setting, story="kitchen"))


def kitchen_lab(cooks: int = 3, dishes: int = 6) -> "TimelineLab":
    """A lab whose cooks pass dishes on, in minutes: only forwards, as ``cook`` records them."""
    from pipelab.widgets.lab import TimelineLab  # a check needs no widgets

    return TimelineLab(
        cooks,
        dishes,
        "gpipe",
        pace=_pace((), 0.0, MINUTE),
        story="kitchen",
        schedules={"gpipe": "passed along", "sequential": "one after another"},
        view=forwards,
    )


# --------------------------------------------------------------------------- 01.1, the order


def _judge_order(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "three cooks, six dishes": (3, 6),
        "a single dish": (3, 1),
        "fewer dishes than cooks": (4, 2),
        "seven dishes": (3, 7),
        "one cook alone": (1, 5),
    }
    tried = yield from each(function, cases, _compare_order, KITCHENS, seed)
    if tried.right:
        plan = with_backwards(_slots(tried.values[0]))
        yours, reference = _beside([plan, with_backwards(_in_turn(3, 6))])
        yield Shown("Your order, as three real processes ran it", yours)
        yield from recorded.order(plan, yours)
        yield recorded.timed("recorded, over the reference run", yours.duration, reference.duration)


def _slots(rows: object) -> list[list[str]]:
    """For each cook a token or "" a slot; None and blanks are no token either."""
    ask(rows, [[(str, NoneType)]], "for each cook a list of slots, each a token or ''")
    assert isinstance(rows, list)
    return [[(slot or "").strip() for slot in row] for row in rows]


def _compare_order(name: str, value: object, cooks: int, dishes: int) -> Result:
    rows = _slots(value)
    slots = cooks + dishes - 1
    expected = f"{number(slots, 'slot')}, each dish once at each cook"
    if fault := _fault(rows, cooks, dishes):
        hint = (
            "cook 1 has the tokens 1F0, 1F1, ...: each once, and each after 0F0, 0F1, ...; "
            'a minute without work is ""'
        )
        return Result(name, expected, fault, False, hint)
    took = max(len(row) - _idle_end(row) for row in rows)
    hint = "a cook may begin a dish in the slot after the cook before has finished it, not later"
    return Result(name, expected, number(took, "slot"), took == slots, hint)


def _fault(rows: list[list[str]], cooks: int, dishes: int) -> str:
    """What is wrong with slots, in words; "" if nothing is."""
    if len(rows) != cooks:
        return f"{number(len(rows), 'row')} for {number(cooks, 'cook')}"
    done: dict[str, int] = {}
    for cook_number, row in enumerate(rows):
        wanted = {f"{cook_number}F{dish}" for dish in range(dishes)}
        tokens = [token for token in row if token]
        if unknown := [token for token in tokens if token not in wanted]:
            return f"{unknown[0]!r} is no token of cook {cook_number} here"
        if len(tokens) != len(set(tokens)):
            return f"cook {cook_number} handles a dish twice"
        if missing := wanted - set(tokens):
            return f"{min(missing)} is missing"
        done |= {token: slot for slot, token in enumerate(row) if token}
    return _too_early(done, cooks, dishes)


def _too_early(done: dict[str, int], cooks: int, dishes: int) -> str:
    for cook_number in range(1, cooks):
        for dish in range(dishes):
            mine, before = f"{cook_number}F{dish}", f"{cook_number - 1}F{dish}"
            if done[mine] <= done[before]:
                return (
                    f"{mine} in slot {done[mine]}, but {before} is done after slot {done[before]}"
                )
    return ""


def _idle_end(row: list[str]) -> int:
    filled = [slot for slot, token in enumerate(row) if token]
    return len(row) - 1 - max(filled, default=-1)


# ------------------------------------------------------------------------- 01.2, the minutes


def _judge_minutes(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "equal cooks": ([1.0, 1.0, 1.0], 6, 0.0),
        "a slow cook in the middle": ([1.0, 2.0, 1.0], 6, 0.0),
        "a slow cook at the end": ([1.0, 1.0, 1.0, 3.0], 5, 0.0),
        "hand-overs take time": ([1.0, 1.0, 1.0], 6, 0.5),
        "a single dish": ([2.0, 1.0, 4.0], 1, 0.25),
        "one cook alone": ([3.0], 4, 0.5),
    }
    compare = against(_simulated, FOLLOW)
    tried = yield from each(function, cases, compare, RELAYS, seed)
    if tried.right:
        plan = with_backwards(_in_turn(3, 4))
        (trace,) = _beside([plan], (1.0, 2.0, 1.0), 0.5)
        yield Shown("Three real cooks, the second twice as slow, hand-over half a minute", trace)
        yield from recorded.order(plan, trace)
        said = _simulated([1.0, 2.0, 1.0], 4, 0.5) * MINUTE
        yield recorded.timed("recorded time over your formula's", trace.duration, said, "formula")


def _simulated(costs: list[float], dishes: int, hand_over: float) -> float:
    cost = Cost(costs, 0.0, 0.0, latency=hand_over)
    trace = simulate(gpipe(len(costs), dishes), cost)
    return max(e.end for e in trace.events if e.kind is Kind.F)


CHAPTER = Chapter(
    {
        "01.1": Exercise(
            "order the dishes",
            _ORDER,
            _judge_order,
            (
                "Draw it on paper for 2 cooks and 3 dishes: a row for each cook, a column for each "
                "minute. Where is the first box of the second row?",
                "Every row holds the same dishes in the same order. What differs from row to row "
                "is only how many empty slots stand before them.",
                "Cook c starts c slots late: c empty texts, then the tokens of all dishes, then "
                "as many empty texts as it takes to fill the row.",
            ),
            KITCHENS,
        ),
        "01.2": Exercise(
            "how many minutes",
            _MINUTES,
            _judge_minutes,
            (
                "Begin with equal cooks and no hand-over, then make one of them slow and look at "
                "the picture: which cook never has to wait once the first dish is there?",
                "The time has two parts: the first dish's time through all stations, and the "
                "distance at which each further dish follows.",
                "The first part is the sum of all costs, and one hand-over between any two "
                "neighbours. The second part is one cook's cost, once for each dish but the first.",
            ),
            RELAYS,
        ),
    },
    QUESTIONS,
)

"""Lesson 9, hide the messages: the learner orders what a rank computes, receives and sends.

Between neighbours 1F1B has one microbatch under way for each rank that is left, so each of them
waits for the answer to the one before (PipeDream-Flush, Narayanan et al. 2020, arXiv 2006.09503).
With about twice as many, "eager 1F1B" (Zhuang et al. 2022, arXiv 2211.05322), the messages of the
steady state travel while ranks compute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelab.action import COMPUTE, RECEIVES, SENDS, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch09_draws import ORDERS, SIZES, tokens
from pipelab.lessons.chapters.ch09_questions import QUESTIONS
from pipelab.lessons.exercise import Cases, Exercise, each
from pipelab.lessons.experiment import Experiment, experiment, in_turn, start
from pipelab.lessons.hidden import hidden_share
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import (
    NAMED_SIZES,
    gradients,
    other_size,
    refused,
    schedule_of,
)
from pipelab.schedules import Schedule, gpipe, one_f_one_b, recognise, validate
from pipelab.schedules.messages import routes
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.words import number, percent

_ORDER = "a function order(p, m): for each rank, the tokens that it computes, in order"
_MESSAGES = "a function with_messages(rows): for each rank, its row with RECVs and SENDs"
LEAST_HIDDEN = 0.6  # of all message time
_SLOTS = Cost(1.0, 1.0, 1.0, latency=0.25)  # a message takes a quarter of F
_PACE = Cost(0.006, 0.006, 0.006, latency=0.0015)  # the same on real ranks
_MOST_OPEN = 3  # receives at any time: the next two, and one to spare


def _ragged() -> Experiment:
    return experiment(rows=30)


def may_hold(rank: int, p: int) -> int:
    """The most microbatches whose activations a rank may keep: nearly twice as many as 1F1B."""
    return 2 * (p - rank) - 1


# --------------------------------------------------------------------- 09.1, what to compute


def _judge_order(function: Function, seed: int) -> Iterator[Result | Shown]:
    tried = yield from each(function, NAMED_SIZES, _compare_order, SIZES, seed)
    if tried.right:
        yield from _record(schedule_of(tried.values[0]))


def _compare_order(name: str, rows: object, p: int, m: int) -> Result:
    shortest = simulate(gpipe(p, m), _SLOTS).duration  # it waits for no message but on the stairs
    expected = f"{shortest:g} slots, with at most {_row(may_hold(r, p) for r in range(p))} held"
    try:
        schedule = schedule_of(rows)
        if fault := other_size(schedule, p, m):
            return Result(name, expected, fault[0], False, fault[1])
        if any(action.kind not in COMPUTE for row in schedule.ranks for action in row):
            hint = "only tokens such as 2F0 and 2B0: messages are the next exercise"
            return Result(name, expected, "tokens of messages", False, hint)
        validate(schedule)
    except ScheduleError as error:
        return refused(name, expected, error)
    held = [_most_held(row) for row in schedule.ranks]
    for rank, most in enumerate(held):
        if most > may_hold(rank, p):
            got = f"rank {rank} holds {most} microbatches at a time"
            hint = "a forward is one more held, a backward one less: begin the backwards earlier"
            return Result(name, expected, got, False, hint)
    took = simulate(schedule, _SLOTS).duration
    hint = (
        f"this order is {recognise(schedule)}; a rank waits in the middle of the step: how many "
        "forwards does it need ahead, so that it has something to compute until the answer to the "
        "first one is back?"
    )
    return Result(name, expected, f"{took:g} slots", took <= shortest + 1e-9, hint)


def _row(numbers: Iterator[int]) -> str:
    return ", ".join(map(str, numbers))


def _most_held(row: Sequence[Action]) -> int:
    held = most = 0
    for action in row:
        held += {Kind.F: 1, Kind.B: -1, Kind.W: -1}.get(action.kind, 0)
        most = max(most, held)
    return most


def _record(schedule: Schedule) -> Iterator[Result | Shown]:
    """The learner's order on four real ranks, beside 1F1B's, with a message of F/4."""
    model, inputs, targets = _ragged()
    yield gradients(_ragged(), schedule, "gradients as in one process")
    with start(model, schedule) as pipeline:
        usual = one_f_one_b(schedule.num_ranks, schedule.num_microbatches)
        yours, reference = in_turn(pipeline, (inputs, targets), [schedule, usual], _PACE)
    yield from recorded.order(schedule, yours)
    yield _hidden("message time hidden, predicted", simulate(schedule, _PACE))
    yield Shown(_title("Your order", yours), yours)
    yield Shown(_title("1F1B, recorded in turn with it", reference), reference)


def _hidden(name: str, trace: Trace) -> Result:
    share = hidden_share(trace)
    hint = "while its message travels, a rank should have another microbatch to compute"
    expected = f"at least {percent(LEAST_HIDDEN)}"
    return Result(name, expected, percent(share), share >= LEAST_HIDDEN, hint)


def _title(what: str, trace: Trace) -> str:
    share = hidden_share(trace)
    return f"{what}: {trace.duration * 1000:.0f} ms, {percent(share)} of the message time hidden"


# ----------------------------------------------------------- 09.2, when to receive and to send


def _judge_messages(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "1F1B, 2 ranks, 2 microbatches": tokens("1f1b", 2, 2),
        "1F1B, 4 ranks, 8 microbatches": tokens("1f1b", 4, 8),
        "GPipe, 3 ranks, 5 microbatches": tokens("gpipe", 3, 5),
        "one microbatch at a time": tokens("sequential", 3, 3),
        "fewer microbatches than ranks": tokens("1f1b", 4, 2),
        "GPipe, the newest backward first": tokens("newest first", 3, 4),
        "one rank, which sends nothing": tokens("1f1b", 1, 3),
    }
    tried = yield from each(function, cases, _compare_messages, _DRAWN, seed)
    if tried.right:
        schedule = schedule_of(tried.values[1])
        model, inputs, targets = _ragged()
        with start(model, schedule) as pipeline:
            (trace,) = in_turn(pipeline, (inputs, targets), [schedule], _PACE)
        yield from recorded.order(schedule, trace)
        yield Shown(_title("1F1B with your messages, on four real ranks", trace), trace)


def _compare_messages(name: str, rows: object, given: list[list[str]]) -> Result:
    expected = "it runs where a send waits for its receive"
    order = Schedule.from_tokens(given)
    try:
        schedule = schedule_of(rows)
        if schedule.num_ranks != order.num_ranks:
            hint = "return a row for each row that you are given"
            return Result(name, expected, number(schedule.num_ranks, "row"), False, hint)
        if schedule.ranks == order.ranks and order.num_ranks > 1:
            hint = "behind a result stands its SEND, and the neighbour that needs it has a RECV"
            return Result(name, expected, "no message at all", False, hint)
        if schedule.compute.ranks != order.ranks:
            hint = "keep the F and B of the row that you are given, all of them, in their order"
            return Result(name, expected, "another order of F and B", False, hint)
        validate(schedule)
    except ScheduleError as error:
        return refused(name, expected, error)
    if late := _late_send(schedule):
        hint = "a result can leave as soon as it is made: the SEND stands directly behind it"
        return Result(name, expected, f"{late} leaves later than it could", False, hint)
    most, rank = max((_most_open(row), rank) for rank, row in enumerate(schedule.ranks))
    hint = "each open receive takes memory: open it only one action before the one that needs it"
    got = f"at most {number(most, 'open receive')}" if order.num_ranks > 1 else "no messages"
    if most > _MOST_OPEN:
        return Result(name, expected, f"{number(most, 'open receive')} on rank {rank}", False, hint)
    return Result(name, expected, got, True)


def _compare_drawn(name: str, rows: object, order: str, p: int, m: int) -> Result:
    return _compare_messages(name, rows, *tokens(order, p, m))


_DRAWN = replace(ORDERS, compare=_compare_drawn)


def _late_send(schedule: Schedule) -> str:
    """The token of a SEND that does not stand directly behind what it sends; "" if all do."""
    route = routes(schedule)
    for row in schedule.ranks:
        for i, action in enumerate(row):
            way = route(action.stage, action.kind)
            if way and row[i + 1 : i + 2] != (Action(action.stage, way.send, action.microbatch),):
                return f"{action.stage}{way.send}{action.microbatch}"
    return ""


def _most_open(row: Sequence[Action]) -> int:
    """The most receives that are posted and whose message is not needed yet."""
    opened: set[tuple[Kind, int | None]] = set()
    most = 0
    for action in row:
        if action.kind in RECEIVES:
            opened.add((Kind.F if action.kind is Kind.RECV_F else Kind.B, action.microbatch))
            most = max(most, len(opened))
        elif action.kind not in SENDS:
            opened.discard((action.kind, action.microbatch))
    return most


CHAPTER = Chapter(
    {
        "09.1": Exercise(
            "order what to compute",
            _ORDER,
            _judge_order,
            (
                "Print 1F1B, print(one_f_one_b(4, 8)): how many forwards stand before the first "
                "backward of each rank? What would one more do for its neighbours?",
                "You may hold 2(p - r) - 1 microbatches on rank r. So how many forwards can it run "
                "before its first backward, if each later forward is followed by a backward?",
                "First that many forwards less one (or all, if there are fewer), then one forward "
                "and one backward in turns, then the backwards that are left, in order.",
            ),
            SIZES,
        ),
        "09.2": Exercise(
            "place receives and sends",
            _MESSAGES,
            _judge_messages,
            (
                "Take one row of 1F1B on two ranks, without messages, and write them in by hand. "
                'message("SEND", token, p) says what is to be sent, or that nothing is.',
                "The SEND is the easy part: directly behind the F or B that makes its content. A "
                "RECV directly before its use is too late for 1F1B: both neighbours would send.",
                "Go through the row by position. Before the action at i, put the RECV that the "
                "action at i + 1 needs; the RECV of the very first action stands at the start.",
            ),
            _DRAWN,
        ),
    },
    QUESTIONS,
)

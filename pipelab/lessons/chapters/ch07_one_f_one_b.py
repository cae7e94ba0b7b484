"""Lesson 7, 1F1B and activation memory: the learner writes 1F1B, and predicts what a block holds.

1F1B is PipeDream-Flush (Narayanan et al. 2020, arXiv 2006.09503); that a microbatch's lifespan over
the period decides the peak is in Qi et al. 2024 (arXiv 2405.15362, section 3).
"""

from collections.abc import Iterator

from pipelab.action import COMPUTE
from pipelab.errors import ScheduleError
from pipelab.lessons import recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch07_draws import LIFESPANS, SIZES, most_held
from pipelab.lessons.chapters.ch07_questions import QUESTIONS
from pipelab.lessons.exercise import Cases, Exercise, against, each, equal
from pipelab.lessons.experiment import Experiment, experiment, in_turn, start
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import (
    NAMED_SIZES,
    all_ranks,
    gradients,
    other_size,
    refused,
    schedule_of,
)
from pipelab.schedules import Schedule, gpipe, one_f_one_b, recognise, v_half, validate
from pipelab.schedules.blocks import lifespans, v_half_block
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate

_ORDER = "a function one_f_one_b(rank, p, m): the tokens of one rank, in order"
_PEAK = "a function peak(lifespans, period, m): a number of activations"
_SLOTS = Cost(1.0, 1.0, 1.0)
_PACE = Cost(0.006, 0.006, 0.006)


def _even(rows: int = 32) -> Experiment:
    """Layers of one width, so that all activations of a stage are of one size."""
    return experiment(rows=rows, features=32, classes=32)


# -------------------------------------------------------------------------------- 07.1, 1F1B


def _judge_order(function: Function, seed: int) -> Iterator[Result | Shown]:
    tried = yield from each(all_ranks(function), NAMED_SIZES, _compare_order, SIZES, seed)
    if tried.right:
        yield from _record(schedule_of(tried.values[0]))


def _compare_order(name: str, rows: object, p: int, m: int) -> Result:
    usual = one_f_one_b(p, m)
    slots, peaks = simulate(usual, _SLOTS).duration, peak_activations(usual)
    expected = f"{slots:g} slots, with at most {_row(peaks)} held"
    try:
        schedule = schedule_of(rows)
        if fault := other_size(schedule, p, m):
            return Result(name, expected, fault[0], False, fault[1])
        if other := [a for row in schedule.ranks for a in row if a.kind not in "FB"]:
            what = "a part of a backward" if other[0].kind in COMPUTE else "a message"
            hint = "only tokens such as 2F0 and 2B0: the engine adds the messages"
            return Result(name, expected, f"{other[0].token}, {what}", False, hint)
        validate(schedule)
    except ScheduleError as error:
        return refused(name, expected, error)
    held, took = peak_activations(schedule), simulate(schedule, _SLOTS).duration
    ok = held == peaks and abs(took - slots) < 1e-9
    got = f"{took:g} slots, with at most {_row(held)} held"
    return Result(name, expected, got, ok, _next_step(schedule, held, peaks))


def _row(peaks: tuple[float, ...]) -> str:
    return ", ".join(f"{peak:g}" for peak in peaks)


def _next_step(schedule: Schedule, held: tuple[float, ...], peaks: tuple[float, ...]) -> str:
    """Which rank runs too many forwards ahead, or too few."""
    order = f"this order is {recognise(schedule)}"
    for rank, (has, wanted) in enumerate(zip(held, peaks, strict=True)):
        if has != wanted:
            many = "many" if has > wanted else "few"
            return f"{order}; rank {rank} runs too {many} forwards before its first backward"
    return f"{order}; each rank holds what it should, but somebody waits: F and B in turns"


def _record(schedule: Schedule) -> Iterator[Result | Shown]:
    """On four real ranks, in turns with GPipe: the same time, other bytes."""
    yield gradients(experiment(rows=30), schedule, "gradients as in one process, ragged batch")
    of = _even()
    with start(of.model, schedule) as pipeline:
        orders = [schedule, gpipe(4, 8), one_f_one_b(4, 8)]
        yours, all_first, usual = in_turn(pipeline, (of.inputs, of.targets), orders, _PACE)
    yield from recorded.order(schedule, yours)
    bytes = equal(
        "recorded: most bytes of activations",
        list(usual.peak_activation_bytes),
        list(yours.peak_activation_bytes),
    )
    yield bytes
    yield recorded.timed("recorded, over GPipe", yours.duration, all_first.duration)
    yield Shown("Your 1F1B, recorded on four real ranks", yours)
    yield Shown("GPipe, recorded in turn with it", all_first)


# ------------------------------------------------------------------------- 07.2, lifespans


def _judge_peak(function: Function, seed: int) -> Iterator[Result | Shown]:
    block = lifespans(*v_half_block(4), 4)
    cases: Cases = {
        "1F1B, rank 0 of 4": ([(0, 12)], 3, 8),
        "1F1B, rank 3 of 4": ([(3, 6)], 3, 8),
        "a single microbatch": ([(0, 12)], 3, 1),
        "fewer microbatches than could be held": ([(0, 12)], 3, 2),
        "two stages, never full together": ([(0, 2), (3, 5)], 6, 4),
        **{f"V-Half, rank {rank} of 4": (spans, 6, 8) for rank, spans in enumerate(block)},
    }
    tried = yield from each(function, cases, _compare_peak, LIFESPANS, seed)
    if tried.right:
        yield from _record_blocks(tried.values[-4:])


_compare_peak = against(
    most_held, "write down in which slots each microbatch is held, one below the other, and count"
)


def _record_blocks(yours: list[object]) -> Iterator[Result | Shown]:
    of, schedule = _even(), v_half(4, 8)
    with start(of.model, schedule) as pipeline:
        (trace,) = in_turn(pipeline, (of.inputs, of.targets), [schedule], _PACE)
    one = 2 * of.inputs[:4].nbytes  # a layer keeps its input and its output, of four rows
    peaks = [round(peak / one) for peak in trace.peak_activation_bytes]
    yield equal("recorded on four real ranks, V-Half", yours, peaks)
    yield Shown("V-Half, recorded on four real ranks", trace)


CHAPTER = Chapter(
    {
        "07.1": Exercise(
            "write 1F1B",
            _ORDER,
            _judge_order,
            (
                "from pipelab import schedules; print(schedules.one_f_one_b(4, 8)). Count in each "
                "row the forwards before the first backward.",
                "A row has three parts: some forwards, then a forward and a backward in turns, "
                "then the backwards that are left. The later the rank, the shorter the first part.",
                "The last rank has nothing ahead, and each rank before it has one more, but never "
                "more than m. In turns come the forward after those and the oldest backward.",
            ),
            SIZES,
        ),
        "07.2": Exercise(
            "what a block holds",
            _PEAK,
            _judge_peak,
            (
                "Take one lifespan, (0, 12), and period 3. Microbatch 1 has (3, 15), microbatch 2 "
                "(6, 18). How many of them contain slot 11? And slot 12?",
                "The number can only grow in a slot where a microbatch begins. So it is enough to "
                "look at those slots.",
                "For each of them count, over all lifespans and all m microbatches, those with "
                "start + i * period <= slot < end + i * period, and return the largest count.",
            ),
            LIFESPANS,
        ),
    },
    QUESTIONS,
)

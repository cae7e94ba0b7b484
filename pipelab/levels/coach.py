"""The coach: one move that leads to the best order known, and why it helps.

    the rows now    0F0 0B0 0F1 0B1      what is in both in the same order stays; each of the other
    the best order  0F0 0F1 0B0 0B1      tokens is a move: 0F1, to just after 0F0

Of all these moves the one is proposed that the simulator likes most: first one after which the
schedule can run, then one that takes less memory where it is over the limit, then the shortest
step. Each move is towards the nearest of the best orders, so that one is reached from anywhere;
only the repair of a schedule that cannot run may lead to another.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from pipelab.errors import PipelabError
from pipelab.levels.level import Level, Score, score
from pipelab.levels.orders import best_orders
from pipelab.levels.stages import stage_of, with_stage_on
from pipelab.levels.why_idle import awaited
from pipelab.schedules import Schedule
from pipelab.simulator.stamp import stamped
from pipelab.words import time_text

Rows = list[list[str]]

_PERIODS = range(1, 13)  # slots, that are tried for a block
_NEVER = (True, 0.0, 0.0)  # of a schedule that cannot run


class Move(NamedTuple):
    """What the coach proposes.

    Attributes:
        rows: after the move; None where nothing is left to do.
        text: the move and why, in a few sentences.
        tokens: what moves.
    """

    rows: Rows | None
    text: str
    tokens: tuple[str, ...] = ()


class _Step(NamedTuple):
    """One edit: the rows after it, what it is in words, and the tokens that it moves."""

    rows: Rows
    words: str
    tokens: tuple[str, ...]


def advise(level: Level, rows: Rows) -> Move:
    """One move from these rows towards the nearest of the best orders."""
    now = _judged(level, rows)
    if isinstance(now, Score) and not now.over and now.seconds <= level.par + 1e-9:
        return Move(
            None, f"This is par: no order is known that is shorter than {time_text(level.par)}."
        )
    goals = sorted((each.tokens for each in best_orders(level)), key=partial(_distance, rows))
    if isinstance(now, Score):  # a repair may lead to any of them
        goals = goals[:1]
    found = [*filter(None, (_best_step(level, rows, goal) for goal in goals))]
    if not found:  # the search knows nothing better
        return Move(None, "No move is known that makes it shorter.")
    step, then = min(found, key=lambda pair: not isinstance(pair[1], Score))
    text = f"{step.words}. {_why(level, rows, step, now, then)}"
    return Move(step.rows, text, step.tokens)


def distance(level: Level, rows: Rows) -> int:
    """How many tokens stand elsewhere than in the nearest of the best orders."""
    return min(_distance(rows, best) for best in (each.tokens for each in best_orders(level)))


def _judged(level: Level, rows: Rows) -> Score | PipelabError:
    try:
        return score(level, Schedule.from_tokens(rows))
    except PipelabError as error:
        return error


def _rating(judged: Score | PipelabError) -> tuple[bool, float, float]:
    """The smaller, the better."""
    if not isinstance(judged, Score):
        return _NEVER
    return False, sum(judged.held[rank] for rank in judged.over), judged.seconds


def _best_step(level: Level, rows: Rows, goal: Rows) -> tuple[_Step, Score | PipelabError] | None:
    """Of the moves towards a goal the one that the simulator likes most, with what it gives."""
    judged = [(step, _judged(level, step.rows)) for step in _steps(level, rows, goal)]
    return min(judged, key=lambda pair: _rating(pair[1]), default=None)


def _steps(level: Level, rows: Rows, goal: Rows) -> Iterator[_Step]:
    """All moves towards one of the best orders."""
    if level.may_stamp and (blocks := [*_stamps(level, rows)]):
        yield from blocks
        return
    if level.may_move and (whole := [*_stage_moves(rows, goal)]):
        yield from whole
        return
    for rank, (row, best) in enumerate(zip(rows, goal, strict=True)):
        yield from _row_steps(rows, rank, row, best)


def _stamps(level: Level, rows: Rows) -> Iterator[_Step]:
    """The block of microbatch 0 repeated, with each period that can be had."""
    schedule = _parsed(rows)
    if schedule is None or schedule.num_microbatches == level.num_microbatches:
        return
    for period in _PERIODS:
        try:
            found = stamped(schedule, period, level.num_microbatches)
        except PipelabError:
            continue
        words = f"Stamp the block with period {period} and {level.num_microbatches} microbatches"
        yield _Step(found.tokens, words, ())


def _parsed(rows: Rows) -> Schedule | None:
    try:
        return Schedule.from_tokens(rows)
    except PipelabError:
        return None


def _stage_moves(rows: Rows, goal: Rows) -> Iterator[_Step]:
    """Each stage that is on another rank than in the goal, moved there whole."""
    wanted = {stage_of(token): rank for rank, row in enumerate(goal) for token in row}
    found = dict.fromkeys((stage_of(token), rank) for rank, row in enumerate(rows) for token in row)
    for stage, rank in found:
        if wanted.get(stage, rank) != rank:
            to = wanted[stage]
            words = f"Move stage {stage} from rank {rank} to rank {to}, with all its tokens"
            tokens = tuple(token for token in rows[rank] if stage_of(token) == stage)
            yield _Step(with_stage_on(rows, stage, to), words, tokens)


def _row_steps(rows: Rows, rank: int, row: list[str], best: list[str]) -> Iterator[_Step]:
    """The moves within one row: a token out of order, one too many, one that is missing."""
    kept = _in_order(row, best)
    elsewhere = {token for other in rows for token in other}
    for token in dict.fromkeys(row):
        if token not in best or row.count(token) > 1:
            place = len(row) - 1 - row[::-1].index(token)
            rest = [*row[:place], *row[place + 1 :]]
            yield _Step(_with(rows, rank, rest), f"Remove {token} from rank {rank}", (token,))
    for token in best:
        if token in kept or row.count(token) > 1:
            continue
        if token not in row and token in elsewhere:
            continue  # it has to be removed from another rank first
        rest = [other for other in row if other != token]
        place = best.index(token)
        before = next((other for other in reversed(best[:place]) if other in kept), None)
        at = rest.index(before) + 1 if before is not None else 0
        where = f"to just after {before}" if before is not None else "to the front"
        verb = "Move" if token in row else "Add"
        words = f"{verb} {token} on rank {rank} {where}"
        yield _Step(_with(rows, rank, [*rest[:at], token, *rest[at:]]), words, (token,))


def _with(rows: Rows, rank: int, row: list[str]) -> Rows:
    return [row if r == rank else [*other] for r, other in enumerate(rows)]


def _distance(rows: Rows, best: Rows) -> int:
    pairs = zip(rows, best, strict=True)
    return sum(len(row) + len(goal) - 2 * len(_in_order(row, goal)) for row, goal in pairs)


def _in_order(row: Sequence[str], best: Sequence[str]) -> set[str]:
    """The most tokens of a row that stand in the same order in the best one."""
    places = {token: place for place, token in enumerate(best)}
    known = [token for token in dict.fromkeys(row) if token in places]
    ends: list[int] = []  # of the shortest-ending increasing runs of each length, in ``known``
    before: list[int] = []
    for i, token in enumerate(known):
        at = bisect_left([places[known[end]] for end in ends], places[token])
        before.append(ends[at - 1] if at else -1)
        ends[at : at + 1] = [i]
    kept, i = set(), ends[-1] if ends else -1
    while i >= 0:
        kept.add(known[i])
        i = before[i]
    return kept


def _why(
    level: Level, rows: Rows, step: _Step, now: Score | PipelabError, then: Score | PipelabError
) -> str:
    """What the simulator says of the move."""
    if not isinstance(now, Score):
        first = str(now).splitlines()[0].rstrip(":.")
        after = "then it can run" if isinstance(then, Score) else "it is one step of the repair"
        return f"Why: it cannot run now ({first}); {after}."
    if not isinstance(then, Score):
        return "Why: the best order has it there; it can run again after the next moves."
    reasons = []
    if relieved := [r for r in now.over if then.held[r] < now.held[r]]:
        rank = relieved[0]
        reasons.append(
            f"rank {rank} then holds {then.held[rank]:.3g} at once in place of "
            f"{now.held[rank]:.3g}; the limit is {level.limit}"
        )
    if then.seconds < now.seconds - 1e-9:
        waits = awaited(now.trace, _sooner(rows, step))
        reasons.append(
            f"the step takes {time_text(then.seconds)} in place of {time_text(now.seconds)}"
        )
        reasons += [waits] if waits else []
    if not reasons:
        left = distance(level, step.rows)
        return (
            "Why: by itself it makes nothing shorter; the best order has it there, and "
            f"{'then you are there' if not left else 'the next moves profit from it'}."
        )
    return f"Why: {'; '.join(reasons)}."


def _sooner(rows: Rows, step: _Step) -> set[str]:
    """The tokens that run sooner after a move: the one that moved left, or those it let pass."""
    found: set[str] = set()
    for row, after in zip(rows, step.rows, strict=True):
        for token in row:
            if token in after and after.index(token) < row.index(token):
                found.add(token)
    return found

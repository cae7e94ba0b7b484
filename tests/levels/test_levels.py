"""The levels: each can be solved, par is what the search finds, and all that is said is true."""

import re
from itertools import combinations

import pytest

from pipelab.errors import ScheduleError
from pipelab.levels import LEVELS
from pipelab.levels.coach import advise, distance
from pipelab.levels.level import MOST_STARS, Level, score, stars_for
from pipelab.levels.orders import best_orders, par
from pipelab.levels.puzzles import level_of
from pipelab.levels.real_runs import recording_of
from pipelab.levels.stages import completed, with_stage_on
from pipelab.levels.why_idle import why_idle
from pipelab.schedules import Schedule, one_f_one_b
from pipelab.schedules.catalogue import BUILDERS
from pipelab.schedules.recognition import order_of
from pipelab.simulator.stamp import stamped
from tests.levels.shortest import Shortest

EACH = pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
TOKENS = re.compile(r"\d+[FBIW]\d+(?: \d+[FBIW]\d+){3,}")
PAIRS = re.compile(r"(\d+[FBIW]\d+) (?:can run |come )?(before|after) (\d+[FBIW]\d+)")


def judged(level: Level, rows: list[list[str]]):
    return score(level, Schedule.from_tokens(rows))


def hinted(level: Level) -> list[list[str]]:
    """The start, with the rows that the last hint spells out in their ranks' places."""
    found = [*level.rows]
    for text in TOKENS.findall(level.hints[2]):
        row = text.split()
        same = {token[0] for token in row}
        rank = next(r for r, old in enumerate(level.rows) if level.may_move or set(old) & set(row))
        if level.may_move:
            rank = 0 if "0" in same else 1
        found[rank] = row
    return found


def test_there_are_twelve_with_names_that_an_address_can_hold():
    names = [level.name for level in LEVELS]
    assert len(set(names)) == 12 and all(re.fullmatch("[a-z-]+", name) for name in names)
    assert all(level_of(level.name) is level for level in LEVELS)
    assert level_of("no such level") is LEVELS[0]


@EACH
def test_the_start_earns_no_star_and_par_earns_three(level):
    try:
        assert judged(level, level.rows).stars == 0
    except ScheduleError:
        assert level.may_stamp or level.name == "nobody-can-go-on"
    for best in best_orders(level):
        assert score(level, best).stars == MOST_STARS
    assert level.goal >= level.par


@EACH
def test_par_is_what_the_search_finds(level):
    assert level.par == pytest.approx(par(level), abs=1e-9)
    for name in ("1f1b", level.schedule):  # and no worse than the catalogue
        builder = BUILDERS.get(name)
        if builder is None or level.may_move:
            continue
        try:
            built = builder.build(level.num_ranks, level.num_microbatches, 2)
            found = score(level, built)
        except ScheduleError:
            continue  # other stages, or other backwards
        assert found.over or found.seconds >= level.par - 1e-9


@EACH
def test_nothing_is_shorter_than_par(level):
    if level.may_move:
        layouts = []
        for a, b in combinations(range(1, level.num_stages), 2):
            layouts.append({s: (s >= a) + (s >= b) for s in range(level.num_stages)})
    else:
        layouts = [level.homes]
    for homes in layouts:
        assert Shortest(level, homes).seconds(below=level.par) == float("inf")


def test_the_second_opinion_finds_what_is_shorter():
    level = LEVELS[0]
    assert Shortest(level).seconds(below=0.2) == pytest.approx(0.090)
    zero = level_of("zero-bubble")
    assert Shortest(zero).seconds(below=0.2) == pytest.approx(0.140)


@EACH
def test_stars_are_for_goal_half_way_and_par(level):
    assert stars_for(level, level.goal + 1e-6) == 0
    assert stars_for(level, level.goal) >= 1
    assert stars_for(level, (level.goal + level.par) / 2) >= 2
    assert stars_for(level, level.par) == stars_for(level, level.par / 2) == 3


@EACH
def test_the_last_hint_is_the_answer_and_the_second_agrees_with_it(level):
    if level.may_stamp:
        period, m = map(int, re.findall(r"\d+", level.hints[2]))
        rows = stamped(Schedule.from_tokens(level.rows), period, m).tokens
        shorter = period - 1
        with pytest.raises(ScheduleError):
            stamped(Schedule.from_tokens(level.rows), shorter, m)
    else:
        rows = hinted(level)
    assert judged(level, rows).stars == MOST_STARS
    said = PAIRS.findall(" ".join(level.hints[:2]))
    for one, when, other in said:
        row = next(row for row in rows if one in row)
        early, late = (one, other) if when == "before" else (other, one)
        assert row.index(early) < row.index(late), f"{one} {when} {other}"
    in_words = ("nobody-can-go-on", "one-forward-one-backward", "stamp-a-block", "a-slow-rank")
    assert said or level.name in in_words
    assert all(hint.endswith((".", "?")) for hint in level.hints)


@EACH
def test_the_coach_leads_from_the_start_to_par(level):
    rows, moves = level.rows, 0
    left = 10**6
    while (move := advise(level, rows)).rows is not None:
        assert move.rows != rows and move.text.count("Why: ") == 1
        now = distance(level, move.rows)
        assert level.may_stamp or level.may_move or now < left, "each move is nearer"
        rows, left, moves = move.rows, now, moves + 1
        assert moves <= 12, move.text
    assert judged(level, rows).stars == MOST_STARS
    assert "This is par" in move.text


@EACH
def test_the_coach_also_helps_with_tokens_that_are_missing_doubled_or_unknown(level):
    rows = [[*row] for row in best_orders(level)[0].tokens]
    gone = rows[0].pop(1)
    rows[1].append("0X0")
    rows[1].append(rows[1][0])
    for _ in range(8):
        move = advise(level, rows)
        if move.rows is None:
            break
        rows = move.rows
    assert gone in rows[0] and judged(level, rows).stars == MOST_STARS


def test_what_the_coach_says_of_a_move_is_what_the_simulator_says():
    level = LEVELS[0]
    move = advise(level, level.rows)
    assert "the step takes 90 ms in place of 120 ms" in move.text
    assert "rank 1 waited 30 ms for 0F1" in move.text
    memory = advise(level_of("one-forward-one-backward"), level_of("one-forward-one-backward").rows)
    assert re.search(r"rank \d then holds [123] at once in place of 4; the limit is 3", memory.text)
    hang = advise(level_of("nobody-can-go-on"), level_of("nobody-can-go-on").rows)
    assert "it cannot run now (deadlock: no rank can go on)" in hang.text


# ------------------------------------------------------------------------- other work, refused


def test_a_level_refuses_other_work_than_its_own():
    level = level_of("one-forward-one-backward")
    with pytest.raises(ScheduleError, match="level wants 3 stages and 4 microbatches"):
        score(level, one_f_one_b(3, 5))
    halves = level_of("zero-bubble")
    whole = level_of("fill-and-drain")
    split = [[t for t in row if t[-1] != "3"] for row in halves.rows]
    with pytest.raises(ScheduleError, match="backwards stay whole"):
        judged(whole, split)
    rows = [[*row] for row in level.rows]
    rows[1].append(rows[0].pop())
    with pytest.raises(ScheduleError, match="stage 0 stays on rank 0") as error:
        judged(level, rows)
    assert error.value.cells == ((1, 8),)


# --------------------------------------------------------------------------------- stages


def test_a_token_takes_its_stage_along_and_nothing_gets_lost():
    level = level_of("a-slow-rank")
    rows = [[*row] for row in level.rows]
    rows[0].insert(3, rows[1].pop(0))  # 1F0 alone
    found = completed(rows)
    assert found is not None and completed(found) is None and completed(level.rows) is None
    assert sorted(t for row in found for t in row) == sorted(t for row in rows for t in row)
    assert judged(level, found).seconds == pytest.approx(level.par)
    back = with_stage_on(found, 1, 1)
    assert judged(level, back).seconds <= judged(level, level.rows).seconds
    assert level.cost_of(Schedule.from_tokens(level.rows)).forward == (0.01, 0.02, 0.02, 0.01, 0.01)


# ------------------------------------------------------------------------- why a bubble is there


@EACH
def test_each_bubble_is_explained_and_what_could_run_could_run(level):
    for schedule in best_orders(level)[:1]:
        trace = score(level, schedule).trace
        seen = set()
        for place in range(40):
            why = why_idle(level, schedule, trace, place)
            if why is None or why.text in seen:
                break
            seen.add(why.text)
            assert re.search(r"rank \d is idle for \d", why.text) and 0 < why.at < trace.duration
            assert all(any(t in row for row in schedule.tokens) for t in why.tokens)
        assert seen


def test_a_bubble_names_what_could_run_in_it_and_keeps_to_the_limit():
    level = LEVELS[0]
    schedule = Schedule.from_tokens(level.rows)
    why = why_idle(level, schedule, score(level, schedule).trace, 0)
    assert "rank 0 is idle for 30 ms, from 10 ms to 40 ms" in why.text
    assert "needs 1B0 of rank 1" in why.text and "0F1 could run here" in why.text
    assert why.tokens == ("0B0", "1F0", "1B0") and why.at == pytest.approx(0.025)
    tight = level_of("tighter-memory")
    best = best_orders(tight)[0]
    text = why_idle(tight, best, score(tight, best).trace, 0).text
    assert "0F2 would be ready, but rank 0 holds 2 already, which is the limit" in text


# ------------------------------------------------------------------------- what real ranks did


@EACH
def test_real_ranks_ran_each_level_at_par_with_gradients_checked(level):
    recording = recording_of(level.name)
    assert recording is not None, "python -m tests.levels.record"
    trace = recording.trace
    assert trace.source == "recorded" and trace.setting.paced
    ran = order_of(trace)
    assert score(level, ran).stars == MOST_STARS, "its order is at par"
    assert trace.duration == pytest.approx(level.par, rel=0.05), "record it on a quiet machine"
    assert 0 < recording.exact <= recording.parameters
    assert str(recording.exact) in recording.gradients
    assert recording.predicted(level).duration == pytest.approx(level.par)

"""validate accepts what is executable, and nothing else; lowered schedules likewise."""

import dataclasses
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import MESSAGES, Action, Kind
from pipelab.errors import Blocked, DeadlockError, ScheduleError
from pipelab.schedules import Schedule, gpipe, validate
from pipelab.schedules.communication import Lowered, lower
from pipelab.schedules.messages import message_needs
from pipelab.schedules.walk import walk
from tests.schedules.strategies import is_executable, mutated_schedules, valid_schedules


@given(valid_schedules())
@settings(max_examples=150)
def test_valid_schedules_are_accepted_and_lowered_without_deadlock(schedule):
    assert is_executable(schedule)  # the judge itself
    validate(schedule)
    validate(lower(schedule), rendezvous=True)
    validate(lower(schedule), rendezvous=False)
    assert Schedule.from_csv(schedule.to_csv()).ranks == schedule.ranks


@given(mutated_schedules())
@settings(max_examples=300)
def test_mutated_schedules_are_accepted_exactly_when_executable(schedule):
    if is_executable(schedule):
        validate(schedule)
    else:
        with pytest.raises(ScheduleError):
            validate(schedule)


@given(valid_schedules(), st.integers(0, 2**32), st.sampled_from(["drop", "double", "cross"]))
@settings(max_examples=150)
def test_broken_messages_are_refused(schedule, seed, how):
    rng = random.Random(seed)
    rows = [list(row) for row in lower(schedule).ranks]
    where = [(r, i) for r, row in enumerate(rows) for i, a in enumerate(row) if a.kind in MESSAGES]
    if not where:
        return
    rank, i = rng.choice(where)
    if how == "drop":
        rows[rank].pop(i)
    elif how == "double":
        rows[rank].insert(i, rows[rank][i])
    else:  # two receives of one channel change places
        action = rows[rank][i]
        alike = [j for r, j in where if r == rank and rows[rank][j][:2] == action[:2] and j != i]
        if not alike:
            return
        j = rng.choice(alike)
        rows[rank][i], rows[rank][j] = rows[rank][j], rows[rank][i]
    with pytest.raises(ScheduleError):
        validate(Schedule(tuple(map(tuple, rows))))


def test_crossed_messages_are_named_and_marked():
    rows = [list(row) for row in lower(gpipe(2, 2)).ranks]
    i, j = (k for k, a in enumerate(rows[1]) if a.kind is Kind.RECV_F)
    rows[1][i], rows[1][j] = rows[1][j], rows[1][i]
    with pytest.raises(ScheduleError) as caught:
        validate(Schedule(tuple(map(tuple, rows))))
    text = str(caught.value)
    assert text.startswith("rank 0 sends 0SEND_F0 where rank 1 receives 1RECV_F1: crossed")
    assert ">0SEND_F0<" in text
    assert ">1RECV_F1<" in text


@pytest.mark.parametrize(
    "stray", [Action(0, Kind.F), Action(0, Kind.B, -1), Action(-1, Kind.F, 0)], ids=str
)
def test_an_action_without_numbers_is_refused(stray):
    row = (Action(0, Kind.F, 0), Action(0, Kind.B, 0), stray)
    with pytest.raises(ScheduleError, match=rf"rank 0: {stray.token} wants a stage and a micro"):
        validate(Schedule((row,)))


def test_errors_mark_the_cells_and_draw_the_cycle():
    crossed = Schedule.from_tokens([["0F0", "0B0", "0F1", "0B1"], ["1F1", "1B1", "1F0", "1B0"]])
    with pytest.raises(ScheduleError, match="the cycle: rank 0 -> rank 1 -> rank 0\n"):
        validate(crossed)
    with pytest.raises(ScheduleError, match="rank 0 >0F0<>0B0<>0B0<"):
        validate(Schedule.from_tokens([["0F0", "0B0", "0B0"]]))


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        ([["0F0", "0B0", "0B0"]], {(0, 0), (0, 1), (0, 2)}),
        ([["0B0", "0F0"]], {(0, 0), (0, 1)}),
        ([["0F0", "0B0"], ["0F1", "0B1"]], {(0, 0), (1, 0)}),
        ([["0F0", "0STEP", "0B0"]], {(0, 1), (0, 2)}),
        ([["0F0", "0SEND_F0", "0B0"]], {(0, 1)}),
        ([["0F0", "0B0"], ["2F0", "2B0"]], set()),
    ],
)
def test_errors_carry_the_cells_that_they_mark(rows, cells):
    with pytest.raises(ScheduleError) as caught:
        validate(Schedule.from_tokens(rows))
    assert set(caught.value.cells) == cells
    for rank, position in cells:
        assert f">{rows[rank][position]}<" in str(caught.value)


def test_cells_are_positions_in_the_rows_as_written():
    rows = [list(row) for row in lower(gpipe(2, 2)).ranks]
    b = rows[0].index(Action(0, Kind.B, 1))
    rows[0].insert(0, rows[0].pop(b))
    with pytest.raises(ScheduleError, match=r"rank 0 runs 0B1 \(place 1\) before 0F1") as caught:
        validate(Schedule(tuple(map(tuple, rows))))
    assert set(caught.value.cells) == {(0, 0), (0, rows[0].index(Action(0, Kind.F, 1)))}


def test_a_deadlock_carries_who_waits_for_whom():
    crossed = Schedule.from_tokens([["0F0", "0B0", "0F1", "0B1"], ["1F1", "1B1", "1F0", "1B0"]])
    with pytest.raises(DeadlockError) as caught:
        validate(crossed)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.blocked == (Blocked(0, "0B0", "1B0", 1), Blocked(1, "1F1", "0F1", 0))
    assert error.cells == ((0, 1), (1, 0))
    assert error.cycle == (0, 1)
    assert str(error) == str(caught.value)


def test_only_lower_makes_a_lowered_schedule():
    lowered = lower(gpipe(2, 2))
    with pytest.raises(TypeError, match="lower"):
        Lowered(lowered.ranks, schedule=gpipe(2, 2), rendezvous=True, signature=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(lowered, ranks=((),))
    assert lower(lowered) is lowered
    assert lower(lower(lowered, replicas=2), rendezvous=False) is lowered


def test_what_was_judged_for_buffered_sends_alone_is_judged_again():
    buffered = Schedule.from_tokens(
        [
            ["0F0", "0SEND_F0", "0F1", "0SEND_F1", "0RECV_B0", "0B0", "0RECV_B1", "0B1"],
            ["1RECV_F0", "1F0", "1B0", "1SEND_B0", "1RECV_F1", "1F1", "1B1", "1SEND_B1"],
        ]
    )
    lowered = lower(buffered, rendezvous=False)
    assert lower(lowered, rendezvous=False) is lowered
    with pytest.raises(DeadlockError):
        lower(lowered)


def test_steps_by_hand_stay_where_messages_are_placed():
    by_hand = Schedule.from_tokens([["0F0", "0B0"], ["1F0", "1B0", "1STEP", "2F0", "2B0"]])
    with pytest.raises(ScheduleError):  # 1B0 needs 2B0, which stands behind it
        validate(by_hand)
    by_hand = Schedule.from_tokens([["0F0", "0B0"], ["1F0", "2F0", "2B0", "2STEP", "1B0"]])
    row = lower(by_hand, replicas=2).ranks[1]
    assert " ".join(a.token for a in row) == (
        "1RECV_F0 1F0 2F0 2B0 2REDUCE_GRAD 2STEP 1B0 1SEND_B0 1REDUCE_GRAD 1STEP"
    )


@given(valid_schedules())
@settings(max_examples=60)
def test_forwards_alone_run_too(schedule):
    for written in (schedule, Schedule(lower(schedule).ranks)):
        rows = lower(written).forwards
        forwards = Schedule(rows)
        starts = walk(rows, message_needs(forwards, rendezvous=True))
        assert list(map(len, starts)) == list(map(len, rows))
        computed = [[a for a in row if a.kind is Kind.F] for row in rows]
        assert computed == [[a for a in row if a.kind is Kind.F] for row in schedule.ranks]

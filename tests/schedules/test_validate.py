"""validate accepts what is executable, and nothing else; lowered schedules likewise."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import MESSAGES, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, gpipe, validate
from pipelab.schedules.communication import lower
from tests.schedules.strategies import is_executable, mutated_schedules, valid_schedules


@given(valid_schedules())
@settings(max_examples=150, deadline=None)
def test_valid_schedules_are_accepted_and_lowered_without_deadlock(schedule):
    assert is_executable(schedule)  # the judge itself
    validate(schedule)
    validate(lower(schedule), rendezvous=True)
    validate(lower(schedule), rendezvous=False)
    assert Schedule.from_csv(schedule.to_csv()).ranks == schedule.ranks


@given(mutated_schedules())
@settings(max_examples=300, deadline=None)
def test_mutated_schedules_are_accepted_exactly_when_executable(schedule):
    if is_executable(schedule):
        validate(schedule)
    else:
        with pytest.raises(ScheduleError):
            validate(schedule)


@given(valid_schedules(), st.integers(0, 2**32), st.sampled_from(["drop", "double", "cross"]))
@settings(max_examples=150, deadline=None)
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

"""Lowering: REDUCE_GRAD and STEP, when receives are posted, and what is refused by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, MESSAGES, SENDS, Action, Kind
from pipelab.errors import DeadlockError, ScheduleError
from pipelab.schedules import Schedule, gpipe, validate
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from tests.schedules.strategies import valid_schedules

BACKWARD = (Kind.B, Kind.I, Kind.W)


def check_reductions(lowered):
    """Once per stage, right behind its last backward and the SEND of that; STEPs at the end."""
    for rank, row in enumerate(lowered.ranks):
        stages = lowered.stages_of(rank)
        assert row[-len(stages) :] == tuple(Action(s, Kind.STEP) for s in stages)
        assert sum(a.kind is Kind.REDUCE_GRAD for a in row) == len(stages)
        for stage in stages:
            last = max(i for i, a in enumerate(row) if a.stage == stage and a.kind in BACKWARD)
            behind = row[last + 1 : last + 3]
            if behind[0].kind in SENDS:
                assert behind[0] == Action(stage, Kind.SEND_B, row[last].microbatch)
                behind = behind[1:]
            assert behind[0] == Action(stage, Kind.REDUCE_GRAD)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (4, 8), (3, 7)])
@pytest.mark.parametrize("v", [1, 3])
def test_reductions_of_every_builder(name, p, m, v):
    schedule = build(name, p, max(m, BUILDERS[name].fewest(p)), v)
    lowered = lower(schedule, replicas=2)
    check_reductions(lowered)
    validate(lowered)
    rest = [[a for a in row if a.kind is not Kind.REDUCE_GRAD] for row in lowered.ranks]
    assert tuple(map(tuple, rest)) == lower(schedule).ranks


@given(valid_schedules(), st.integers(1, 3))
@settings(max_examples=150)
def test_lowered_schedules_of_any_kind_are_sound(schedule, replicas):
    lowered = lower(schedule, replicas)
    validate(lowered, rendezvous=True)
    computed = tuple(tuple(a for a in row if a.kind in COMPUTE) for row in lowered.ranks)
    assert computed == schedule.ranks
    if replicas > 1:
        check_reductions(lowered)
    else:
        assert all(a.kind is not Kind.REDUCE_GRAD for row in lowered.ranks for a in row)


def test_receives_are_posted_one_action_before_their_message_leaves():
    # rank 0 ends F<i> at i + 1, just before rank 1 ends F<i-1>
    row = lower(gpipe(2, 4)).ranks[1]
    for i in range(4):
        before = row[: row.index(Action(1, Kind.RECV_F, i))]
        assert sum(a.kind in COMPUTE for a in before) == max(0, i - 2)


def by_hand(*rows):
    return Schedule.from_tokens(row.split() for row in rows)


GOOD = "0F0 0B0 0F1 0B1 0REDUCE_GRAD 0STEP"


def test_reductions_and_steps_by_hand():
    validate(by_hand(GOOD))
    validate(by_hand("0F0 0B0 0REDUCE_GRAD"))  # neither has to be there
    validate(by_hand("0F0 0I0 0W0 0STEP"))
    validate(by_hand("0F0 1F0 1B0 1REDUCE_GRAD 1STEP 0B0 0REDUCE_GRAD 0STEP"))


@pytest.mark.parametrize(
    ("row", "first", "then"),
    [
        ("0F0 0B0 0REDUCE_GRAD 0F1 0B1 0STEP", "0REDUCE_GRAD", "0B1"),
        ("0F0 0B0 0STEP 0F1 0B1", "0STEP", "0B1"),
        ("0F0 0I0 0REDUCE_GRAD 0W0 0STEP", "0REDUCE_GRAD", "0W0"),
        ("0F0 0B0 0STEP 0REDUCE_GRAD", "0STEP", "0REDUCE_GRAD"),
        ("0F0 0B0 0STEP 0STEP", "0STEP", "0STEP"),
        ("0F0 0B0 0REDUCE_GRAD 0REDUCE_GRAD 0STEP", "0REDUCE_GRAD", "0REDUCE_GRAD"),
    ],
)
def test_reductions_and_steps_out_of_place_are_marked(row, first, then):
    with pytest.raises(ScheduleError) as caught:
        validate(by_hand(row))
    text = str(caught.value)
    assert text.startswith(f"rank 0 runs {first} (place ")
    assert f" before {then} (place" in text
    assert f">{first}<" in text
    assert f">{then}<" in text


def test_a_step_on_a_foreign_rank_is_refused():
    with pytest.raises(ScheduleError, match=r"stage 0 runs on rank 0 .* and on rank 1 .0STEP"):
        validate(by_hand(*(" ".join(a.token for a in r) for r in _with_foreign_step())))


def _with_foreign_step():
    first, second = lower(gpipe(2, 1)).ranks
    return first[:-1], (*second, first[-1])


@given(valid_schedules(), st.data())
@settings(max_examples=150)
def test_a_step_or_reduction_moved_up_is_accepted_only_behind_all_backwards(schedule, data):
    lowered = lower(schedule, replicas=2)
    rank = data.draw(st.integers(0, schedule.num_ranks - 1))
    row = list(lowered.ranks[rank])
    moved = data.draw(st.sampled_from([a for a in row if a.kind not in COMPUTE | MESSAGES]))
    row.remove(moved)
    row.insert(data.draw(st.integers(0, len(row))), moved)
    order = [a.kind for a in row if a.stage == moved.stage and a.kind not in MESSAGES]
    fine = order[-2:] == [Kind.REDUCE_GRAD, Kind.STEP]
    changed = Schedule((*lowered.ranks[:rank], tuple(row), *lowered.ranks[rank + 1 :]))
    if fine:
        validate(changed)
    else:
        with pytest.raises(ScheduleError, match="its last backward"):
            validate(changed)


def test_what_cannot_run_cannot_be_lowered():
    with pytest.raises(DeadlockError):
        lower(by_hand("0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"))


def test_an_order_wrong_on_one_rank_alone_is_said_to_be_that():
    with pytest.raises(ScheduleError, match=r"rank 0 runs 0B0 \(place 1\) before 0F0"):
        validate(by_hand("0B0 0F0"))
    with pytest.raises(ScheduleError, match=r"rank 0 runs 1F0 \(place 1\) before 0F0"):
        validate(by_hand("1F0 0F0 1B0 0B0"))

"""Two traces side by side: what differs, per rank and kind, and in words."""

import pytest

from pipelab.action import Action, Kind
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, compare
from pipelab.trace.differences import starting_with
from pipelab.trace.idle import explain_idle
from tests.traces import computing_only, recorded_like, with_messages

PREDICTED = with_messages(one_f_one_b(2, 4), Cost(1, 1, 1, latency=0.5))
SLOW = with_messages(one_f_one_b(2, 4), Cost([1, 3], 1, 1, latency=0.5))


def rows(comparison):
    return {(row.rank, row.kind): row for row in comparison.rows}


def test_a_trace_does_not_differ_from_itself():
    same = compare(PREDICTED, PREDICTED)
    assert same.duration.difference == same.bubble_fraction.difference == 0
    assert all(row.total.difference == 0 and row.total.ratio in (1, None) for row in same.rows)
    assert same.missing_in_a == same.missing_in_b == ()


def test_where_one_stage_is_slower():
    found = compare(PREDICTED, SLOW)
    assert found.duration == (PREDICTED.duration, SLOW.duration)
    row = rows(found)[1, Kind.F]
    assert (row.number, row.total, row.mean) == ((4, 4), (4.0, 12.0), (1.0, 3.0))
    assert (row.mean.difference, row.mean.ratio) == (2.0, 3.0)
    changed = {key for key, row in rows(found).items() if row.mean.difference and key[1] in "FB"}
    assert changed == {(1, Kind.F)}
    for reason, pair in found.idle.items():
        for trace, seconds in zip((PREDICTED, SLOW), pair, strict=True):
            pieces = [idle.seconds for idle in explain_idle(trace) if idle.reason == reason]
            assert seconds == sum(pieces)
    assert found.idle["imbalance"].a == 0 < found.idle["imbalance"].b


def test_a_recording_beside_its_prediction():
    cost = Cost(0.010, 0.010, 0.010, latency=0.001)
    predicted, recorded = with_messages(one_f_one_b(4, 8), cost), recorded_like(one_f_one_b(4, 8))
    found = compare(predicted, recorded)
    assert found.missing_in_a == found.missing_in_b == ()
    assert 0.90 < rows(found)[2, Kind.B].mean.ratio < 0.97
    assert rows(found)[2, Kind.STEP].number == (0, 1)
    assert not {Kind.RECV_F, Kind.RECV_B} & {row.kind for row in found.rows}
    assert set(found.idle) == {"blocked", "done", "message", "overhead", "step", "waiting"}


def test_what_one_trace_lacks_is_named():
    shorter = Trace(PREDICTED.events[:-3], "predicted", PREDICTED.setting)
    lost = [(e.rank, Action(e.stage, e.kind, e.microbatch)) for e in PREDICTED.events[-3:]]
    assert [action.token for _, action in lost] == ["1F3", "1B3", "1SEND_B3"]
    found = compare(PREDICTED, shorter)
    assert (found.missing_in_a, found.missing_in_b) == ((), tuple(lost))
    assert "b lacks 1F3 of rank 1, 1B3 of rank 1, 1SEND_B3 of rank 1" in str(found)
    assert compare(shorter, PREDICTED).missing_in_a == tuple(lost)
    # kinds of which one trace has none are no difference between the runs
    assert compare(computing_only(PREDICTED), PREDICTED).missing_in_a == ()


def test_more_than_a_few_are_counted():
    halves = tuple(e for e in PREDICTED.events if e.microbatch in (0, None))
    text = str(compare(Trace(halves, "predicted", PREDICTED.setting), PREDICTED))
    assert text.endswith(" and 10 more")  # 3 x (2 ranks x (F, B), SEND_F, SEND_B), less 8


def test_schedules_compare_too():
    found = compare(with_messages(gpipe(2, 4), Cost()), with_messages(one_f_one_b(2, 4), Cost()))
    assert found.duration.difference == 0
    assert "per microbatch" not in str(found)


@pytest.mark.parametrize(("few", "many"), [((2, 4), (4, 8)), ((1, 1), (3, 9)), ((2, 6), (8, 2))])
def test_runs_of_other_ranks_and_microbatches_compare(few, many):
    a, b = (simulate(one_f_one_b(*sizes), Cost()) for sizes in (few, many))
    found = compare(a, b)
    assert found.ranks == (few[0], many[0]) and found.microbatches == (few[1], many[1])
    assert found.seconds_per_microbatch == (a.duration / few[1], b.duration / many[1])
    own = {(row.rank, row.kind): row for row in found.rows}
    assert {rank for rank, _ in own} == {*range(many[0])}
    beyond = own[many[0] - 1, Kind.F]
    assert beyond.number == (0, many[1]) and beyond.mean.a == 0
    assert all(rank < few[0] for rank, _ in (*found.missing_in_a, *found.missing_in_b))
    text = str(found)
    assert f"b has {many[0] - few[0]} rank" in text and "per microbatch" in text
    swapped = compare(b, a)
    assert swapped.ranks == found.ranks[::-1] and "a has " in str(swapped)


def test_a_step_cut_out_of_a_longer_run_starts_with_the_other():
    late = Trace(
        tuple(e._replace(start=e.start + 100, end=e.end + 100) for e in PREDICTED.events),
        "predicted",
        PREDICTED.setting,
    )
    assert starting_with(late, PREDICTED).events == PREDICTED.events
    assert starting_with(PREDICTED, PREDICTED) is PREDICTED


def test_the_text_is_a_table_in_one_unit():
    milli = Cost(0.001, 0.001, [0.001, 0.003], latency=0.0005)
    fast = with_messages(one_f_one_b(2, 4), Cost(0.001, 0.001, 0.001, latency=0.0005))
    lines = str(compare(fast, with_messages(one_f_one_b(2, 4), milli))).splitlines()
    assert lines[0] == f"a: {fast.source_line}"
    head, *body = lines[3:]
    assert head.split("  ")[-1] == "ms"
    ends = [head.index(name) + len(name) for name in (" a ", " b ", "b - a", "mean a", "mean b")]
    ends = [ends[0] - 1, ends[1] - 1, *ends[2:]]
    for line in body:  # numbers with two digits end where their heads do
        assert all(line[end - 3] == "." for end in ends if end <= len(line)), line
    (row,) = (line for line in body if line.startswith("rank 1 B"))
    assert row.split()[2:] == ["B", "8.00", "16.00", "+8.00", "2.00", "2.00", "4.00", "x", "4"]
    (wait,) = (line for line in body if line.startswith("idle: waiting"))
    assert wait.split()[:4] == ["idle:", "waiting", "5.00", "9.50"]

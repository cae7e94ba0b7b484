"""Costs from numbers, from a trace and from measured layers."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import Action, Kind
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import gpipe, one_f_one_b, zero_bubble_h1
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from tests.traces import recorded_like

times = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])  # halves of halves: their sums are exact
sizes = st.integers(0, 10_000)


@given(st.data())
@settings(max_examples=150)
def test_a_prediction_gives_its_cost_back(data):
    name = data.draw(st.sampled_from([*BUILDERS]))
    p, m = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 5))
    schedule = build(name, p, max(m, BUILDERS[name].fewest(p)))
    n = schedule.num_stages

    def each(values):
        return tuple(data.draw(st.lists(values, min_size=n, max_size=n)))

    halved = any(a.kind is Kind.W for row in schedule.ranks for a in row)
    backward_input = each(times)
    cost = Cost(
        each(times),
        backward_input,
        each(times) if halved else backward_input,  # a full backward shows only their sum
        data.draw(st.sampled_from([0.0, 0.5, 4.0])),
        message_bytes=(*each(sizes)[:-1], 0),  # the last stage's output goes nowhere
        activation_bytes=each(sizes),
        step=each(times),
        reduce=each(times),
    )
    if BUILDERS[name].stages_per_rank == 2:  # ... and the turn of the V stays on its rank
        turn = n // 2 - 1
        kept = [0 if stage == turn else size for stage, size in enumerate(cost.message_bytes)]
        cost = Cost(
            **{k: v for k, v in vars(cost).items() if k != "message_bytes"}, message_bytes=kept
        )
    for overlap in (True, False):
        trace = simulate(lower(schedule, replicas=2), cost, overlap)
        assert Cost.from_trace(trace) == cost


def test_from_a_trace_takes_medians_and_survives_a_round_trip_through_a_file(tmp_path):
    def events(*lengths):
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        return [
            Event(0, Kind.F, 0, i, start, start + length, 10 * i)
            for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
        ]

    trace = Trace((*events(1, 2, 30), Event(0, Kind.B, 0, 0, 40, 44)), "recorded")
    trace = Trace.load(trace.save(tmp_path / "trace.json"))
    cost = Cost.from_trace(trace)
    assert cost == Cost(
        [2], [2], [2], message_bytes=[0], activation_bytes=[10], step=[0], reduce=[0]
    )


def test_latency_counts_only_those_who_waited_already():
    def message(microbatch, left, wait_from, wait_to, start):
        return (
            Event(0, Kind.SEND_F, 0, microbatch, left, left, 8, 1),
            Event(1, Kind.WAIT, 1, microbatch, wait_from, wait_to, 0, 0),
            Event(1, Kind.F, 1, microbatch, start, start + 1),
        )

    events = (
        *message(0, left=1.0, wait_from=0.0, wait_to=1.5, start=1.5),
        *message(1, left=2.0, wait_from=1.9, wait_to=2.7, start=2.75),
        *message(2, left=3.0, wait_from=0.0, wait_to=3.6, start=3.7),
        *message(3, left=4.0, wait_from=9.0, wait_to=9.1, start=9.1),  # too late to say
        Event(0, Kind.F, 0, 0, 0, 1),
    )
    cost = Cost.from_trace(Trace(tuple(sorted(events)), "recorded", Setting(ranks=2)))
    assert cost.latency == pytest.approx(0.6)
    assert cost.message_bytes == (8, 0)


def test_a_recorded_trace_predicts_its_own_duration():
    schedule = one_f_one_b(4, 8)
    recorded = recorded_like(schedule)
    predicted = simulate(schedule, Cost.from_trace(recorded))
    assert predicted.duration == pytest.approx(recorded.duration, rel=0.1)


def test_a_trace_without_computation_is_refused():
    with pytest.raises(PipelabError, match="holds no computation"):
        Cost.from_trace(Trace((Event(0, Kind.STEP, 0, None, 0, 1),), "recorded"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"forward": -1},
        {"latency": inf},
        {"bandwidth": 0},
        {"bandwidth": float("nan")},
        {"message_bytes": [1, -1]},
        {"step": float("nan")},
        {"reduce": [0, inf]},
        {"forward": []},
        {"forward": "1"},
        {"backward_input": None},
        {"latency": [1, 2]},
        {"bandwidth": [1.0]},
    ],
)
def test_numbers_that_are_none_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ScheduleError, match=f"Cost\\({name}="):
        Cost(**wrong)


def test_a_cost_as_text_is_a_few_words():
    assert str(Cost(0.01, 0.01, 0.01)) == "F 10 ms, B 20 ms"
    cost = Cost([0.01, 0.02], 0.01, 0.01, 0.001, 1e9, 4096, 4096, [0, 0.5], 0.002)
    assert str(cost) == ("F 10/20 ms, B 20 ms, latency 1 ms, step 0/500 ms, reduce 2 ms, 1000 MB/s")


def test_a_cost_can_be_a_key_and_lists_are_taken_as_tuples():
    assert Cost([1, 2]) == Cost((1, 2))
    assert len({Cost([1, 2]), Cost((1, 2)), Cost(1)}) == 2


def test_each_kind_has_its_price():
    cost = Cost(1, 2, 4, 8, 0.5, [16, 32], [64, 128], 256, [512, 1024])
    kinds = (Kind.F, Kind.I, Kind.W, Kind.B, Kind.STEP, Kind.REDUCE_GRAD, Kind.SEND_F, Kind.RECV_F)
    assert [cost.seconds(Action(1, kind, 0)) for kind in kinds] == [1, 2, 4, 6, 256, 1024, 0, 0]
    assert cost.message_seconds(Action(0, Kind.SEND_F, 0)) == 8 + 16 / 0.5
    assert cost.message_seconds(Action(1, Kind.SEND_B, 0)) == 8 + 16 / 0.5
    assert cost.message_size(Action(1, Kind.SEND_F, 0)) == 32
    assert cost.kept_bytes(Action(1, Kind.F, 0)) == 128
    assert cost.kept_bytes(Action(1, Kind.B, 0)) == 0


def test_halves_and_wholes_on_one_stage():
    mixed = zero_bubble_h1(2, 4)
    trace = simulate(mixed, Cost(1, 2, 3))
    assert Cost.from_trace(trace).backward_weight == (3, 3)


STAGES = ("forward", "backward_input", "backward_weight", "step", "reduce", "activation_bytes")


@pytest.mark.parametrize("name", [*STAGES, "message_bytes"])
@pytest.mark.parametrize("schedule", [gpipe(2, 3), build("interleaved", 2, 4, 2)])
def test_a_cost_of_another_number_of_stages_is_refused(schedule, name):
    n = schedule.num_stages
    for wrong in (n + 1, n + 7, n - 2 or 9):
        said = rf"{name}=...\) has {wrong} numbers?, the schedule has {n} stages:\ngive one number"
        with pytest.raises(ScheduleError, match=said):
            simulate(schedule, Cost(**{name: [1] * wrong}))
    one, each = (simulate(schedule, Cost(**{name: value})) for value in (1, [1] * n))
    assert one.events == each.events


def test_the_last_stage_sends_no_output():
    costs = Cost(bandwidth=1, message_bytes=[5]), Cost(bandwidth=1, message_bytes=[5, 0])
    short, full = (simulate(gpipe(2, 3), cost) for cost in costs)
    assert short.events == full.events
    with pytest.raises(ScheduleError, match=r"step=...\) has 1 number"):
        simulate(gpipe(2, 3), Cost(step=[1]))

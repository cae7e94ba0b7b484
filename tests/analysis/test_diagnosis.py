"""What a diagnosis says of traces whose reasons are known, since they were made that way."""

import json
from dataclasses import replace

import pytest

from pipelab.action import COMPUTE
from pipelab.analysis import diagnose
from pipelab.analysis.own_costs import cost_of, cut_into, spread_evenly, stage_costs
from pipelab.errors import TraceError
from pipelab.schedules import Schedule, gpipe, interleaved, one_f_one_b, zero_bubble_v
from pipelab.simulator import Cost, simulate
from pipelab.trace import Setting, Trace
from tests.traces import recorded_like


def made(schedule, cost, step=0, replica=0):
    """A recording that took exactly these costs."""
    trace = simulate(schedule, cost)
    setting = Setting(ranks=schedule.num_ranks, microbatches=schedule.num_microbatches,
                      step=step, replica=replica, origin="made")  # fmt: skip
    return Trace(trace.events, "recorded", setting)


def what(found):
    return {change.name: change.duration for change in found.what_ifs}


SLOW = Cost(forward=[1, 1, 2, 1], backward_input=[1, 1, 2, 1], backward_weight=[1, 1, 2, 1])
EVEN = Cost()


def test_a_slow_stage_is_found_and_what_ifs_are_simulations():
    schedule = one_f_one_b(4, 8)
    found = diagnose([made(schedule, SLOW)])
    assert (found.schedule, found.order) == ("1f1b", "1F1B")
    assert found.slowest.rank[:2] == (2, 0) and found.slowest.rank.ratio == pytest.approx(2)
    assert found.slowest.stage.number == 2
    assert found.bubble_fraction == simulate(schedule, SLOW).bubble_fraction
    assert found.formula[1] == pytest.approx(3 / 11)
    assert found.simulated == simulate(schedule, SLOW).duration
    assert found.fit.explained == 1.0
    assert what(found)["rank"] == what(found)["stage"] == simulate(schedule, EVEN).duration
    mean = Cost(1.25, 1.25, 1.25)
    assert what(found)["even"] == pytest.approx(simulate(schedule, mean).duration)
    assert sum(share.seconds for share in found.path) == pytest.approx(found.trace.duration)
    assert sum(found.idle.values()) == pytest.approx(found.bubble_fraction)


@pytest.mark.parametrize("schedule", [gpipe(3, 5), interleaved(4, 8, 2), zero_bubble_v(4, 8)])
def test_free_messages_save_what_messages_cost(schedule):
    cost = Cost(latency=0.3)
    found = diagnose([made(schedule, cost)])
    assert found.schedule == schedule.name
    assert what(found)["free_messages"] == pytest.approx(simulate(schedule, EVEN).duration)
    assert found.idle["message"] > 0


def test_other_schedules_hold_no_more_activations_and_the_shortest_comes_first():
    found = diagnose([made(gpipe(4, 8), EVEN)])
    others = [change for change in found.what_ifs if change.name.startswith("schedule:")]
    assert others == sorted(others, key=lambda change: change.duration)
    assert others[0].duration < found.simulated
    found = diagnose([made(one_f_one_b(4, 8), EVEN)])
    names = {change.name for change in found.what_ifs}
    assert "schedule:gpipe" not in names and "schedule:zero_bubble_h2" not in names


def test_a_rank_is_compared_with_the_same_rank_of_other_replicas():
    schedule, last = one_f_one_b(4, 8), Cost([1, 1, 1, 3], [1, 1, 1, 3], [1, 1, 1, 3])
    slower = Cost([1, 1, 1, 4], [1, 1, 1, 4], [1, 1, 1, 4])
    traces = [made(schedule, last if replica else slower, step, replica)
              for step in range(3) for replica in range(3)]  # fmt: skip
    found = diagnose(traces)
    assert found.trace.setting.replica == 0 and found.slowest.rank[:2] == (3, 0)
    assert what(found)["rank_as_elsewhere"] == simulate(schedule, last).duration
    assert what(found)["rank"] == simulate(schedule, EVEN).duration
    assert [row.steps for row in found.replicas] == [3, 3, 3]
    assert found.fit.predicted == 0.0


def test_microbatches_of_unequal_lengths_are_priced_each():
    schedule = one_f_one_b(4, 6)
    lengths = [1, 4, 0.5, 2, 1, 3]
    cost = Cost([1, 1, 1, 2], [1, 1, 1, 2], [1, 1, 1, 2], latency=0.1).by_microbatch(lengths)
    trace = made(schedule, cost)
    found = diagnose([trace])
    assert found.fit.explained == pytest.approx(1.0, abs=0.02)
    even = Cost(1, 1, 1, latency=0.1).by_microbatch(lengths)
    assert what(found)["stage"] == pytest.approx(simulate(schedule, even).duration, rel=0.02)


def test_the_step_of_median_duration_of_the_slowest_replica_is_shown():
    schedule = one_f_one_b(2, 4)
    traces = [made(schedule, Cost(1 + step + 0.1 * replica), step, replica)
              for step in range(5) for replica in range(2)]  # fmt: skip
    found = diagnose(traces)
    assert (found.trace.setting.step, found.trace.setting.replica) == (2, 1)
    found = diagnose(traces, step=4, replica=0)
    assert (found.trace.setting.step, found.trace.setting.replica) == (4, 0)
    with pytest.raises(TraceError, match=r"step 9 of .* steps 0, 1, 2, 3, 4 and replicas 0, 1"):
        diagnose(traces, step=9, replica=0)
    with pytest.raises(TraceError, match="no step with a computation"):
        diagnose([])


def test_of_a_huge_recording_some_steps_are_simulated_and_that_is_said(monkeypatch):
    monkeypatch.setattr("pipelab.analysis.diagnosis._EVENTS", 1000)
    schedule = one_f_one_b(2, 4)
    traces = [made(schedule, Cost(), step, replica) for step in range(50) for replica in (0, 1)]
    found = diagnose(traces)
    assert found.fit.steps < 60 and found.fit.explained == 1.0 and found.num_steps == 100
    assert any(f"of {found.fit.steps} of 100 steps" in note for note in found.notes)


def test_what_cannot_be_simulated_is_said_and_the_rest_still_shown():
    whole = recorded_like(one_f_one_b(4, 6))
    lost = replace(whole, events=tuple(e for e in whole.events if e.rank != 1))
    found = diagnose([replace(lost, setting=Setting(ranks=4, microbatches=6))])
    assert found.what_ifs == () and found.fit is None and found.simulated == 0
    assert any("nothing can be simulated" in note for note in found.notes)
    there = [whole.utilisation[rank] for rank in (0, 2, 3)]
    assert found.bubble_fraction == pytest.approx(1 - sum(there) / 3, abs=0.05)
    assert "slowest" in str(found)


def test_an_order_of_nobodys_is_said_to_be_your_own():
    rows = [[a.token for a in row] for row in one_f_one_b(2, 4).ranks]
    rows[0][2:4] = reversed(rows[0][2:4])
    own = Schedule.from_tokens(rows)
    found = diagnose([made(own, EVEN)])
    assert found.schedule == "custom" and found.order.startswith("your own")
    bubble = simulate(own, EVEN).bubble_fraction
    assert found.formula[1] == bubble and "by the simulator with equal stages" in str(found)


def test_the_screen_is_one_screen_and_its_figures_are_json():
    traces = [
        made(one_f_one_b(4, 8), SLOW, step, replica) for step in range(2) for replica in (0, 1)
    ]
    found = diagnose(traces)
    lines = str(found).splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 100
    data = json.loads(json.dumps(found.data()))
    assert data["bubble_fraction"] == found.bubble_fraction
    assert data["slowest"]["rank"]["number"] == 2 and data["slowest"]["kind"]["kind"] in "FB"
    assert {"name", "words", "duration", "bubble_fraction"} == set(data["what_ifs"][0])
    assert data["shown"]["duration"] == found.trace.duration


def test_stages_are_cut_anew_without_losing_work():
    rows = [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (1.0, 1.0, 1.0)]
    for number in (1, 2, 3, 6, 7):
        cut = cut_into(rows, number)
        assert len(cut) == number
        for old, new in zip(zip(*rows, strict=True), zip(*cut, strict=True), strict=True):
            assert sum(new) == pytest.approx(sum(old))
    assert spread_evenly(rows)[0] == (2.0, 8 / 3, 10 / 3)


def test_costs_are_those_of_the_trace():
    schedule = one_f_one_b(3, 5)
    trace = made(schedule, Cost([1, 2, 3], [1, 1, 2], [1, 1, 2], latency=0.25))
    cost = cost_of(trace, schedule)
    assert cost.latency == pytest.approx(0.25)
    assert [row[0] for row in stage_costs(cost, schedule)] == [1, 2, 3]
    assert sum(sum(row) for row in stage_costs(cost, schedule)) * 5 == pytest.approx(
        sum(e.end - e.start for e in trace.events if e.kind in COMPUTE)
    )

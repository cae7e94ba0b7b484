"""What lesson 11 states: on paper by the simulator, recorded by its stored run."""

import re

import pytest

from pipelab.lessons.chapters.ch11_draws import given, papers
from pipelab.lessons.chapters.ch11_questions import QUESTIONS
from pipelab.schedules import interleaved, one_f_one_b, zero_bubble_h1
from pipelab.schedules.catalogue import build
from pipelab.schedules.counts import count_messages, peak_activations
from pipelab.simulator import Cost, frontier, par, simulate
from tests.lessons.hidden_outputs import hidden
from tests.lessons.test_prose import said

WORK = Cost(0.01, 0.01, 0.01)


def test_11_interleaving_halves_the_idle_time_for_more_messages():
    loops = simulate(interleaved(4, 8), Cost(0.005, 0.005, 0.005))
    assert loops.duration == pytest.approx(0.285)
    assert loops.bubble_fraction == pytest.approx(0.158, abs=5e-4)
    assert count_messages(interleaved(4, 8)) == 112 and count_messages(one_f_one_b(4, 8)) == 48
    assert peak_activations(interleaved(4, 8))[0] == 5.5


@pytest.mark.parametrize("p", [2, 3, 4, 6])
@pytest.mark.parametrize("costs", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (3, 2, 1)])
def test_11_what_remains_of_1f1bs_idle_time(p, costs):
    """(p-1)(F+I-W), with the memory of 1F1B's rank 0."""
    forward, inputs, weights = costs
    split = zero_bubble_h1(p, 3 * p)
    idle = simulate(split, Cost(*costs)).duration - 3 * p * sum(costs)
    assert idle == pytest.approx((p - 1) * (forward + inputs - weights))
    assert max(peak_activations(split)) == p


def test_11_the_rows_of_an_exercise_are_1f1b_and_miss_nothing_but_w():
    rows, most = given("1f1b", 4, 8)
    usual = [[a.token.replace("B", "I") for a in row] for row in one_f_one_b(4, 8).ranks]
    assert rows == usual and most == 4
    assert given("eager", 4, 8)[1] == 7
    assert simulate(papers("eager", 4, 8), Cost(1, 1, 1)).duration == 27


def test_11_recorded():
    """What answers a prediction is not stored: there the teacher's cells prove it, in nbval."""
    columns = [re.split(r" {2,}", row) for row in said("11", "family").splitlines()]
    rows = {name: others for name, *others in columns}
    assert rows["zero_bubble_h2"] == ["11.1 %", "13.5 %", "48", "7"]
    assert rows["zero_bubble_v"] == ["5.9 %", "16.5 %", "96", "4"]
    assert "h1: trains" in said("11", "budget") and "h2: rank 0 ran out" in said("11", "budget")
    columns = [re.split(r" {2,}", row) for row in said("11", "barrier-paper").splitlines()]
    rows = {name: others for name, *others in columns}
    assert rows["1f1b"] == ["27.3 %", "27.3 %"] and rows["zero_bubble_h2"] == ["0.0 %", "11.1 %"]
    slow = said("11", "link").strip().splitlines()[-1].split()
    assert slow == ["0.5", "F", "36.00", "35.50", "45.00"]
    rows = [row.split() for row in said("11", "formula").splitlines() if row.strip()]
    idle = [row[7:] for row in rows[1:]]
    assert idle == [["2.0"] * 2, ["6.0"] * 4, ["1.0", "2.0", "3.0", "3.0"], ["7.2"] * 4]


def test_11_what_half_of_the_memory_leaves():
    known = frontier(4, 8, WORK)
    assert (known.within(2).name, known.within(4).name) == ("v_min", "zero_bubble_v")
    one = simulate(one_f_one_b(4, 8), WORK).bubble_fraction
    question = QUESTIONS["11.limit"]
    assert question.settle(known.within(2).bubble_fraction / one) == "b"
    assert known.within(2).bubble_fraction / one == pytest.approx(2 / 3, abs=0.03)
    assert question.settle(known.within(4).bubble_fraction / one) == "a"
    assert known.within(4).bubble_fraction / one == pytest.approx(1 / 5, abs=0.03)
    assert "18.6 % with 2 (V-Min)" in hidden("11", "frontier")[0].data["text/plain"]
    assert hidden("11", "reveal-limit")[0].data["text/plain"].startswith("Predicted: 0.684 of")
    assert par(4, 8, WORK, memory_limit=2).schedule.name == "v_min"


def test_11_the_line_is_one_of_its_costs():
    longer = frontier(4, 8, Cost(0.01, 0.012, 0.008))
    shares = {p.name: p.bubble_fraction for p in longer.line}
    assert shares["v_half"] == pytest.approx(0.228, abs=5e-4)
    assert shares["v_min"] == pytest.approx(0.302, abs=5e-4)
    assert "v_half" not in {point.name for point in frontier(4, 8, WORK).line}


def one_step(name, m=8, latency=0.0):
    """On 4 ranks, each with 40 ms of F, of I and of W, in all of its stages."""
    schedule = build(name, 4, m)
    part = 0.04 / schedule.num_stages
    return simulate(schedule, Cost(part, part, part, latency=latency))


def test_11_answers_beside_the_lab():
    names = ("1f1b", "interleaved", "zero_bubble_h1", "zero_bubble_h2", "zero_bubble_v")
    bubbles = [round(100 * one_step(name).bubble_fraction, 1) for name in names]
    assert bubbles == [27.3, 15.8, 11.1, 11.1, 5.9]
    longer = {
        name: one_step(name, latency=0.0025).duration / one_step(name).duration for name in names
    }
    assert min(longer, key=longer.__getitem__) == "zero_bubble_h2"
    few = one_step("zero_bubble_h2", m=4).bubble_fraction
    assert few > 2 * one_step("zero_bubble_h2").bubble_fraction


@pytest.mark.parametrize(("name", "slots"), [("zero_bubble_h2", 3), ("zero_bubble_v", 1.5)])
def test_11_the_last_rank_begins_and_ends_later_by_as_much(name, slots):
    """Three slots under ZB-H2, half a slot for each rank under ZB-V."""
    trace = one_step(name)
    work = [
        [e for e in trace.events if e.rank == rank and e.kind in ("F", "B", "I", "W")]
        for rank in (0, 3)
    ]
    first = [min(e.start for e in row) for row in work]
    last = [max(e.end for e in row) for row in work]
    assert first[1] - first[0] == pytest.approx(slots * 0.01)
    assert last[1] - last[0] == pytest.approx(slots * 0.01)


def test_11_under_h1_everybody_holds_four():
    assert peak_activations(zero_bubble_h1(4, 8)) == (4, 4, 4, 4)

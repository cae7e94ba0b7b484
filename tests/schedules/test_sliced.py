"""Sequences in slices: Seq1F1B's figures, its tokens, and which orders are refused."""

import pickle
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelab.action import Action, Kind, Slice
from pipelab.errors import ScheduleError
from pipelab.plots import timeline_text
from pipelab.schedules import Schedule, one_f_one_b, recognise, seq1f1b, validate
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.sliced import equal_work, slice_work
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, compare

sizes = (st.integers(1, 6), st.integers(1, 9), st.integers(1, 5))


@given(*sizes)
def test_the_bubble_of_equal_slices_is_that_of_1f1b_over_k(p, m, k):
    forward, backward = 3.0, 5.0
    schedule = seq1f1b(p, m, k)
    trace = simulate(schedule, Cost(forward / k, backward / k, 0))
    ideal = m * (forward + backward)
    assert trace.duration == pytest.approx(ideal + (p - 1) * (forward + backward) / k)
    assert schedule.num_microbatches == m and schedule.num_pieces == m * k


@given(*sizes)
def test_halves_have_the_bubble_of_h1_over_k(p, m, k):
    """W fills as in ZB-H1, with k times as many pieces."""
    schedule = seq1f1b(p, m, k, halves=True)
    validate(schedule)
    trace = simulate(schedule, Cost(3 / k, 3 / k, 2 / k))
    if m * k >= p + k - 1:
        assert trace.duration == pytest.approx(8 * m + (p - 1) * (3 + 3 - 2) / k)
        assert max(peak_activations(schedule)) == (p + k - 1) / k


@given(*sizes)
def test_activations_in_slices(p, m, k):
    """One slice more than the warmup: (p - r + k - 1) / k microbatches, at most all."""
    peaks = peak_activations(seq1f1b(p, m, k))
    assert peaks == tuple(min(m * k, p - r + k - 1) / k for r in range(p))


def test_equal_tokens_can_be_worse_than_no_slices():
    """The trap of causal attention, with attention half of the work, at p 4, m 8, k 2."""
    plain = simulate(one_f_one_b(4, 8), Cost(1, 1, 1))

    def sliced(shares):
        work = slice_work(shares, attention=0.5)
        return simulate(seq1f1b(4, 8, 2), Cost(1, 1, 1).by_microbatch(work * 8))

    tokens, work = sliced([0.5, 0.5]), sliced(equal_work(2, attention=0.5))
    assert round(100 * plain.bubble_fraction, 1) == 27.3
    assert round(100 * tokens.bubble_fraction, 1) == 31.2
    assert work.duration == pytest.approx(24 + 9 / 2)


@given(st.integers(1, 8), st.floats(0, 1))
def test_equal_work_is_equal(k, attention):
    shares = equal_work(k, attention)
    assert sum(shares) == pytest.approx(1)
    assert slice_work(shares, attention) == pytest.approx([1 / k] * k)
    assert all(a >= b - 1e-12 for a, b in pairwise(shares))
    assert [*accumulate(slice_work([1 / k] * k, attention))][-1] == pytest.approx(1)


def test_tokens_name_microbatch_and_slice():
    assert Action.parse("2F0.1").token == "2F0.1"
    assert Action.parse("2SEND_B3.1", slices=4).microbatch == 13
    number = pickle.loads(pickle.dumps(Slice(3, 1, of=4)))
    assert (number.microbatch, number.place, number.of, int(number)) == (3, 1, 4, 13)
    for wrong in ("2F0.", "2F.1", "2F0.01", "2F0.1.1", "2STEP0.1"):
        with pytest.raises(ScheduleError):
            Action.parse(wrong)


@given(*sizes)
def test_a_csv_comes_back(p, m, k):
    schedule = seq1f1b(p, m, k)
    again = Schedule.from_csv(schedule.to_csv(), "seq1f1b")
    assert again == schedule and again.slices == k
    rows = [[a.token for a in row] for row in schedule.ranks]
    assert Schedule.from_tokens(rows, "seq1f1b") == schedule
    lowered = lower(schedule)
    assert lowered.slices == k and lowered.num_microbatches == m
    assert Schedule.from_csv(lowered.to_csv()).num_pieces == m * k


def test_a_trace_keeps_its_slices(tmp_path):
    trace = simulate(seq1f1b(2, 3, 2), Cost())
    assert "F2.1" in timeline_text(trace, 200)
    again = Trace.load(trace.save(tmp_path / "t.json"))
    assert again == trace and str(again.events[-2].microbatch) == str(trace.events[-2].microbatch)
    assert "3 microbatches of 2 slices" in trace.source_line
    assert '"F 2.1"' in trace.to_chrome(tmp_path / "c.json").read_text()


@given(*sizes)
def test_it_is_recognised(p, m, k):
    schedule = seq1f1b(p, m, k)
    if k > 1:
        assert str(recognise(schedule)).startswith("seq1f1b")
        assert recognise(simulate(schedule, Cost())).name == "seq1f1b"


def test_microbatches_compare_whole():
    whole, sliced = simulate(one_f_one_b(4, 8), Cost(2, 2, 2)), simulate(seq1f1b(4, 8, 2), Cost())
    found = compare(whole, sliced)
    assert found.microbatches == (8, 8)
    assert found.seconds_per_microbatch == (66 / 8, 57 / 8)


def test_evaluations_run_whole_microbatches():
    (row, _) = lower(seq1f1b(2, 3, 2)).forwards
    assert [a.token for a in row if a.kind is Kind.F] == ["0F0", "0F1", "0F2"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0F0.1 0F0.0 0B0.1 0B0.0", "0F0.1 (place 1) before 0F0.0: it attends to the keys"),
        ("0F0.0 0F0.1 0B0.0 0B0.1", "0B0.0 (place 3) before 0B0.1: whose backward brings"),
        ("0F0.0 0F0.1 0I0.0 0I0.1 0W0.1 0W0.0", "0I0.0 (place 3) before 0I0.1: whose backward"),
        (
            "0F0.0 0F0.1 0I0.1 0I0.0 0W0.0 0W0.1",
            "0W0.0 (place 5) before 0W0.1: on a first",
        ),
        ("0F0.0 0F0.1 0I0.1 0B0.0 0W0.1", "0B0.0 (place 4) before 0B0.1: on a first"),
        ("0F0.0 0F0.1 0F1 0B0.1 0B0.0 0B1", "0F1, others have 2 slices"),
        ("0F0 0F1.0 0F1.1 0B0 0B1.1 0B1.0", "has 0F1.0, others have 1 slices"),
        ("0F0.0 0F0.2 0B0.2 0B0.0", "before 0F0.1"),
        ("0F0.0 0B0.0 0F0.2 0B0.2", "before 0B0.2"),
        ("0F0.0 0F0.1 0B0.1", "found 1 F, 0 B"),
    ],
)
def test_orders_that_no_stage_could_run_are_refused(row, said):
    with pytest.raises(ScheduleError) as error:
        validate(Schedule.from_tokens([row.split()]))
    assert said in str(error.value)


@pytest.mark.parametrize("shares", [[0.5, 0.4], [1.5, -0.5], [0.0, 1.0], []])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ScheduleError):
        seq1f1b(2, 2, shares)


def test_sizes_are_checked():
    with pytest.raises(ScheduleError, match="at least 1"):
        seq1f1b(2, 2, 0)
    assert seq1f1b(3, 4, 1).ranks == one_f_one_b(3, 4).ranks


def test_steps_in_flight_keep_their_slices():
    trace = simulate(seq1f1b(3, 4, 2), Cost(), steps=3)
    one = simulate(seq1f1b(3, 4, 2), Cost())
    assert {str(e.microbatch) for e in trace.step(2).events} == {
        str(e.microbatch) for e in one.events
    }
    assert "11.1" in {str(e.microbatch) for e in trace.events}
    joined = Trace.joined([one, one])
    assert "7.1" in {str(e.microbatch) for e in joined.events}
    assert sorted(joined.step(1).events) == sorted(one.step(0).events)

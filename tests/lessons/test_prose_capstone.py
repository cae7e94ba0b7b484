"""What lesson 12 states: its numbers on paper, and what its stored run printed."""

from dataclasses import replace

import pytest

from pipelab.lessons.chapters.ch12_questions import QUESTIONS
from pipelab.lessons.plan_run import MACHINE, the_model
from pipelab.lessons.plans import Machine, Plan, memory, par, schedule_of, seconds
from pipelab.partition import balance
from pipelab.schedules import Schedule
from tests.lessons.test_prose import numbers, said

GRIDS = [
    Plan(1, [3, 2, 2, 1], "1f1b", 8),
    Plan(2, [5, 3], "1f1b", 4),
    Plan(4, [8], "1f1b", 2),
]


def ms(plan, machine=MACHINE):
    return round(1000 * seconds(machine, the_model(), plan))


def test_12_times_on_paper_and_the_reverse_order_on_slow_links():
    assert list(map(ms, GRIDS)) == [186, 152, 124]
    assert QUESTIONS["12.time"].expected == min(GRIDS, key=ms).replicas
    assert "You said so" in QUESTIONS["12.time"].explain("c", 2), "2 was a busy machine's"
    slow = MACHINE._replace(bandwidth=10e6)
    assert [ms(plan, slow) for plan in GRIDS] == [198, 233, 305]


def test_12_pace_is_what_the_text_says():
    assert Machine(ranks=4, start=0.001, latency=0.001, bandwidth=100e6) == MACHINE
    assert [layer.seconds for layer in the_model().layers] == [0.0002, *[0.001] * 6, 0.002]


def test_12_a_cut_even_in_bytes_fits_and_is_slower():
    model = the_model()
    even = Plan(2, [4, 4], "1f1b", 4)
    assert max(memory(model, GRIDS[1])) == pytest.approx(3.7e6, rel=0.01)
    assert max(memory(model, even)) < 3e6
    for other in (Plan(2, [5, 3], "1f1b", 8), Plan(2, [5, 3], "zero_bubble_h1", 4)):
        assert max(memory(model, other)) > 3e6
    assert (ms(even), ms(GRIDS[1])) == (163, 152)
    assert max(memory(model, Plan(2, [5, 3], "1f1b", 8))) == pytest.approx(3.5e6, rel=0.01)


def test_12_stored_run():
    rows = [line.split() for line in said("12", "bytes").splitlines()[1:] if line.strip()]
    assert [row[3] for row in rows] == ["2.51", "3.70", "5.35"]
    assert [row[5] for row in rows] == ["48", "16", "0"]
    assert [row[6] for row in rows] == ["0.00", "0.87", "2.00"]
    on_paper = [line.partition("m = ")[2] for line in said("12", "times").strip().splitlines()]
    assert [numbers(line)[1] for line in on_paper] == [186, 152, 124]
    more, cut, schedule = said("12", "budget").split("2 x 2, layers ")[1:]
    assert "ran out of memory" in more and "ran out of memory" in schedule
    assert cut.startswith("[4, 4]") and "trains" in cut
    assert "78 of 78 parameters equal" in said("12", "mine")
    assert "processes left: 0" in said("12", "mine")
    assert "78 of 78 parameters as in one process" in said("12", "torch")
    assert "torchrun | not run | not run | not run |" in said("12", "report")


def test_12_the_answers_of_the_lab():
    """(p-1)/(m+p-1): 1/5, 3/7, and 1/5 again."""
    assert 1 / (4 + 1) == 3 / (12 + 3) and pytest.approx(3 / 7) == 3 / (4 + 3)


def test_12_budgets_decide():
    """Roomy, 4 MB and 2.2 MB have another grid each."""
    model = the_model()
    best = [par(MACHINE, model, budget) for budget in (8e6, 4e6, 2.2e6)]
    assert [plan.replicas for plan in best] == [4, 2, 1]


def test_12_the_file_is_torchs_form():
    text = said("12", "csv").strip()
    plan = Plan(1, [3, 2, 2, 1], "1f1b", 4)
    assert Schedule.from_csv(text).ranks == schedule_of(plan).ranks
    assert replace(schedule_of(plan), name="custom").to_csv().strip() == text


def test_12_what_more_microbatches_change():
    """The explanation said that 0.7 MB is kept: 1.1 MB is, and half of it with twice as many."""
    model, more = the_model(), Plan(2, [5, 3], "1f1b", 8)
    weights = sum(layer.weights for layer in model.layers[:5])
    kept = max(memory(model, GRIDS[1])) - 3 * weights
    assert kept == pytest.approx(1.1e6, rel=0.02)
    assert 3 * weights + kept / 2 == pytest.approx(3.2e6, rel=0.02)
    assert max(memory(model, more)) == 4 * weights == pytest.approx(3.5e6, rel=0.02)
    why = QUESTIONS["12.budget"].choices["a"].explanation
    assert all(size in why for size in ("1.1 MB", "3.2 MB", "3.5 MB"))


def test_12_two_cuts_that_are_even():
    model = the_model()
    assert balance([layer.seconds for layer in model.layers], 2) == [5, 3]
    assert balance([3 * layer.weights + 2 * layer.kept for layer in model.layers], 2) == [4, 4]

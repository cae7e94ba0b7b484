"""What lesson 6 tries on real ranks: bytes exactly, paces exactly, and who wins on paper."""

import pytest
import torch

from pipelab.errors import RankOutOfMemory
from pipelab.lessons.chapters.ch06_draws import BUDGETS, TIGHT_AND_ROOMY
from pipelab.lessons.trials import CANDIDATES, NEEDS, best, predicted, share, trial
from pipelab.schedules.catalogue import build
from pipelab.simulator import simulate
from pipelab.trace.memory import peak_bytes


@pytest.mark.parametrize(("p", "m"), [(1, 1), (1, 8), (4, 1)])
def test_the_parts_of_the_work_are_the_work(p, m):
    assert simulate(build("gpipe", p, m), share(0.3, p, m)).duration == pytest.approx(0.3)


@pytest.mark.parametrize(
    "candidate", [("1f1b", 4, 8), *(pytest.param(c, marks=pytest.mark.slow) for c in CANDIDATES)]
)
def test_what_is_needed_is_what_ranks_record(candidate):
    """The budget that is known to be enough is, and one byte less is not."""
    trace = trial(*candidate, NEEDS[candidate])
    assert max(point.total for point in peak_bytes(trace)) == NEEDS[candidate]
    with pytest.raises(RankOutOfMemory):
        trial(*candidate, NEEDS[candidate] - 1)


def test_the_winners_win_clearly_and_are_not_the_same():
    """The check allows 10 %: of those that fit, nobody else may come that near."""
    for budget, winner in ((600_000, "1f1b"), (700_000, "1f1b"), (1_100_000, "gpipe")):
        assert best(budget) == (winner, 4, 8)
        times = sorted(predicted(c) for c in CANDIDATES if NEEDS[c] <= budget)
        assert len(times) == 1 or times[1] > 1.2 * times[0]


def test_an_if_anywhere_between_the_two_budgets_is_right():
    for limit in (BUDGETS["tight"] + 1, 1_000_000, BUDGETS["roomy"]):
        for seed in range(3):
            for (budget,) in TIGHT_AND_ROOMY.inputs(seed):
                assert best(budget) == ("1f1b" if budget < limit else "gpipe", 4, 8)


def test_a_trial_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    with pytest.raises(RankOutOfMemory):
        trial("gpipe", 1, 2, 100_000)
    assert torch.get_num_threads() == before

"""What lesson 6 tries on real ranks: bytes exactly, paces exactly, and who wins on paper."""

import pytest
import torch

from pipelab.errors import RankOutOfMemory
from pipelab.lessons import trials
from pipelab.lessons.chapters.ch06_payoff import BUDGETS
from pipelab.lessons.trials import CANDIDATES, LATENCY, WORK, share, trial
from pipelab.schedules.catalogue import build
from pipelab.simulator import simulate


def predicted(schedule, p, m):
    return simulate(build(schedule, p, m), share(WORK, p, m, LATENCY)).duration


@pytest.mark.parametrize(("p", "m"), [(1, 1), (1, 8), (4, 1)])
def test_the_parts_of_the_work_are_the_work(p, m):
    assert simulate(build("gpipe", p, m), share(0.3, p, m)).duration == pytest.approx(0.3)


def test_fewer_activations_fit_where_more_do_not():
    some = (("gpipe", 4, 8), ("1f1b", 4, 8), ("1f1b", 4, 4), ("1f1b", 2, 8))
    assert trials.fitting(BUDGETS["tight"], some) == (("1f1b", 4, 8), ("1f1b", 2, 8))
    assert trials.fitting(BUDGETS["roomy"], some) == some
    with pytest.raises(RankOutOfMemory, match="budget of 700,000"):
        trial("gpipe", 4, 8, BUDGETS["tight"])


def test_the_winners_win_clearly_and_are_not_the_same():
    """The check allows 10 %: nobody else may come that near, on paper, with what fits."""
    tight = {c: predicted(*c) for c in (("1f1b", 4, 8), ("1f1b", 2, 8))}
    roomy = {c: predicted(*c) for c in CANDIDATES if c[0] == "1f1b" or c[1] == 4}
    for found, winner in ((tight, ("1f1b", 4, 8)), (roomy, ("gpipe", 4, 8))):
        first, second, *_ = sorted(found, key=found.__getitem__)
        assert first == winner and found[second] > 1.2 * found[first]


def test_a_trial_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    with pytest.raises(RankOutOfMemory):
        trial("gpipe", 1, 2, 100_000)
    assert torch.get_num_threads() == before


def test_the_least_disturbed_run_counts(monkeypatch):
    runs = [simulate(build("gpipe", 2, 2), share(work, 2, 2)) for work in (0.3, 0.1, 0.2)]
    monkeypatch.setattr(trials, "_BEST", {})
    left = iter(runs)
    monkeypatch.setattr(trials, "trial", lambda *candidate: next(left))
    assert trials.again(("gpipe", 2, 2)) is runs[0]
    assert trials.fastest([("gpipe", 2, 2)]) is runs[1], "the best so far runs once more"
    assert trials.again(("gpipe", 2, 2), runs[0]) is runs[1]

"""The due times of a paced rank, on a clock that a test moves: no process, no waiting."""

import pytest

from pipelab.action import Action, Kind
from pipelab.engine.rank import pace as module
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.recorder import Found
from pipelab.simulator import Cost

F = [Action(0, Kind.F, k) for k in range(20)]


class Clock:
    """Time as the pace sees it; ``work`` is what a rank does, or what delays it."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    work = sleep


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def pace(clock):
    pace = Pace(Cost(0.010, 0.010, 0.010, latency=0.005))
    pace.begin_step(clock.now)
    return pace


def run(pace: Pace, clock: Clock, action: Action, late: float = 0.0, work: float = 0.001):
    """One action: wakes up ``late``, works; start and end as they are recorded."""
    pace.before(action)
    clock.work(late)
    found = Found()
    found.start = pace.now()
    clock.work(work)
    pace.after(action, found)
    return found.start - 100, pace.now() - 100


def test_actions_follow_each_other_at_their_cost_whatever_a_rank_is_delayed_by(pace, clock):
    for k in range(20):
        start, end = run(pace, clock, F[k], late=0.015 * (k % 3 == 2))
        assert (start, end) == pytest.approx((0.02 + 0.01 * k, 0.03 + 0.01 * k))
    assert pace.disturbance == (0, 20, 0.0)


def test_a_rank_is_ahead_of_its_device_but_not_without_end(pace, clock):
    for k in range(20):
        run(pace, clock, F[k])
        assert clock.now <= pace.due
        assert pace.due - clock.now <= 0.04 + 0.01


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_what_starts_late_still_ends_when_it_is_due(clock, cost, share):
    pace = Pace(Cost(cost, cost, cost))
    pace.begin_step(clock.now)
    _, free = run(pace, clock, F[0], work=0.0)
    pace.before(F[1])  # it may sleep; then something delays it
    start, end = run(pace, clock, F[1], late=pace.due - clock.now + share * cost, work=0.0)
    assert (start, end) == pytest.approx((free + share * cost, free + cost))
    assert pace.disturbance.late == 0, "it did not take longer than set"
    assert pace.disturbance.seconds == pytest.approx(share * cost), "but that it was late is kept"
    assert run(pace, clock, F[2], work=0.0) == pytest.approx((end, end + cost))


def test_work_that_is_not_done_when_it_is_due_is_counted_and_delays_what_follows(pace, clock):
    run(pace, clock, F[0])
    start, end = run(pace, clock, F[1], work=0.090)
    assert (start, end) == pytest.approx((0.030, 0.091))
    assert pace.disturbance == pytest.approx((1, 2, 0.051))
    assert run(pace, clock, F[2]) == pytest.approx((end, end + 0.010))


def test_what_takes_no_time_hands_no_delay_on(clock):
    pace = Pace(Cost(0.01, 0.0, 0.0))
    pace.begin_step(clock.now)
    _, free = run(pace, clock, F[0])
    run(pace, clock, Action(0, Kind.B, 0), late=free + 100 - clock.now, work=0.004)
    assert run(pace, clock, F[1]) == pytest.approx((free + 0.004, free + 0.01))
    assert pace.disturbance == pytest.approx((0, 2, 0.004))


def test_a_late_first_action_makes_no_step_shorter(pace, clock):
    start, end = run(pace, clock, F[0], late=0.025)
    assert (start, end) == pytest.approx((0.025, 0.035))
    assert pace.disturbance == (0, 1, 0.0)


def test_a_message_cannot_be_used_before_it_has_travelled(pace, clock):
    pace.message_came(Action(0, Kind.SEND_F, 0), left=100.05)
    start, end = run(pace, clock, F[0])
    assert (start, end) == pytest.approx((0.055, 0.065))


def test_all_ranks_count_from_when_the_step_was_asked_for(clock):
    early, late = Pace(Cost(0.01, 0.01, 0.01)), Pace(Cost(0.01, 0.01, 0.01))
    early.begin_step(100.0)
    clock.work(0.012)  # this one's command came later
    late.begin_step(100.0)
    assert early.due == late.due


def test_a_step_that_follows_another_waits_until_the_device_has_ended_that(pace, clock):
    run(pace, clock, F[0])
    due = pace.due
    pace.begin_step(clock.now - 1.0)
    assert pace.due == due


def test_without_a_cost_nothing_waits(clock):
    pace = Pace(None)
    pace.begin_step(0.0)
    pace.before(F[0])
    pace.after(F[0], Found())
    assert clock.now == 100.0 and not pace.is_on and not pace.disturbance

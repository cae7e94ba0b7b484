"""A trace of several steps: one axis of time, and each rank's own window for a step's bubble."""

import pytest

from pipelab.action import COMPUTE
from pipelab.errors import ScheduleError, TraceError
from pipelab.schedules import gpipe, one_f_one_b, zero_bubble_h1, zero_bubble_v
from pipelab.schedules.zero_bubble import zero_bubble_h2
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, critical_path, explain_idle

COST = Cost(forward=1.0, backward_input=1.0, backward_weight=1.0)
HALF = Cost(forward=0.5, backward_input=0.5, backward_weight=0.5)


@pytest.mark.parametrize(
    ("schedule", "cost", "in_flight", "barrier"),
    [
        (gpipe(4, 8), COST, 9 / 33, 9 / 33),
        (one_f_one_b(4, 8), COST, 9 / 33, 9 / 33),
        (zero_bubble_h1(4, 8), COST, 3 / 27, 3 / 27),
        (zero_bubble_h2(4, 8), COST, 0.0, 3 / 27),
        (zero_bubble_v(4, 8), HALF, 0.0, 1.5 / 25.5),
        (zero_bubble_h1(3, 7), Cost(2.0, 2.0, 1.0), 6 / 41, 6 / 41),
    ],
)
def test_bubbles_of_middle_steps(schedule, cost, in_flight, barrier):
    """(p-1)(F+I-W) of ZB-H1's period, nothing of ZB-H2's and ZB-V's (arXiv 2401.10241)."""
    assert simulate(schedule, cost, steps=10).bubble_of_steps(3, 6) == pytest.approx(in_flight)
    apart = simulate(schedule, cost, steps=10, barrier=True)
    assert apart.bubble_of_steps(3, 6) == pytest.approx(barrier)
    assert apart.duration == pytest.approx(10 * simulate(schedule, cost).duration)


def test_a_step_of_several_is_the_step_alone():
    alone, joined = (simulate(one_f_one_b(3, 5), COST, steps=n) for n in (1, 3))
    assert joined.setting.steps == 3 and "3 steps" in joined.source_line
    for number in range(3):
        step = joined.step(number)
        assert [[*e[:4], *e[6:]] for e in step.events] == [[*e[:4], *e[6:]] for e in alone.events]
        times = [[(e.start, e.end) for e in t.events if e.kind in COMPUTE] for t in (alone, step)]
        assert times[0] == times[1]
    with pytest.raises(TraceError, match="no step 3"):
        joined.step(3)


def test_steps_join_in_the_order_of_their_time_and_come_back_from_a_file(tmp_path):
    step = simulate(one_f_one_b(2, 4), COST)
    later = Trace(step.events, step.source, step.setting, began=20.0)
    joined = Trace.joined([later, step])
    assert joined == Trace.joined([step, later])
    assert max(e.microbatch for e in joined.events if e.microbatch is not None) == 7
    assert joined.duration == 20.0 + step.duration
    assert joined.bubble_of_steps(0) == pytest.approx(1 - 24 / 40)  # until the next one begins
    assert Trace.load(joined.save(tmp_path / "steps.json")) == joined
    assert Trace.joined([joined]) == joined
    assert sum(idle.seconds for idle in explain_idle(joined)) == pytest.approx(2 * 35 - 48)
    assert critical_path(joined)[-1].event.end == joined.duration


def test_traces_that_are_no_steps_of_one_training_are_not_joined():
    one = simulate(one_f_one_b(2, 4), COST)
    for other in (simulate(gpipe(2, 4), COST), simulate(one_f_one_b(2, 5), COST)):
        with pytest.raises(TraceError, match="join"):
            Trace.joined([one, other])
    with pytest.raises(TraceError, match="join"):
        Trace.joined([])


@pytest.mark.parametrize("steps", [(2, 1), (0, 3), (-1, 0)])
def test_a_bubble_of_steps_that_are_not_there_is_refused(steps):
    with pytest.raises(TraceError, match="steps 0 to 2"):
        simulate(one_f_one_b(2, 2), COST, steps=3).bubble_of_steps(*steps)
    with pytest.raises(ScheduleError, match="steps=0"):
        simulate(one_f_one_b(2, 2), COST, steps=0)

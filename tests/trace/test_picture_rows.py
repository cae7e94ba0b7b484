"""What pictures show in a rank's row: no part of it is blank, and none is said twice."""

import pytest

from pipelab.action import COMPUTE, Kind
from pipelab.schedules import interleaved, one_f_one_b
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Trace, explain_idle
from pipelab.trace.picture_rows import averages_alone, drawn_idle
from tests.traces import recorded_like


def averaged(schedule, **more):
    return simulate(lower(schedule, replicas=2), Cost(reduce=3.0, **more))


@pytest.mark.parametrize(
    "trace",
    [
        averaged(one_f_one_b(2, 4)),
        averaged(one_f_one_b(3, 4), step=0.5, latency=0.2),
        averaged(interleaved(2, 2)),
        recorded_like(one_f_one_b(4, 8)),
        simulate(one_f_one_b(4, 8), Cost()),
    ],
    ids=["averages", "and steps", "beside computations", "recorded", "plain"],
)
def test_a_row_is_full_from_the_first_computation_to_the_last_event(trace):
    first = min(e.start for e in trace.events if e.kind in COMPUTE)
    boxes = [e for e in trace.events if e.kind in COMPUTE] + averages_alone(trace.events)
    for rank in range(trace.num_ranks):
        spans = [(x.start, x.end) for x in [*boxes, *drawn_idle(trace)] if x.rank == rank]
        at = first
        for start, end in sorted(spans):
            assert start == pytest.approx(at), f"rank {rank}: blank, or two things at once"
            at = end
        assert at == pytest.approx(max(e.end for e in trace.events))


def test_an_average_beside_a_computation_is_no_box():
    trace = averaged(interleaved(2, 2))
    assert sum(e.kind is Kind.REDUCE_GRAD for e in trace.events) == 4
    assert [(e.rank, e.stage) for e in averages_alone(trace.events)] == [(0, 0), (1, 1)]


def test_an_average_is_a_box_whatever_the_clock_shows():
    trace = averaged(one_f_one_b(2, 4))
    early = [e._replace(start=e.start - 100, end=e.end - 100) for e in trace.events]
    assert len(averages_alone(early)) == len(averages_alone(trace.events)) == 2


def test_an_average_that_takes_no_time_is_no_box():
    assert averages_alone(simulate(lower(one_f_one_b(2, 2), replicas=2), Cost()).events) == []


def test_what_follows_the_last_computation_is_named():
    trace = averaged(one_f_one_b(2, 4), step=0.5)
    ends = [(i.rank, i.reason, i.start, i.end) for i in drawn_idle(trace) if i.end > 15]
    assert ends == [
        (0, "step", 18.0, 18.5),  # the optimizer's, behind its R of 15 to 18
        (1, "step", 16.0, 16.5),
        (1, "done", 16.5, 18.5),
    ]


def test_where_nothing_follows_it_is_the_idle_time_alone():
    trace = simulate(one_f_one_b(4, 8), Cost())
    assert tuple(drawn_idle(trace)) == explain_idle(trace)
    assert drawn_idle(Trace((Event(0, Kind.F, 0, 0, 0.0, 1.0),), "recorded")) == []
    assert drawn_idle(Trace((), "recorded")) == []

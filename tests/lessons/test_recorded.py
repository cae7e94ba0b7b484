"""Recorded rows judge order and waiting; a slow machine is named, and refuses nobody."""

import pytest

from pipelab.lessons import recorded
from pipelab.lessons.results import Result, Verdict
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace


def test_a_run_in_order_passes():
    schedule = gpipe(3, 4)
    rows = [*recorded.order(schedule, simulate(schedule, Cost()))]
    assert [(row.ok, row.got) for row in rows] == [(True, "3 of 3"), (True, "20 of 20")]


def test_another_order_is_seen():
    trace = simulate(gpipe(3, 4), Cost())
    reverse = gpipe(3, 4).ranks[1][::-1]
    other = type(gpipe(3, 4))((gpipe(3, 4).ranks[0], reverse, gpipe(3, 4).ranks[2]), "x")
    in_order, _ = recorded.order(other, trace)
    assert not in_order.ok and in_order.got == "2 of 3" and in_order.hint


def test_a_box_that_did_not_wait_is_seen():
    schedule = gpipe(2, 1)
    trace = simulate(schedule, Cost())
    events = tuple(e._replace(start=0.0) if e.rank == 1 else e for e in trace.events)
    _, waited = recorded.order(schedule, Trace(events, "recorded", trace.setting))
    assert not waited.ok


@pytest.mark.parametrize(("seconds", "busy"), [(1.0, False), (1.25, False), (9.0, True)])
def test_time_never_refuses(seconds, busy):
    row = recorded.timed("recorded", seconds, 1.0)
    assert row.ok
    said = str(Verdict("04.1", "t", (row,)))
    sentence = "your schedule is right; the machine was too busy to time it"
    assert (sentence in said) == busy


def test_what_is_cut_in_the_table_stands_below_it():
    row = Result("it runs", "a run", "RuntimeError: " + "long " * 40, False, "look at line 3")
    said = str(Verdict("04.1", "t", (row,)))
    assert "".join(said.split()).count("".join(("long " * 40).split())) == 1
    assert max(map(len, said.splitlines())) <= 100

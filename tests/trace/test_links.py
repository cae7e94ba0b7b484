"""Who needed whose result: what is asked of one trace several times is found once."""

import gc
from dataclasses import replace

from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import links
from pipelab.trace.links import link


def test_the_answer_is_kept_for_the_same_trace_only():
    trace = simulate(one_f_one_b(2, 3), Cost())
    assert link(trace) is link(trace)
    longer = simulate(one_f_one_b(2, 4), Cost())
    assert [len(row) for row in link(longer)] == [8, 8]
    assert [len(row) for row in link(trace)] == [6, 6]
    equal = replace(trace)
    assert link(equal) is not link(trace), "events of an equal trace are not these events"


def test_nothing_is_kept_of_a_trace_that_is_gone():
    trace = simulate(one_f_one_b(2, 3), Cost())
    link(trace)
    del trace
    gc.collect()
    assert links._last[1] == []

"""What is read from a trace holds on what real ranks recorded."""

from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Kind
from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import compare, critical_path, explain_idle
from pipelab.trace.idle import idle_seconds
from pipelab.trace.memory import memory_curve
from pipelab.trace.metrics import busy

pytestmark = pytest.mark.timing

SCHEDULE = one_f_one_b(3, 8)
SLOW = Cost([0.005, 0.020, 0.005], [0.005, 0.020, 0.005], 0.0)  # rank 1 is the slow one


def record(pace):
    x, y = torch.randn(16, 16), torch.randint(10, (16,))
    options = {"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "pace": pace}
    with Pipeline(mlp(), SCHEDULE, loss=cross_entropy, **options) as pipeline:
        return [pipeline.step(x, y).trace for _ in range(2)]


@pytest.fixture(scope="module")
def paced():
    return record(SLOW)


@pytest.fixture(scope="module")
def traces(paced):
    return paced + record(None)


def test_idle_time_is_explained_to_the_last_second(traces):
    for trace in traces:
        seconds = busy(trace.events, 3)
        for rank, row in enumerate(idle_seconds(trace)):
            assert sum(row.values()) == pytest.approx(trace.duration - seconds[rank])
            overhead = row.get(("overhead", "steady"), 0.0)
            if trace.setting.paced:
                assert overhead < 0.02 * trace.duration, "the machine's delays are not the device's"
            else:
                assert overhead > 0
        # every WAIT has found its message: the peers of a rank are its neighbours
        pairs = {(i.rank, i.peer) for i in explain_idle(trace) if i.peer is not None}
        assert pairs >= {(0, 1), (1, 0), (2, 1)} and all(abs(a - b) == 1 for a, b in pairs)


def test_the_critical_path_is_a_chain_in_time(traces):
    for trace in traces:
        path = [link.event for link in critical_path(trace) if link.event.kind in COMPUTE]
        assert all(a.end <= b.start for a, b in pairwise(path))
        assert max(e.end for e in trace.events if e.kind in COMPUTE) == path[-1].end


def test_the_slow_rank_is_found_out(paced):
    trace = paced[-1]
    sums = {}
    for idle in explain_idle(trace):
        if idle.reason == "imbalance":
            sums[idle.root] = sums.get(idle.root, 0) + idle.seconds
    assert max(sums, key=sums.get) == 1
    assert sums[1] > 0.9 * sum(sums.values())
    path = [link.event for link in critical_path(trace) if link.event.kind in COMPUTE]
    on_slow = sum(e.end - e.start for e in path if e.rank == 1)
    assert on_slow > 0.8 * trace.duration


def test_it_compares_with_its_prediction(paced):
    trace = paced[-1]
    found = compare(simulate(SCHEDULE, SLOW), trace)
    assert (found.missing_in_a, found.missing_in_b) == ((), ())
    sends = [e for e in trace.events if e.kind in (Kind.SEND_F, Kind.SEND_B)]
    assert set(Counter((e.kind, e.rank, e.peer) for e in sends).values()) == {8}
    for row in found.rows:
        if row.kind in COMPUTE:
            assert row.number == (8, 8)
            assert 0.9 <= row.mean.ratio < 1.5


def test_memory_ends_at_what_the_rank_holds(traces):
    for trace in traces:
        for rank, after in enumerate(trace.memory):
            curve = memory_curve(trace, rank)
            assert curve[-1][1:] == (*after, 0, 0)
            assert max(p.activations for p in curve) == trace.peak_activation_bytes[rank] > 0

"""A paced run follows its Cost, the same object that the simulator takes; its work stays real."""

from statistics import median

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import PipelabError
from pipelab.models import mlp
from pipelab.schedules import gpipe, one_f_one_b, zero_bubble_h1
from pipelab.schedules.builders import eager_one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import least_disturbed
from tests.trace.hidden_messages import hidden_message_share

X, Y = torch.randn(16, 16), torch.randint(10, (16,))


def record(schedule, cost, steps=3, **options):
    with Pipeline(mlp(depth=4), schedule, loss=cross_entropy, **options) as pipeline:
        pipeline.step(X, Y)  # opens connections; nothing is judged by it, so it is not paced
        pipeline.pace = cost
        pipeline.use(schedule)
        return [pipeline.step(X, Y).trace for _ in range(steps)]


def ratio(traces, predicted):
    """The fastest of some steps: what a quiet moment of a shared machine gives."""
    return min(trace.duration for trace in traces) / predicted.duration


@pytest.mark.timing
@pytest.mark.parametrize("overlap", [True, False])
def test_messages_take_latency_and_bandwidth_as_predicted(overlap):
    cost = Cost(0.02, 0.02, 0.02, latency=0.01, bandwidth=1e6, message_bytes=5000)
    for schedule in (one_f_one_b(3, 5), gpipe(3, 5)):
        predicted = simulate(schedule, cost, overlap=overlap)
        traces = record(schedule, cost, overlap=overlap)
        assert 0.99 < ratio(traces, predicted) < 1.1
        free = simulate(schedule, Cost(0.02, 0.02, 0.02))
        assert predicted.duration > 1.1 * free.duration  # so the messages' time was really paid
        sends = [e for e in traces[0].events if e.kind in (Kind.SEND_F, Kind.SEND_B)]
        assert 0.012 < median(e.end - e.start for e in sends) < 0.03
        # with overlap, a rank does something else while its message is under way
        last = traces[0].events
        during = [
            e for s in sends for e in last
            if e.rank == s.rank and e.kind in "FBIW"
            and min(e.end, s.end) - max(e.start, s.start) > 0.002
        ]  # fmt: skip
        assert bool(during) is overlap


@pytest.mark.timing
def test_no_effect_before_its_message_has_arrived():
    cost = Cost(0.01, 0.01, 0.01, latency=0.02)
    trace = record(one_f_one_b(3, 3), cost, steps=1)[0]
    sent = {(e.kind, e.stage, e.microbatch): e for e in trace.events if e.kind in ("SEND_F",)}
    for e in trace.events:
        if e.kind is Kind.F and e.stage > 0:
            assert e.start >= sent["SEND_F", e.stage - 1, e.microbatch].end - 0.003


@pytest.mark.timing
def test_eager_1f1b_hides_the_messages_that_1f1b_waits_for():
    cost = Cost(0.02, 0.02, 0.02, latency=0.005)  # a quarter of F
    plain, eager = one_f_one_b(4, 8), eager_one_f_one_b(4, 8)
    hidden = [
        median(hidden_message_share(trace) for trace in record(schedule, cost))
        for schedule in (plain, eager)
    ]
    assert hidden[1] > 0.6
    assert hidden[0] < hidden[1]


@pytest.mark.timing
def test_unequal_stages_halves_and_steps_follow_the_cost():
    cost = Cost([0.01, 0.03], [0.01, 0.02], [0.02, 0.01], step=[0.03, 0.02])
    for schedule in (one_f_one_b(2, 4), zero_bubble_h1(2, 4)):
        predicted = simulate(schedule, cost)
        sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
        traces = record(schedule, cost, optimizer=sgd)
        assert 0.98 < ratio(traces, predicted) < 1.1
        steps = [e for trace in traces for e in trace.events if e.kind is Kind.STEP]
        assert median(e.end - e.start for e in steps if e.rank == 0) > 0.026


@pytest.mark.timing
def test_unequal_microbatches_follow_the_cost():
    cost = Cost(0.01, 0.01, 0.01, latency=0.002).by_microbatch([1, 4, 1, 2])
    for schedule in (gpipe(3, 4), one_f_one_b(3, 4), zero_bubble_h1(3, 4)):
        predicted = simulate(schedule, cost)
        traces = record(schedule, cost)
        assert 0.98 < ratio(traces, predicted) < 1.1
        long, short = (
            [e for e in traces[0].events if e.kind is Kind.F and e.microbatch == i] for i in (1, 0)
        )
        assert min(e.end - e.start for e in long) > 2.5 * median(e.end - e.start for e in short)


def test_gradients_stay_exact_while_paced():
    torch.set_num_threads(1)
    cost = Cost(0.002, 0.002, 0.002, latency=0.001)
    for options in ({}, {"overlap": False}):
        report = verify_gradients(
            mlp(depth=4), one_f_one_b(2, 3), X, Y, cross_entropy, pace=cost, **options
        )
        assert all(row.exact for row in report.parameters), str(report)


@pytest.mark.timing
def test_work_that_takes_longer_than_its_cost_is_counted_and_reported():
    wide, x = mlp(width=1500, depth=4), torch.randn(256, 16)
    y = torch.zeros(256, dtype=torch.long)
    cost = Cost(0.0005, 0.0005, 0.0005)
    with Pipeline(wide, gpipe(2, 2), loss=cross_entropy, pace=cost) as pipeline:
        trace = pipeline.step(x, y).trace
    assert trace.disturbance
    assert "took longer than set" in trace.source_line
    calm = least_disturbed(record(gpipe(2, 2), Cost(0.02, 0.02, 0.02)))
    assert calm.disturbance == (0, 8, 0.0)
    assert "took longer than set" not in calm.source_line


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Cost([0.01] * 3, 0.01, 0.01), "forward=.* has 3 numbers, the schedule has 2 stages"),
        (Cost(0.01, 0.01, 0.01, reduce=[0.0]), "reduce=.* has 1 number, the schedule has 2 stages"),
        (Cost([[0.01] * 3], 0, 0), "row of 3 numbers, the schedule has 2 microbatches"),
        (0.01, "pace=0.01: give a Cost"),
    ],
)
def test_a_pace_of_other_stages_is_refused_before_any_process_starts(in_process, pace, said):
    model = mlp(depth=4)
    with pytest.raises(PipelabError, match=said):
        Pipeline(model, gpipe(2, 2), loss=cross_entropy, pace=pace, timeout=0.5)
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy) as pipeline:
        pipeline.pace = pace
        with pytest.raises(PipelabError, match=said):
            pipeline.use(gpipe(2, 2))
        pipeline.pace = None
        assert pipeline.step(X[:4], Y[:4]).trace.events, "it is as it was"

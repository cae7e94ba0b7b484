"""PyTorch's profiler and our recorder, on one clock: operators lie in the bars that ran them."""

import json
from statistics import median

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Kind
from pipelab.engine import Pipeline, profile_step
from pipelab.engine.rank.profiler import _offset, _Read
from pipelab.schedules import interleaved, one_f_one_b, zero_bubble_v
from pipelab.trace import Trace
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop
from tests.trace.chrome_validator import check_chrome

BESIDE = 100e-6  # seconds beyond the clock's error that recorder and profiler may be apart


@pytest.fixture(scope="module", params=["pipelab", "torch"])
def profiled(request):
    model, (x, y) = linears(depth=4), batch(8)
    plain_loop(model, x, y, 4)
    options = {"loss": cross_entropy, "worker": request.param}
    with Pipeline(model, one_f_one_b(2, 4), **options) as pipeline:
        pipeline.step(x, y)  # the first has more to do: torch's engine has a trial forward in it
        profile = profile_step(pipeline, x, y)
        assert_same(pipeline.gradients(), gradients(model))
        bare = pipeline.step(x, y)
    assert bare._answers[0].seen == []  # the profiler is off again
    return profile


def within(operator, events, room):
    """The events of its rank that an operator is in, except for ``room`` seconds at either end."""
    return [
        e for e in events
        if e.rank == operator.rank and e.start - room <= operator.start
        and operator.end <= e.end + room
    ]  # fmt: skip


def test_a_profiler_prints_nothing(capfd):
    with Pipeline(linears(), one_f_one_b(2, 2), loss=cross_entropy) as pipeline:
        profile_step(pipeline, *batch(8))
    assert capfd.readouterr() == ("", "")


def test_each_computation_holds_its_own_operators_and_no_other(profiled):
    """Two layers a stage and microbatch: two aten::linear in each F, their gradients in each B."""
    assert 0 < profiled.clock_error < 1e-3
    room = profiled.clock_error + BESIDE
    computed = [e for e in profiled.result.trace.events if e.kind in COMPUTE]
    names = {"aten::linear": Kind.F, "AddmmBackward0": Kind.B}
    counts = {(e.rank, e.kind, e.microbatch): 0 for e in computed}
    assert len(counts) == 2 * 2 * 4
    for operator in profiled.operators:
        if operator.name in names:
            home = within(operator, computed, room)
            kinds = {e.kind for e in home}
            assert names[operator.name] in kinds, (operator, home)
            middle = (operator.start + operator.end) / 2
            (e,) = [e for e in home if e.start <= middle <= e.end]
            assert e.kind is names[operator.name]
            counts[e.rank, e.kind, e.microbatch] += 1
    assert set(counts.values()) == {2}, counts


def test_one_file_holds_both_and_is_sound(profiled, tmp_path, request):
    data = json.loads(profiled.to_chrome(tmp_path / "step.json").read_text("utf-8"))
    assert check_chrome(data, profiled=True) == []
    slices = [e for e in data["traceEvents"] if e["ph"] == "X"]
    seen = [e for e in slices if e["cat"] == "operators"]
    assert len(seen) == len(profiled.operators)
    for rank in range(2):  # the same rank's process, on rows of their own
        own = [e for e in slices if e["pid"] == rank + 1]
        assert {e["tid"] for e in own if e["name"] == "F 3"} == {1}
        assert min(e["tid"] for e in own if e["cat"] == "operators") >= 1000
    is_torchs = request.node.callspec.params["profiled"] == "torch"  # ours uses shared memory
    by_gloo = {"gloo:send", "gloo:recv"} if is_torchs else set()
    assert {o.name for o in profiled.operators if o.row == "messages under way"} == by_gloo
    f3 = next(e for e in slices if e["name"] == "F 3" and e["pid"] == 2)
    room = 1e6 * (profiled.clock_error + BESIDE)
    inside = [
        e["name"] for e in seen
        if e["pid"] == 2 and f3["ts"] - room <= e["ts"]
        and e["ts"] + e["dur"] <= f3["ts"] + f3["dur"] + room
    ]  # fmt: skip
    assert inside.count("aten::linear") == 2
    assert "slower" in data["otherData"]["profiled"]


def test_the_offset_is_what_all_marks_agree_on():
    # the profiler is 100 s behind; a slow mark says little, a quick one more
    slow = _Read(110.0, 110.4, 111.0), (10.3, 10.5)
    quick = _Read(120.0, 120.0001, 120.0002), (20.00005, 20.00015)
    offset, error = _offset(*zip(slow, quick, strict=True))
    assert offset == pytest.approx(100.0, abs=error) and error < 1e-4
    # clocks that drift apart leave no gap: then the error is how far they contradict each other
    _, error = _offset([slow[0], quick[0]], [slow[1], (20.5, 20.5001)])
    assert error > 0.1


def test_a_failure_under_the_profiler_is_reported_as_without_it():
    from pipelab.errors import RankError

    layers = [torch.nn.Linear(8, 8), torch.nn.Linear(9, 8)]
    with (
        Pipeline(layers, one_f_one_b(2, 2), loss=cross_entropy) as pipeline,
        pytest.raises(RankError, match="mat1 and mat2"),
    ):
        profile_step(pipeline, *batch(8))


@pytest.mark.timing
@pytest.mark.parametrize(
    "schedule", [one_f_one_b(2, 4), interleaved(2, 4, 2), zero_bubble_v(2, 4)], ids=lambda s: s.name
)
def test_the_profilers_own_files_read_back_equal_our_record(schedule, tmp_path):
    """Half of all times within 0.2 ms, on a quiet machine 0.05: other programs take the core."""
    model, (x, y) = linears(depth=4), batch(8)
    with Pipeline(model, schedule, loss=cross_entropy, worker="torch") as pipeline:
        pipeline.step(x, y)
        own = profile_step(pipeline, x, y, folder=tmp_path).result.trace
    (read,) = Trace.read(tmp_path)
    assert read.setting.clock_error == 0 and "host time" in read.source_line
    times = [
        {(e.rank, e.kind, e.stage, e.microbatch): (e.start, e.end)
         for e in trace.events if e.kind in COMPUTE}
        for trace in (own, read)
    ]  # fmt: skip
    assert times[0].keys() == times[1].keys()
    off = [median(times[0][key][i] - times[1][key][i] for key in times[0]) for i in (0, 1)]
    assert abs(off[0] - off[1]) < 1e-3, "one shift for starts and ends"
    for i in (0, 1):
        apart = [abs(times[0][key][i] - times[1][key][i] - off[i]) for key in times[0]]
        assert median(apart) < 2e-4
    waits = [{(e.rank, e.stage, e.microbatch) for e in trace.events if e.kind is Kind.WAIT}
             for trace in (own, read)]  # fmt: skip
    assert waits[0] == waits[1]

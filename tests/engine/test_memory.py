"""Memory that is real: what ranks say that they hold is what is there, byte by byte."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.engine import Pipeline
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport.backends import Tagged
from pipelab.engine.transport.p2p import GroupMessages
from pipelab.errors import RankOutOfMemory
from pipelab.models import mlp
from pipelab.partition.tree import flatten
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from pipelab.trace.memory import memory_curve, peak_bytes
from tests.engine.one_process import Live, batch, linears

ADAM = partial(torch.optim.AdamW, lr=1e-3)
FLOAT = 4


def kept(trace):
    """Bytes of each F, by stage and microbatch."""
    return {(e.stage, e.microbatch): e.bytes for e in trace.events if e.kind is Kind.F}


def test_f_keeps_what_autograd_saves():
    # On the first stage each F once counted the whole batch, of which its input is a view; the
    # last one forgot what the loss saves.
    model = nn.Sequential(
        nn.Linear(8, 16),
        nn.Sequential(nn.Linear(16, 32), nn.Tanh()),
        nn.Sequential(nn.Linear(32, 4), nn.Sigmoid(), nn.Dropout(0.0)),
        nn.Linear(4, 5),
    )
    with Pipeline(model, one_f_one_b(4, 4), loss=cross_entropy) as pipeline:
        first = kept(pipeline.step(*batch(10, classes=5)).trace)
        assert kept(pipeline.step(*batch(10, classes=5)).trace) == first
    for microbatch, rows in enumerate((3, 3, 2, 2)):
        # A Linear saves its input, Tanh and Sigmoid their output; what a stage gives is kept too.
        assert first[0, microbatch] == rows * (8 + 16) * FLOAT
        assert first[1, microbatch] == rows * (16 + 32) * FLOAT
        assert first[2, microbatch] == rows * (32 + 4) * FLOAT
        # log_softmax saves its output; nll_loss its targets (int64) and one sum of weights
        assert first[3, microbatch] == rows * (4 + 5) * FLOAT + rows * 8 + 2 * FLOAT


def test_parameters_gradients_and_adams_state():
    model, (x, y) = linears(4, width=8), batch(12)
    model[3].weight.requires_grad_(False)
    layer, frozen = (8 * 8 + 8) * FLOAT, 8 * 8 * FLOAT
    with Pipeline(model, one_f_one_b(2, 3), loss=cross_entropy, optimizer=ADAM) as pipeline:
        half = pipeline.step(x, y, update=False).trace
        assert [m.optimizer for m in half.memory] == [0, 0]
        trace = pipeline.step(x, y).trace
        later = pipeline.step(x, y).trace
    trained = [2 * layer, 2 * layer - frozen]
    counters = [4 * FLOAT, 3 * FLOAT]  # AdamW counts the steps of each tensor
    for t in (half, trace, later):
        assert [m.parameters for m in t.memory] == [2 * layer] * 2
        assert [m.gradients for m in t.memory] == trained
    for t in (trace, later):
        assert [m.optimizer for m in t.memory] == [
            2 * n + c for n, c in zip(trained, counters, strict=True)
        ]
    for rank in range(2):
        begin, end = memory_curve(trace, rank)[0], memory_curve(trace, rank)[-1]
        assert (begin.gradients, begin.optimizer) == (trained[rank], 0)  # added up, not new
        assert end.optimizer == trace.memory[rank].optimizer
        assert (end.activations, end.buffers) == (0, 0)
        begin = memory_curve(later, rank)[0]
        assert (begin.gradients, begin.optimizer) == (0, trace.memory[rank].optimizer)


def test_an_optimizers_bytes_are_known_after_a_load_too(tmp_path):
    # once they were 0 for good after load and load_state_dict, and no budget saw them
    model, data = linears(2), batch(4)
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy, optimizer=ADAM) as pipeline:
        pipeline.load_state_dict(model.state_dict())
        state = pipeline.step(*data).trace.memory[0].optimizer
        pipeline.save(tmp_path)
    assert state == 2 * (8 * 8 + 8) * FLOAT + 2 * FLOAT
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy, optimizer=ADAM) as pipeline:
        pipeline.load(tmp_path)
        trace = pipeline.step(*data).trace
    assert trace.memory[0].optimizer == state
    assert memory_curve(trace, 0)[0].optimizer == state


def peaks(model, schedule, data, **options):
    """For each rank, the most bytes of two steps, of which the first makes Adam's state."""
    with Pipeline(model, schedule, loss=cross_entropy, optimizer=ADAM, **options) as pipeline:
        found = [peak_bytes(pipeline.step(*data).trace) for _ in range(2)]
    return [max(a.total, b.total) for a, b in zip(*found, strict=True)]


def test_a_budget_fails_at_its_last_byte_and_more_ranks_make_room():
    model, data = linears(4, width=32), batch(32, features=32)
    whole, parts = peaks(model, gpipe(1, 4), data), peaks(model, one_f_one_b(4, 4), data)
    assert whole[0] > 2 * max(parts)
    for schedule, need in ((gpipe(1, 4), whole), (one_f_one_b(4, 4), parts)):
        assert peaks(model, schedule, data, memory_budget=max(need)) == need
        with pytest.raises(RankOutOfMemory) as caught:
            peaks(model, schedule, data, memory_budget=max(need) - 1)
        assert need[caught.value.rank] == max(need)
    with pytest.raises(RankOutOfMemory) as caught:
        peaks(model, gpipe(1, 4), data, memory_budget=max(parts))
    error, layer = caught.value, (32 * 32 + 32) * FLOAT
    assert (error.rank, error.action[:2]) == (0, "0F")  # its parameters alone just fit
    assert f"of a budget of {max(parts):,}" in str(error)
    assert f"{4 * layer:,} of parameters" in str(error)
    held, parts_of_it = re.search(
        r"it held ([\d,]+) bytes of a budget of \S+: (.*)", str(error)
    ).groups()
    assert number(held) == sum(map(number, re.findall(r"[\d,]*\d", parts_of_it))) > max(parts)
    with pytest.raises(RankOutOfMemory, match="of parameters") as caught:
        Pipeline(model, gpipe(2, 4), loss=cross_entropy, memory_budget=2 * layer - 1)
    assert caught.value.action is None


def number(text):
    return int(text.replace(",", ""))


def test_an_all_reduce_needs_room_for_its_gradients_once_more():
    (x, y), model = batch(16), linears(4, width=8)
    train = {"loss": cross_entropy, "optimizer": ADAM, "replicas": 2}
    with Pipeline(model, one_f_one_b(2, 2), **train) as pipeline:
        pipeline.step(x, y)
        trace = pipeline.step(x, y).trace
    for rank, peak in enumerate(peak_bytes(trace)):
        # flat, with a count for each of its two layers' weights and biases
        reduced = 2 * (8 * 8 + 8) * FLOAT + 4 * FLOAT
        assert peak.buffers == reduced and memory_curve(trace, rank)[-1].buffers == 0
        assert [e.bytes for e in trace.events if e.kind is Kind.REDUCE_GRAD] == [reduced] * 4
    least = min(peak.total for peak in peak_bytes(trace))
    options = train | {"memory_budget": least - 1}
    words = r"(?s)REDUCE_GRAD .* of all-reduce buffers"
    with (
        pytest.raises(RankOutOfMemory, match=words) as caught,
        Pipeline(model, one_f_one_b(2, 2), **options) as pipeline,
    ):
        pipeline.step(x, y)
        pipeline.step(x, y)
    assert caught.value.action.endswith("REDUCE_GRAD")


def test_1f1b_fits_where_gpipe_does_not():
    model, data = linears(4, width=16), batch(64, features=16)
    budget = max(peaks(model, one_f_one_b(4, 16), data))
    with pytest.raises(RankOutOfMemory, match="of activations") as caught:
        peaks(model, gpipe(4, 16), data, memory_budget=budget)
    rank = caught.value.rank
    assert caught.value.action.startswith((f"{rank}F", f"{rank}RECV_F"))  # its input counts too


@pytest.mark.parametrize("m", [2, 8])
def test_peak_live_activations_as_garbage_collection_sees_them(m):
    layers = [nn.Sequential(nn.Linear(8, 8), Live()) for _ in range(4)]
    for name, expected in (
        ("1f1b", [min(m, 4 - r) for r in range(4)]),
        ("gpipe", [m] * 4),
        ("zero_bubble_h1", [min(m, 4)] * 4),
        ("sequential", None),
    ):
        with Pipeline(nn.Sequential(*layers), build(name, 4, m), loss=cross_entropy) as pipeline:
            for _ in range(3):
                trace = pipeline.step(*batch(8)).trace
            found = [int(pipeline.state_dict()[f"{r}.1.peak"]) for r in range(4)]
        unit = [kept(trace)[r, 0] for r in range(4)]
        assert trace.peak_activation_bytes == tuple(n * u for n, u in zip(found, unit, strict=True))
        assert expected is None or found == expected, name


def test_receive_buffers_are_as_many_as_are_in_flight():
    most = {}
    with Pipeline(mlp(), one_f_one_b(4, 8), loss=cross_entropy) as pipeline:
        for build_ in (one_f_one_b, gpipe):
            for m in (4, 8, 32):
                pipeline.use(build_(4, m))
                rows = batch(2 * m, features=16)
                for _ in range(2):  # the first one does not know the buffers' sizes yet
                    trace = pipeline.step(*rows).trace
                message = 2 * 64 * FLOAT
                received = [e.bytes for e in trace.events if e.kind in (Kind.RECV_F, Kind.RECV_B)]
                assert received == [message] * (m * 6)
                most[build_, m] = [
                    max(point.buffers for point in memory_curve(trace, rank)) // message
                    for rank in range(4)
                ]
    for build_ in (one_f_one_b, gpipe):
        assert most[build_, 8] == most[build_, 32]
        assert max(most[build_, 32]) <= 3
        assert min(most[build_, 32]) >= 1


class FakeGroup:
    """Counts sends that nobody has waited for."""

    def __init__(self):
        self.open = []

    def send(self, tensors, peer, tag):
        self.open.append(tag)
        return FakeWork(self.open, tag)

    def recv(self, tensors, peer, tag):
        return FakeWork([tag], tag)


class FakeWork:
    def __init__(self, among, tag):
        self.among, self.tag = among, tag

    def wait(self, timeout):
        self.among.remove(self.tag)


def test_sent_tensors_are_released():
    group, x = FakeGroup(), torch.zeros(2, 3, requires_grad=True)
    gloo = Tagged(group, torch.device("cpu"))
    messages = GroupMessages(gloo, gloo, num_stages=4, timeout=1.0, window=5)
    value = flatten(x)
    messages.forms.update({((), boundary, 2, True): value.form for boundary in (1, 2)})
    messages.described.update(messages.forms)
    messages.begin(Run(True, None, None, (2,), (1.0,), ()), stamped=False)
    for i in range(50):
        messages.send(Action(1, Kind.SEND_B, i), [x], 0, 2, 0.0)
        assert len(group.open) == len(messages.sent) == min(i + 1, 5)
    messages.finish()
    assert group.open == []
    for i in range(4):  # an F's gradient is its answer
        messages.send(Action(1, Kind.SEND_F, i), value, 2, 2, 0.0)
    for i in range(4):
        assert len(messages.sent) == len(group.open) == 4 - i
        messages.post(Action(1, Kind.RECV_B, i), 2, 2)
        messages.wait(Action(1, Kind.RECV_B, i), 2)

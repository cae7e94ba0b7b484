"""Tied weights: a parameter that several stages hold trains as the one of one process.

One process adds the uses within each microbatch, then microbatches; stages add microbatches first.
So all bits are equal for one microbatch, and for more they are those of ``stage_by_stage``.
"""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from pipelab.action import Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.engine.protocol.commands import Fetch
from pipelab.errors import CheckpointError, PipelabError, RankError, RankOutOfMemory
from pipelab.partition import call, split
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.trace import Trace
from pipelab.trace.memory import memory_curve, peak_bytes
from tests.engine.one_process import Tied, assert_same, batch, gradients, plain_loop

IN_PROCESS = pytest.mark.usefixtures("in_process")
ADAM = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
FLOAT = 4


class Shares(nn.Module):
    """(rows, 8) -> (rows, 8), of weights that other layers have too."""

    def __init__(self, weight, bias, scale):
        super().__init__()
        self.weight, self.bias, self.scale = weight, bias, scale

    def forward(self, x):
        return x + torch.tanh(x @ self.weight.t() + self.bias) * self.scale


def crossed(stages):
    """A layer for each stage; weights are tied to every second one, biases to neighbours.

    The scale is tied over all of them.
    """
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(8, 8) / 3) for _ in range(2)]
    biases = [nn.Parameter(torch.randn(8)) for _ in range(stages)]
    scale = nn.Parameter(torch.ones(8))
    return nn.Sequential(*(Shares(weights[s % 2], biases[s // 2], scale) for s in range(stages)))


def language_model():
    """Embedding and head are one weight: (rows, words) of 11 -> (rows, 11)."""
    torch.manual_seed(0)
    table = nn.Embedding(11, 8)
    layers = [nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)]
    return nn.Sequential(nn.Sequential(table, Mean()), *layers, Tied(table.weight))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def words(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(11, (rows, 3), generator=generator)
    return tokens, torch.randint(11, (rows,), generator=generator)


def close(ours, theirs, tolerance=1e-6):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert (ours[name] - value).abs().max() <= tolerance * value.abs().max(), name


def stage_by_stage(model, num_stages, x, y, m):
    """The gradients of a plain loop where each stage has its own copy: then added, last first."""
    names = [name for name, _ in model.named_parameters()]
    stages = split(model, num_stages)
    first, uses = {}, {}
    for stage in stages:
        for name, p in stage.named_parameters():
            uses.setdefault(first.setdefault(p, name), []).append((stage, name))
    places = {id(stage): i for i, stage in enumerate(stages)}
    copies = [copy.deepcopy(stage) for stage in stages]

    def forward(value):
        for stage in copies:
            value = call(stage, value)
        return value

    plain_loop(forward, x, y, m)
    found = {}
    for name in names:
        for stage, own in reversed(uses[name]):
            part = copies[places[id(stage)]].get_parameter(own).grad
            found[name] = part if name not in found else found[name] + part
    return found


def held(pipeline, what="parameters"):
    """What each rank holds, by the names of its stages."""
    return [a.found for a in pipeline._ranks.ask([Fetch(what)] * pipeline._num_processes)]


def assert_copies_are_equal(pipeline, model):
    """All ranks have the same bits of each parameter."""
    same = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        same.setdefault(id(p), set()).add(name)
    ranks = held(pipeline)
    for names in same.values():
        values = [rank[name] for rank in ranks for name in names if name in rank]
        assert all(torch.equal(value, values[0]) for value in values), names


@IN_PROCESS
@pytest.mark.parametrize(("p", "m", "rows"), [(2, 1, 4), (2, 3, 10), (4, 4, 9)])
@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_under_every_builder(name, p, m, rows):
    m = max(m, BUILDERS[name].fewest(p))
    schedule = build(name, p, m)
    model, (x, y) = crossed(schedule.num_stages), batch(max(rows, m))
    with Pipeline(model, schedule, loss=cross_entropy) as pipeline:
        loss, ours = pipeline.step(x, y).loss, pipeline.gradients()
        assert_same(pipeline.gradients(), ours)
        pipeline.step(x, y)
        assert_same(pipeline.gradients(), ours)  # nothing of the step before is left
    assert loss == plain_loop(model, x, y, m)
    close(ours, gradients(model))
    alone = schedule.num_stages == p  # else autograd adds the stages of a rank as they come
    if alone:
        assert_same(ours, stage_by_stage(model, p, x, y, m))
    if alone and m == 1:
        assert_same(ours, gradients(model))


@IN_PROCESS
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("replicas", [1, 2])
def test_training_with_all_that_happens_at_its_end(name, replicas):
    m = BUILDERS[name].fewest(2) if BUILDERS[name].per_rank else 2
    schedule, model = build(name, 2, m), language_model()
    optimizer = ADAM(model.parameters())
    decay = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    rates = decay(optimizer)
    with Pipeline(
        copy.deepcopy(model), schedule, loss=cross_entropy, optimizer=ADAM, lr_schedule=decay,
        clip_norm=0.3, replicas=replicas,
    ) as pipeline:  # fmt: skip
        for number in range(3):
            first, second = words(8, seed=number), words(9, seed=number + 10)
            optimizer.zero_grad()
            pipeline.step(*first, update=False)
            plain_loop(model, *first, m * replicas)
            close(pipeline.gradients(), gradients(model), 1e-5)  # parts of ranks, added up
            result = pipeline.step(*second)
            plain_loop(model, *second, m * replicas)
            norm = clip_grad_norm_(model.parameters(), 0.3)
            assert norm > 0.3
            assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
            close(pipeline.gradients(), gradients(model), 1e-5)
            optimizer.step()
            rates.step()
            assert_copies_are_equal(pipeline, model)
            assert pipeline.evaluate(*first) == pytest.approx(
                cross_entropy(model(first[0]), first[1]).item(), rel=1e-5
            )
        close(pipeline.state_dict(), model.state_dict(), 1e-4)


@IN_PROCESS
def test_one_weight_is_updated_in_one_place_whatever_the_optimizer_does():
    class Draws(torch.optim.SGD):  # other numbers on each rank
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data = p.data + torch.rand(p.shape)

    with Pipeline(
        crossed(4), gpipe(4, 2), loss=cross_entropy, optimizer=partial(Draws, lr=0.1)
    ) as pipeline:
        before = pipeline.state_dict()
        for seed in range(2):
            pipeline.step(*batch(6, seed=seed))
            assert_copies_are_equal(pipeline, crossed(4))
        assert not torch.equal(before["3.weight"], pipeline.state_dict()["3.weight"])


@IN_PROCESS
def test_a_checkpoint_is_the_plain_models_and_loads_into_any_cut(tmp_path):
    def open_with(p, name="1f1b"):
        options = {"loss": cross_entropy, "optimizer": ADAM}
        return Pipeline(language_model(), build(name, p, 2), **options)

    with open_with(3) as pipeline:
        for seed in range(2):
            pipeline.step(*words(8, seed))
        path = pipeline.save(tmp_path)
        losses = [pipeline.step(*words(8, seed)).loss for seed in (2, 3)]
        state = pipeline.state_dict()
    saved = torch.load(path, weights_only=True)
    model = language_model()
    model.load_state_dict(saved["model"])
    assert list(saved["model"]) == list(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    kept = [name for stage in saved["optimizer"].values() for name in stage["state"]]
    assert sorted(kept) == sorted(names)
    for p, name in ((3, "1f1b"), (2, "1f1b"), (1, "gpipe"), (2, "interleaved")):
        with open_with(p, name) as pipeline:
            pipeline.load(tmp_path)
            assert_copies_are_equal(pipeline, model)
            again = [pipeline.step(*words(8, seed)).loss for seed in (2, 3)]
            if p == 3:
                assert again == losses
                assert_same(pipeline.state_dict(), state)
            assert again == pytest.approx(losses, rel=1e-5)


@IN_PROCESS
def test_a_state_with_two_values_for_one_weight_is_refused():
    model = language_model()
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy) as pipeline:
        state = pipeline.state_dict()
        state["4.weight"] = state["4.weight"] + 1
        with pytest.raises(CheckpointError, match=r"0\.0\.weight and 4\.weight are one tied"):
            pipeline.load_state_dict(state)
        state["4.weight"] = state["0.0.weight"].double()
        with pytest.raises(CheckpointError, match=r"differ in the state"):
            pipeline.load_state_dict(state)
        state["4.weight"] = torch.full((11, 8), float("nan"))
        state["0.0.weight"] = state["4.weight"].clone()
        pipeline.load_state_dict(state)
        state["4.weight"] = torch.ones(11, 8)
        state["0.0.weight"] = state["4.weight"]
        pipeline.load_state_dict(state)
        assert_copies_are_equal(pipeline, model)
        assert torch.equal(pipeline.state_dict()["0.0.weight"], state["4.weight"])


@IN_PROCESS
def test_fp16_decides_by_the_sum_and_copies_stay_equal():
    far = 1e6 * torch.randn(8, 8)
    options = {"loss": nn.functional.mse_loss, "autocast": torch.float16, "clip_norm": 1e3}
    with Pipeline(crossed(3), gpipe(3, 2), optimizer=ADAM, **options) as pipeline:
        before = pipeline.state_dict()
        assert pipeline.step(torch.randn(8, 8), far).skipped
        assert_same(pipeline.state_dict(), before)
        x, y = torch.randn(8, 8), torch.randn(8, 8)
        assert not pipeline.step(x, y).skipped
        ours = pipeline.gradients()
        assert_copies_are_equal(pipeline, crossed(3))
        assert not torch.equal(pipeline.state_dict()["2.weight"], before["2.weight"])
    model = crossed(3)
    plain_loop(model, x, y, 2, loss=nn.functional.mse_loss)
    for name, gradient in gradients(model).items():
        assert torch.allclose(ours[name], gradient, rtol=3e-2, atol=3e-3), name


@pytest.mark.parametrize("worker", ["pipelab", "torch"])
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_v"])
def test_real_ranks_of_both_workers(name, worker):
    schedule = build(name, 2, 4)
    report = verify_gradients(
        crossed(schedule.num_stages), schedule, *batch(8), cross_entropy, worker=worker
    )
    assert report.ok and len(report.parameters) == 3 + schedule.num_stages // 2, str(report)


@IN_PROCESS
def test_a_frozen_or_an_unused_weight_and_sparse_gradients():
    class Uses(nn.Module):
        def __init__(self, weight, is_used):
            super().__init__()
            self.weight, self.is_used = weight, is_used

        def forward(self, x):
            return x * self.weight if self.is_used else x

    frozen = nn.Parameter(torch.rand(8), requires_grad=False)
    never, late = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))
    rows = nn.Embedding(5, 8, sparse=True)
    model = nn.Sequential(
        nn.Sequential(rows, Uses(never, False), Uses(late, False), Uses(frozen, True)),
        nn.Sequential(nn.Linear(8, 8), Uses(never, False), Uses(late, True), Uses(frozen, True)),
        nn.Sequential(Tied(rows.weight), Uses(frozen[:5].detach(), True)),
    )
    x, y = torch.randint(5, (9,)), torch.randint(5, (9,))
    with Pipeline(model, gpipe(3, 3), loss=cross_entropy, optimizer=ADAM) as pipeline:
        trace, ours = pipeline.step(x, y).trace, pipeline.gradients()
        assert_copies_are_equal(pipeline, model)
    plain_loop(model, x, y, 3)
    close(ours, {n: g.to_dense() for n, g in gradients(model).items()})
    assert "0.1.weight" not in ours and "0.2.weight" in ours
    sizes = {e.stage: e.bytes for e in trace.events if e.kind is Kind.REDUCE_GRAD}
    assert sizes == {0: (9 + 9 + 41) * FLOAT, 1: (9 + 9) * FLOAT, 2: 41 * FLOAT}


class Looks(nn.Module):
    """Adds the rows of a table for the words, which travel along."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, words, x=None):
        rows = self.table(words)
        return {"words": words, "x": rows if x is None else rows + torch.tanh(x)}


class Out(nn.Module):
    def forward(self, words, x):
        return x


@IN_PROCESS
def test_gradients_that_are_all_sparse_stay_sparse_for_the_optimizer():
    torch.manual_seed(0)
    table, adam = nn.Embedding(20, 8, sparse=True), partial(torch.optim.SparseAdam, lr=0.1)
    layers = [Looks(table), Looks(table), Out()]
    x, y = torch.randint(15, (8,)), torch.randint(8, (8,))
    with Pipeline(layers, gpipe(2, 2), loss=cross_entropy, optimizer=adam) as pipeline:
        losses = [pipeline.step(x, y).loss for _ in range(3)]
        state = pipeline.state_dict()
    optimizer = adam(table.parameters())
    for loss in losses:
        optimizer.zero_grad()
        rows = table(x)
        own = cross_entropy(rows + torch.tanh(rows), y)
        own.backward()
        optimizer.step()
        assert loss == pytest.approx(own.item(), rel=1e-5)
    assert torch.equal(state["0.table.weight"], state["1.table.weight"])
    assert torch.allclose(state["0.table.weight"], table.weight, rtol=1e-4)


@IN_PROCESS
def test_half_precision_adds_in_single_precision():
    # one process casts a weight once for both uses, and adds their gradients in half precision
    model, (x, y) = crossed(3), batch(9)
    report = verify_gradients(model, gpipe(3, 3), x, y, cross_entropy, autocast=torch.bfloat16)
    assert report.ok, str(report)
    with Pipeline(model, gpipe(3, 3), loss=cross_entropy, autocast=torch.bfloat16) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        plain_loop(model, x, y, 3)
    close(ours, gradients(model))


@IN_PROCESS
def test_the_trace_shows_the_exchange_and_memory_counts_what_is_there(tmp_path):
    with Pipeline(crossed(3), gpipe(3, 2), loss=cross_entropy, optimizer=ADAM) as pipeline:
        pipeline.step(*batch(6))
        trace = pipeline.step(*batch(6)).trace
    weight, bias, scale = 64, 8, 8
    events = {kind: [e for e in trace.events if e.kind is kind] for kind in Kind}
    sizes = {e.stage: e.bytes for e in events[Kind.REDUCE_GRAD]}  # and a number for each weight
    assert sizes == {
        0: (weight + bias + 2 * scale + 4) * FLOAT,  # a buffer for each of the others
        1: (bias + scale + 2) * FLOAT,
        2: (weight + scale + 2) * FLOAT,
    }
    steps = {e.stage: e for e in events[Kind.STEP]}
    for reduce in events[Kind.REDUCE_GRAD]:
        own = [e.end for e in trace.events if e.rank == reduce.rank and e.kind is Kind.B]
        assert max(own) <= reduce.start <= reduce.end <= steps[reduce.stage].start
    waits = [e for e in events[Kind.WAIT] if e.microbatch is None and e.peer is not None]
    assert {(e.stage, e.peer) for e in waits} == {(1, 0), (2, 0)}
    for wait in waits:  # each value is there only after its owner's step
        assert wait.end >= steps[0].start
    assert [m.parameters for m in trace.memory] == [80 * FLOAT] * 3
    assert [m.gradients for m in trace.memory] == [80 * FLOAT] * 3
    moments = [2 * 80, 2 * 64, 2 * 8]  # of the owner alone, and a counter for each weight
    counters = [3, 1, 1]
    assert [m.optimizer for m in trace.memory] == [
        (n + c) * FLOAT for n, c in zip(moments, counters, strict=True)
    ]
    assert memory_curve(trace, 0)[-1].buffers == 0
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace


@IN_PROCESS
def test_stages_of_one_rank_have_one_weight_and_count_it_once():
    schedule = build("zero_bubble_v", 2, 4)  # the first and the last stage are on rank 0
    with Pipeline(language_model(), schedule, loss=cross_entropy, optimizer=ADAM) as pipeline:
        trace = pipeline.step(*words(8)).trace
    assert not [e for e in trace.events if e.kind is Kind.REDUCE_GRAD]  # nothing to exchange
    on_rank_0 = [11 * 8, 0]
    on_rank_1 = [8 * 8 + 8, 8 * 8 + 8]
    assert [m.parameters for m in trace.memory] == [
        sum(on_rank_0) * FLOAT, sum(on_rank_1) * FLOAT
    ]  # fmt: skip
    assert [m.gradients for m in trace.memory] == [m.parameters for m in trace.memory]
    curve = [moment.gradients for moment in memory_curve(trace, 0)]
    assert max(curve) == 88 * FLOAT


@IN_PROCESS
def test_a_memory_budget_holds_with_the_buffers_of_tied_weights():
    first = nn.Linear(8, 8, bias=False)
    model, data = [first, Tied(first.weight)], batch(2)

    def peak(**options):
        with Pipeline(
            model, gpipe(2, 2), loss=cross_entropy, optimizer=ADAM, **options
        ) as pipeline:
            return [peak_bytes(pipeline.step(*data).trace)[0] for _ in range(2)][-1]

    found = peak()
    assert found.buffers == 65 * FLOAT  # the weight of the other rank, and whether it has one
    assert found.total == (64 + 64 + 2 * 64 + 1 + 65) * FLOAT
    assert peak(memory_budget=found.total).total == found.total
    with pytest.raises(RankOutOfMemory, match=r"0REDUCE_GRAD.*260 of all-reduce buffers"):
        peak(memory_budget=found.total - 1)


@IN_PROCESS
def test_steps_written_by_hand_stand_in_the_order_of_stages():
    # stage 3 before stage 0 on one rank, stage 2 before stage 1 on the other: both would wait
    rows = [
        ["0F0", "3F0", "3B0", "3STEP", "0B0", "0STEP"],
        ["1F0", "2F0", "2B0", "2STEP", "1B0", "1STEP"],
    ]
    model, (x, y) = crossed(4), batch(4)
    with Pipeline(
        model, Schedule.from_tokens(rows), loss=cross_entropy, optimizer=ADAM
    ) as pipeline:
        pipeline.step(x, y)
        close(pipeline.gradients(), _of_whole(model, x, y))
        assert_copies_are_equal(pipeline, model)


def _of_whole(model, x, y):
    plain_loop(model, x, y, 1)
    return gradients(model)


@IN_PROCESS
def test_another_schedule_for_the_same_stages():
    model, (x, y) = crossed(4), batch(8)
    with Pipeline(model, gpipe(4, 2), loss=cross_entropy, optimizer=ADAM) as pipeline:
        pipeline.step(x, y)
        pipeline.load_state_dict(model.state_dict())
        for schedule in (one_f_one_b(4, 4), build("zero_bubble_h1", 4, 4)):
            pipeline.use(schedule)
            pipeline.step(x, y, update=False)
            found = pipeline.gradients()
            pipeline.load_state_dict(model.state_dict())
            model.zero_grad()
            plain_loop(model, x, y, 4)
            close(found, gradients(model))


@IN_PROCESS
@pytest.mark.parametrize("run", ["step", "accumulate", "evaluate"])
def test_a_weight_that_a_forward_changes_is_refused(run):
    table = nn.Embedding(11, 8, max_norm=0.1)
    model = nn.Sequential(nn.Sequential(table, Mean()), nn.Linear(8, 8), Tied(table.weight))
    words_of = r"0\.0\.weight \(stage 0\), 2\.weight \(stage 1\) are one weight(.|\n)*max_norm="
    with (
        Pipeline(model, gpipe(2, 2), loss=cross_entropy, optimizer=ADAM) as pipeline,
        pytest.raises(RankError, match=words_of),
    ):
        if run == "evaluate":
            pipeline.evaluate(*words(8))
        else:
            pipeline.step(*words(8), update=run == "step")


@IN_PROCESS
def test_a_weight_that_no_copy_could_train_is_refused():
    class Refers(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layers = [layer]

        def forward(self, x):
            return x @ self.layers[0].weight.t()

    first = nn.Linear(8, 8)
    with pytest.raises(PipelabError, match=r"layer 1 \(stage 1\) refers to 0\.weight, which"):
        Pipeline([first, Refers(first)], gpipe(2, 2), loss=cross_entropy)
    second = nn.Linear(8, 8)
    second.weight.data = first.weight.data
    with pytest.raises(PipelabError, match=r"1\.weight \(stage 1\) is in the memory of 0\.weight"):
        Pipeline([first, second], gpipe(2, 2), loss=cross_entropy)

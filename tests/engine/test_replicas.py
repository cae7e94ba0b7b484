"""Replicas: copies of the pipeline on rows of their own train as one process on all rows."""

import copy
import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from pipelab.action import Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.engine.protocol.commands import Fetch
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.errors import BatchError, PipelabError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.in_process import Link, Member, Sums
from tests.engine.one_process import assert_close, assert_same, batch, gradients, linears, pieces

IN_PROCESS = pytest.mark.usefixtures("in_process")
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Unused(nn.Module):
    """``never`` is used by no replica, ``seldom`` where the first entry of a microbatch is > 0."""

    def __init__(self):
        super().__init__()
        self.never, self.seldom = (nn.Parameter(torch.ones(8)) for _ in "ab")

    def forward(self, x):
        return x * self.seldom if x[0, 0] > 0 else x


def close(ours, theirs):
    """Within 1e-6 of the largest entry."""
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        largest = value.abs().max()
        assert (ours[name] - value).abs().max() <= 1e-6 * largest, name


def replicas_of(pipeline, replicas, what="parameters"):
    """What each copy of the pipeline holds, by name."""
    answers = pipeline._ranks.ask([Fetch(what)] * pipeline._num_processes)
    copies = zip(*[iter(answers)] * (len(answers) // replicas), strict=True)
    return [{n: v for answer in copy for n, v in answer.found.items()} for copy in copies]


@pytest.mark.parametrize(
    ("name", "p", "replicas", "rows"),
    [
        ("1f1b", 2, 2, 13),
        ("zero_bubble_h1", 2, 3, 19),
        ("zero_bubble_v", 2, 2, 12),
        ("interleaved", 2, 2, 11),
        ("gpipe", 1, 3, 10),
    ],
)
def test_replicas_train_as_one_process_on_the_whole_batch(name, p, replicas, rows):
    model = nn.Sequential(*linears(3), nn.Tanh(), nn.Linear(8, 8))
    options = {"optimizer": MOMENTUM, "replicas": replicas}
    with Pipeline(model, build(name, p, 2), loss=cross_entropy, **options) as pipeline:
        found = []
        for seed in range(3):
            loss = pipeline.step(*batch(rows, seed=seed)).loss
            found.append((loss, pipeline.gradients()))
            assert pipeline.evaluate(*batch(rows)) > 0
        ours = pipeline.state_dict()
        copies = replicas_of(pipeline, replicas)
        summed = replicas_of(pipeline, replicas, "gradients")
    assert len(copies) == replicas
    for other in copies[1:]:
        assert_same(other, copies[0])
    for other in summed:
        assert_same(other, summed[0])
    optimizer = MOMENTUM(model.parameters())
    for seed, (loss, gradient) in enumerate(found):
        optimizer.zero_grad()
        x, y = batch(rows, seed=seed)
        whole = cross_entropy(model(x), y)
        whole.backward()
        assert loss == pytest.approx(whole.item(), rel=1e-6)
        close(gradient, gradients(model))
        optimizer.step()
    close(ours, model.state_dict())


@IN_PROCESS
def test_parameters_that_few_or_none_use():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(8, 8), Unused(), nn.Linear(8, 8)), batch(12)
    firsts = [piece[0] for piece in pieces(model[0](x), 4)]
    used = [bool(first[0] > 0) for first in firsts]
    assert any(used[:2]) != any(used[2:])  # one replica uses ``seldom``, the other does not
    with Pipeline(model, one_f_one_b(3, 2), loss=cross_entropy, replicas=2) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
        for copy in replicas_of(pipeline, 2, "gradients"):
            assert torch.equal(copy["1.seldom"], ours["1.seldom"])
    for a, b in zip(pieces(x, 4), pieces(y, 4), strict=True):
        (cross_entropy(model(a), b) * (len(a) / 12)).backward()
    assert "1.never" not in ours
    close(ours, gradients(model))


def test_a_gradient_has_its_parameter_s_order_in_memory():
    # a sum over it, such as a norm's, is rounded in that order
    stage = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    stage(torch.randn(2, 3, 4, 4)).sum().backward()
    alone = stage.weight.grad.clone()
    replicas = DataParallel(Member(Sums(Link(1), 1), 0), None, 1.0)
    replicas.finish(replicas.start(stage))
    assert torch.equal(stage.weight.grad, alone)
    assert stage.weight.grad.stride() == alone.stride() == stage.weight.stride()


@IN_PROCESS
@pytest.mark.parametrize("clip", [None, 0.01])
def test_accumulation_and_clipping(clip):
    model = linears(4)
    with Pipeline(
        model, build("zero_bubble_v", 2, 2), loss=cross_entropy, replicas=2,
        optimizer=MOMENTUM, clip_norm=clip,
    ) as pipeline:  # fmt: skip
        half = pipeline.step(*batch(9, seed=0), update=False)
        accumulated = pipeline.gradients()
        result = pipeline.step(*batch(9, seed=1))
        ours, after, copies = pipeline.gradients(), pipeline.state_dict(), replicas_of(pipeline, 2)
    assert not [e for e in half.trace.events if e.kind in (Kind.REDUCE_GRAD, Kind.STEP)]
    assert_same(copies[0], copies[1])
    for seed in range(2):
        x, y = batch(9, seed=seed)
        cross_entropy(model(x), y).backward()
        if seed == 0:
            close(accumulated, gradients(model))
    if clip:
        norm = clip_grad_norm_(model.parameters(), clip)
        assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
        assert norm > clip
        assert_close(ours, gradients(model), rtol=1e-4)
    else:
        close(ours, gradients(model))
    MOMENTUM(model.parameters()).step()
    close(after, model.state_dict())


@pytest.mark.parametrize(("name", "stages"), [("interleaved", 4), ("1f1b", 2), ("gpipe", 2)])
def test_gradients_are_reduced_while_the_rank_still_works(name, stages):
    schedule = build(name, 2, 4)
    with Pipeline(linears(4), schedule, loss=cross_entropy, replicas=2) as pipeline:
        for _ in range(2):
            trace = pipeline.step(*batch(16)).trace
    assert trace.setting.ranks == trace.num_ranks == 4
    assert "2 replicas" in trace.source_line
    for rank in range(4):
        events = [e for e in trace.events if e.rank == rank]
        reductions = {e.stage: e for e in events if e.kind is Kind.REDUCE_GRAD}
        assert sorted(reductions) == [s for s in range(stages) if s % 2 == rank % 2]
        backwards = [e for e in events if e.kind is Kind.B]
        for stage, reduction in reductions.items():
            own = [e.end for e in backwards if e.stage == stage]
            assert reduction.start >= max(own)
            layers = 4 // stages
            size = layers * (8 * 8 + 8) * 4
            assert size <= reduction.bytes <= size + 64
            step = next(e for e in events if e.kind is Kind.STEP and e.stage == stage)
            assert reduction.end <= step.start
        if len(reductions) > 1:
            early = min(reductions.values(), key=lambda e: e.start)
            assert early.start < max(e.start for e in backwards)
            assert any(e.start > early.start for e in backwards if e.stage != early.stage)
        assert all(a.start <= b.start for a, b in itertools.pairwise(events))


@IN_PROCESS
def test_fewer_rows_than_replicas_can_be_evaluated_but_not_trained():
    model, (x, y) = linears(4), batch(7)
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy, replicas=3) as pipeline:
        for rows in (1, 2, 4, 7):
            with torch.no_grad():
                expected = model(x[:rows])
            loss = cross_entropy(expected, y[:rows]).item()
            assert pipeline.evaluate(x[:rows], y[:rows]) == pytest.approx(loss, rel=1e-6)
            found = pipeline.predict(x[:rows])
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
        with pytest.raises(BatchError, match="5 rows cannot be cut into 6 microbatches"):
            pipeline.step(x[:5], y[:5])
        assert pipeline.step(x, y).loss == pytest.approx(loss, rel=1e-6)
    with pytest.raises(PipelabError, match="replicas=0"):
        Pipeline(model, gpipe(2, 2), loss=cross_entropy, replicas=0)


def test_each_replica_draws_its_own_dropout():
    # as one process does that numbers the microbatches of all replicas on
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    report = verify_gradients(model, gpipe(2, 2), *batch(8), cross_entropy, replicas=2, seed=5)
    assert report.ok, str(report)


@IN_PROCESS
def test_running_statistics_of_the_first_copy_count_for_all():
    # each copy saw other rows: evaluation used to differ by copy, and after a load
    x, y = torch.randn(16, 16), torch.arange(16) % 10
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with Pipeline(
        model, gpipe(2, 2), loss=cross_entropy, replicas=2, optimizer=MOMENTUM
    ) as pipeline:
        pipeline.step(x, y)
        before, state = pipeline.evaluate(x, y), pipeline.state_dict()
        pipeline.load_state_dict(state)
        assert pipeline.evaluate(x, y) == before
    first = copy.deepcopy(model).train()
    for rows in x[:8].split(4):  # the first copy's two microbatches
        first[:2](rows)
    assert torch.equal(state["1.running_mean"], first[1].running_mean)
    assert torch.equal(state["1.running_var"], first[1].running_var)


def test_sparse_gradients_are_added_up_too():
    model = nn.Sequential(nn.Embedding(20, 8, sparse=True), nn.Flatten(), nn.Linear(32, 10))
    tokens, targets = torch.randint(20, (16, 4)), torch.arange(16) % 10
    for replicas in (1, 2):
        report = verify_gradients(
            model, gpipe(2, 4), tokens, targets, cross_entropy, replicas=replicas
        )
        assert report.ok, str(report)

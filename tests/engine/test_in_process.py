"""Ranks that are threads do what ranks that are processes do, so that tests may use them."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.ranks import Ranks
from pipelab.errors import LaunchError, PipelineClosed, RankError
from pipelab.schedules import Schedule, communication, gpipe, one_f_one_b, seq1f1b
from pipelab.schedules.catalogue import build
from tests.engine.in_process import InProcessRanks
from tests.engine.one_process import (
    assert_close,
    assert_same,
    batch,
    gradients,
    linears,
    plain_loop,
)

pytestmark = pytest.mark.usefixtures("in_process")


class Fails(nn.Module):
    def forward(self, x):
        raise KeyError("my own bug")


def test_they_have_the_face_of_ranks():
    face = [name for name in vars(Ranks) if not name.startswith("_")]
    assert {"ask", "close", "pids", "begun"} <= {*face}
    with Pipeline(linears(2), gpipe(2, 2), loss=cross_entropy) as pipeline:
        assert isinstance(pipeline._ranks, InProcessRanks)
        assert [name for name in face if not hasattr(pipeline._ranks, name)] == []
        pipeline.step(*batch(4))
        assert [begun.action.stage for begun in pipeline.begun] == [0, 1]


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "interleaved", "zero_bubble_v"])
def test_the_gradient_of_one_process_to_the_last_bit(name):
    (x, y), schedule = batch(13), build(name, 2, 3)
    model = linears(schedule.num_stages)
    with Pipeline(model, schedule, loss=cross_entropy) as pipeline:
        assert pipeline.pids == ()
        loss, ours = pipeline.step(x, y).loss, pipeline.gradients()
    assert loss == plain_loop(model, x, y, 3)
    assert_same(ours, gradients(model))


def test_a_schedule_is_judged_once_also_when_it_is_made_again(monkeypatch):
    (x, y), judged = batch(8), []
    judge = communication._judge
    monkeypatch.setattr(communication, "_judge", lambda *given: judged.append(1) or judge(*given))
    model = linears(2)
    plain_loop(model, x, y, 4)
    with Pipeline(model, gpipe(2, 4), loss=cross_entropy) as pipeline:
        for make in (one_f_one_b, gpipe, one_f_one_b):
            pipeline.use(make(2, 4))
            pipeline.step(x, y)
            assert_same(pipeline.gradients(), gradients(model))
    assert len(judged) == 2


def test_slices_are_not_taken_for_microbatches_of_the_same_numbers():
    sliced = Schedule(tuple(seq1f1b(2, 4, 2).ranks), "same")
    whole = Schedule(
        tuple(tuple(a._replace(microbatch=int(a.microbatch)) for a in row) for row in sliced.ranks),
        "same",
    )
    assert whole == sliced and hash(whole) == hash(sliced)
    with Pipeline(linears(2), sliced, loss=cross_entropy) as pipeline:
        pipeline.use(whole)
        assert (pipeline.schedule.slices, pipeline.schedule.num_microbatches) == (1, 8)


def test_replicas_add_up():
    model, (x, y) = linears(4), batch(12)
    options = {"optimizer": partial(torch.optim.SGD, lr=0.1), "clip_norm": 0.01, "replicas": 2}
    with Pipeline(model, gpipe(2, 3), loss=cross_entropy, **options) as ranks:
        result = ranks.step(x, y)
        ours = ranks.gradients()
    plain_loop(model, x, y, 6)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-6)
    assert_close(ours, gradients(model), atol=1e-9)


def test_a_rank_that_fails_is_named_and_the_pipeline_is_closed():
    layers = [nn.Linear(8, 8), Fails(), nn.Linear(8, 8)]
    with Pipeline(layers, gpipe(3, 2), loss=cross_entropy) as pipeline:
        with pytest.raises(RankError, match=r"rank 1 failed in 1F0 .*KeyError: 'my own") as caught:
            pipeline.step(*batch(4))
        with pytest.raises(PipelineClosed):
            pipeline.step(*batch(4))
    assert (caught.value.stage, caught.value.microbatch) == (1, 0)


def test_what_cannot_be_pickled_is_refused_as_for_processes():
    def generator():
        yield

    linear = nn.Linear(8, 8)
    linear.open = generator()
    with pytest.raises(LaunchError, match="layer 1 of stage 1, a Linear, cannot be sent to rank 1"):
        Pipeline([nn.Linear(8, 8), linear], gpipe(2, 2), loss=cross_entropy)


def test_another_schedule_is_followed_from_the_next_step_on():
    model, (x, y) = linears(4), batch(12)
    with Pipeline(model, gpipe(2, 3), loss=cross_entropy) as pipeline:
        for schedule in (gpipe(2, 3), one_f_one_b(2, 3), one_f_one_b(2, 6), gpipe(2, 1)):
            pipeline.use(schedule)
            trace = pipeline.step(x, y).trace
            for rank, row in enumerate(schedule.ranks):
                ran = [e for e in trace.events if e.rank == rank and e.kind in "FB"]
                assert [(e.stage, e.kind, e.microbatch) for e in ran] == [tuple(a) for a in row]
            model.zero_grad()
            plain_loop(model, x, y, schedule.num_microbatches)
            assert_same(pipeline.gradients(), gradients(model))


def test_the_state_has_the_model_s_names_in_its_order_and_predict_its_rows():
    model, (x, _) = nn.Sequential(*linears(4), nn.BatchNorm1d(8)), batch(7)
    with Pipeline(model, one_f_one_b(2, 3), loss=cross_entropy) as pipeline:
        assert_same(pipeline.state_dict(), model.state_dict())
        out = pipeline.predict(x)
    model.eval()
    with torch.no_grad():
        assert torch.equal(out, torch.cat([model(rows) for rows in x.tensor_split(3)]))

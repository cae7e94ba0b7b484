"""fp16: one scale for all ranks, and one decision when any rank's gradients overflow."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pipelab.engine import Pipeline
from pipelab.engine.rank.update import START
from pipelab.schedules.catalogue import build

IN_PROCESS = pytest.mark.usefixtures("in_process")
SGD = partial(torch.optim.SGD, lr=0.01)
X, Y = torch.randn(12, 8), torch.randn(12, 8)


def model():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))


def open_pipeline(schedule, **options):
    return Pipeline(
        model(), schedule, loss=mse_loss, optimizer=SGD, autocast=torch.float16, **options
    )


@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_v"])
def test_scaled_gradients_are_those_of_one_process(name):
    with open_pipeline(build(name, 2, 3)) as pipeline:
        half = pipeline.step(X, Y, update=False), pipeline.gradients()  # still scaled on the ranks
        both = pipeline.step(X, Y), pipeline.gradients()
    reference = model()
    scaled = 0.0
    for x, y in zip(X.split(4), Y.split(4), strict=True):
        with torch.autocast("cpu", torch.float16):
            loss = mse_loss(reference(x), y) / 3
        (loss * START).backward()
        scaled += loss.item()
    assert half[0].loss == pytest.approx(scaled, rel=1e-3)  # reported unscaled
    assert not both[0].skipped
    for parameter, value in reference.named_parameters():
        for found, times in ((half[1], 1), (both[1], 2)):
            expected = times * value.grad / START
            assert torch.allclose(found[parameter], expected, rtol=1e-2, atol=1e-5), parameter


@IN_PROCESS
@pytest.mark.parametrize("replicas", [1, 2])
def test_an_overflow_on_one_rank_leaves_out_the_update_on_all(replicas, tmp_path):
    far = torch.full_like(Y, 1e3)  # its gradients, scaled by 65536, are beyond 65504
    with open_pipeline(build("1f1b", 2, 2), replicas=replicas, clip_norm=1.0) as pipeline:
        before = pipeline.state_dict()
        results = [pipeline.step(X, far)]
        after = pipeline.state_dict()
        assert results[0].skipped
        assert results[0].gradient_norm is None
        assert all(torch.equal(before[name], after[name]) for name in before)
        while results[-1].skipped and len(results) < 30:  # the scale is halved until it fits
            results.append(pipeline.step(X, far))
        assert 1 < len(results) < 30
        assert results[-1].gradient_norm is not None
        assert not torch.equal(before["0.weight"], pipeline.state_dict()["0.weight"])
        path = pipeline.save(tmp_path)
    saved = torch.load(path, weights_only=True)["optimizer"]["loss scale"]
    assert saved["scale"] == START / 2 ** (len(results) - 1)
    with open_pipeline(build("gpipe", 1, 2), replicas=replicas) as pipeline:
        pipeline.load(tmp_path)
        assert not pipeline.step(X, far).skipped  # the scale was taken up, too


@IN_PROCESS
def test_sparse_gradients_may_overflow_too():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Embedding(9, 8, sparse=True), nn.Linear(8, 8))
    words = torch.randint(9, (12,))
    schedule = build("1f1b", 2, 2)
    with Pipeline(
        layers, schedule, loss=mse_loss, optimizer=SGD, autocast=torch.float16, clip_norm=1e3
    ) as pipeline:
        result = pipeline.step(words, Y)
        found = pipeline.gradients()
        assert pipeline.step(words, Y * 1e6).skipped
    for x, y in zip(words.split(6), Y.split(6), strict=True):
        (mse_loss(layers(x), y) / 2).backward()
    assert not result.skipped
    for name, parameter in layers.named_parameters():
        expected = parameter.grad.to_dense()
        assert torch.allclose(found[name], expected, rtol=2e-2, atol=1e-4), name


@IN_PROCESS
def test_what_is_no_training_leaves_the_gradients_as_they_are(tmp_path):
    # they were divided by the loss scale once more: 65,536 times too small
    def others(pipeline):
        yield pipeline.evaluate(X, Y)
        yield pipeline.predict(X)
        yield pipeline.use(build("gpipe", 2, 2))
        yield pipeline.load_state_dict(pipeline.state_dict())
        yield pipeline.load(tmp_path)  # another loss scale

    with open_pipeline(build("1f1b", 2, 2)) as pipeline:
        while pipeline.step(X, Y * 1e3).skipped:
            pass
        pipeline.save(tmp_path)
    with open_pipeline(build("1f1b", 2, 2)) as pipeline:
        for update in (False, True):
            pipeline.step(X, Y, update=update)
            before = pipeline.gradients()
            assert max(float(x.abs().max()) for x in before.values()) > 1e-4
            for _ in others(pipeline):
                after = pipeline.gradients()
                assert all(torch.equal(after[name], before[name]) for name in before)

"""Stages: whatever layers hand over, one process agrees."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.engine.rank.stage import seed_for
from pipelab.errors import RankError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import BUILDERS, build
from tests.engine.one_process import (
    Aside,
    Draws,
    Either,
    Embed,
    Grow,
    Head,
    Mix,
    Return,
    Tied,
    UseAside,
    Whichever,
    assert_same,
    batch,
    gradients,
    linears,
    pieces,
    plain_loop,
)

IN_PROCESS = pytest.mark.usefixtures("in_process")
SGD = partial(torch.optim.SGD, lr=0.5)


def two_losses(output, target):
    logits, side = output
    return cross_entropy(logits, target["class"]) + (side - target["value"]).abs().mean()


def nested_layers():
    torch.manual_seed(0)
    return nn.ModuleList([Embed(), *(Mix() for _ in range(6)), Head()])


def through(layers, value):
    """The same layers in one process, as their authors would call them."""
    kept = layers[0](**value) if isinstance(value, dict) else layers[0](*value)
    for layer in layers[1:]:
        kept = layer(**kept)
    return kept


def nested_batch(rows):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(11, (rows, 4), generator=generator)
    mask = torch.rand(rows, 4, generator=generator) > 0.6
    shift = torch.randn(rows, 6, generator=generator)
    targets = {"class": torch.arange(rows) % 5, "value": torch.linspace(0, 1, rows)}
    return tokens, mask, shift, targets


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(("p", "ranks"), [(2, "processes"), (4, "threads")])
def test_nested_values_masks_and_integers_under_every_schedule(name, p, ranks, request):
    if ranks == "threads":
        request.getfixturevalue("in_process")
    layers, m = nested_layers(), max(3, BUILDERS[name].fewest(p))
    tokens, mask, shift, targets = nested_batch(max(7, m))
    with Pipeline([*layers], build(name, p, m), loss=two_losses) as pipeline:
        for inputs in (
            (tokens, mask),
            {"tokens": tokens, "mask": mask, "shift": shift},
            {"shift": shift, "tokens": tokens},
        ):
            layers.zero_grad()
            loss = pipeline.step(inputs, targets).loss
            assert loss == plain_loop(partial(through, layers), inputs, targets, m, two_losses)
            assert_same(pipeline.gradients(), gradients(layers))
        assert not any("unused" in name for name in pipeline.gradients())
        logits, side = pipeline.predict((tokens, mask))
    with torch.no_grad():
        rows = [through(layers, piece) for piece in pieces((tokens, mask), m)]
    assert torch.equal(logits, torch.cat([row[0] for row in rows]))
    assert torch.equal(side, torch.cat([row[1] for row in rows]))


@IN_PROCESS
def test_weights_that_reach_the_next_stage_past_the_input():
    # once, a halved backward forgot the weights of outputs that hang on no input
    layers = [nn.Linear(8, 8), Aside(), UseAside(), nn.Linear(8, 8)]
    model, (x, y) = nn.ModuleList(layers), batch(7)
    plain_loop(lambda v: layers[3](layers[2](**layers[1](layers[0](v)))), x, y, 3)
    for name in ("zero_bubble_h1", "1f1b"):
        with Pipeline(layers, build(name, 4, 3), loss=cross_entropy) as pipeline:
            pipeline.step(x, y)
            assert_same(pipeline.gradients(), gradients(model))


@pytest.mark.parametrize("name", ["gpipe", "zero_bubble_h1"])
@IN_PROCESS
@pytest.mark.parametrize("frozen", [2, 3])
def test_no_gradient_goes_back_to_frozen_first_stages(name, frozen):
    model, (x, y) = linears(4), batch(7)
    model[:frozen].requires_grad_(False)
    with Pipeline(model, build(name, 4, 3), loss=cross_entropy, optimizer=SGD) as pipeline:
        trace = pipeline.step(x, y).trace
        ours, after = pipeline.gradients(), pipeline.state_dict()
    plain_loop(model, x, y, 3)
    assert_same(ours, gradients(model))
    assert all(name.startswith(tuple("0123"[frozen:])) for name in ours)
    SGD(model.parameters()).step()
    assert_same(after, model.state_dict())
    sent = {(e.stage, e.bytes) for e in trace.events if e.kind is Kind.SEND_B}
    whole = {3 * 8 * 4, 2 * 8 * 4}
    assert sent == {(s, size) for s in range(1, 4) for size in (whole if s > frozen else {0})}


@IN_PROCESS
def test_a_weight_tied_within_a_stage_is_exact():
    torch.manual_seed(0)
    first = nn.Linear(8, 8, bias=False)
    model, (x, y) = nn.Sequential(first, nn.Linear(8, 8), nn.Tanh(), Tied(first.weight)), batch(7)
    below = nn.Sequential(nn.Linear(8, 300), nn.Linear(300, 8), *model)  # the second stage has all
    for whole, p in ((model, 1), (below, 2)):
        schedule = build("zero_bubble_h1", p, 3)
        with Pipeline(whole, schedule, loss=cross_entropy, optimizer=SGD) as pipeline:
            assert "0.weight" in pipeline.state_dict()
            pipeline.step(x, y)
            ours, after = pipeline.gradients(), pipeline.state_dict()
        whole.zero_grad()
        plain_loop(whole, x, y, 3)
        assert_same(ours, gradients(whole))
        head, tail = [name for name in after if torch.equal(after[name], after[[*after][-1]])]
        assert not torch.equal(after[head], first.weight)
        assert (head, tail) == (f"{len(whole) - 4}.weight", f"{len(whole) - 1}.weight")


@pytest.mark.parametrize("checkpoint", [False, True])
def test_batchnorm_sees_each_microbatch_once_and_never_the_whole_batch(checkpoint):
    # with checkpoint=True its statistics once counted each microbatch twice
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)), batch(13)
    for name in ("1f1b", "zero_bubble_h1"):
        copy = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
        copy.load_state_dict(model.state_dict())
        with Pipeline(
            model, build(name, 3, 4), loss=cross_entropy, checkpoint=checkpoint
        ) as pipeline:
            pipeline.step(x, y)
            ours, state = pipeline.gradients(), pipeline.state_dict()
            evaluated = pipeline.evaluate(x, y)
            assert_same(pipeline.state_dict(), state)
        plain_loop(copy, x, y, 4)
        assert_same(ours, gradients(copy))
        assert_same(state, copy.state_dict())
        assert state["1.num_batches_tracked"] == 4
        rows = zip(pieces(x, 4), pieces(y, 4), strict=True)
        copy.eval()  # with the running statistics
        assert evaluated == sum((cross_entropy(copy(a), b) * (len(a) / 13)).item() for a, b in rows)
    copy.load_state_dict(model.state_dict())
    copy.train()(x)  # one process that takes the batch whole learns other statistics
    assert not torch.allclose(copy[1].running_var, state["1.running_var"], rtol=1e-3)


def dropout_run(schedule, seed=0, steps=2, checkpoint=False):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(8, 8), Draws(), nn.Dropout(0.5)) for _ in range(4)]
    with Pipeline(
        nn.Sequential(*layers), schedule, loss=cross_entropy, seed=seed, checkpoint=checkpoint
    ) as pipeline:
        found = []
        for _ in range(steps):
            pipeline.step(*batch(7))
            pipeline.evaluate(*batch(7))
            found.append(pipeline.gradients())
        state = pipeline.state_dict()
    assert all(state[f"{i}.1.count"] == 3 * steps for i in range(4))
    return found, torch.stack([state[f"{i}.1.drawn"][: 3 * steps] for i in range(4)])


def test_dropout_differs_by_stage_microbatch_and_step_and_is_the_same_in_each_run():
    found, drawn = dropout_run(gpipe(4, 3))
    assert len(set(drawn.flatten().tolist())) == 4 * 3 * 2
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])
    for again in (
        dropout_run(gpipe(4, 3)),
        dropout_run(build("zero_bubble_h2", 4, 3)),
        dropout_run(one_f_one_b(4, 3), checkpoint=True),
    ):
        assert torch.equal(again[1], drawn)
        for step in range(2):
            assert_same(again[0][step], found[step])
    assert not set(drawn.flatten().tolist()) & set(
        dropout_run(gpipe(4, 3), seed=1)[1].flatten().tolist()
    )


def test_all_seeds_differ():
    # Python's hash of -1 is that of -2
    seeds = [seed_for(seed, step, 0, 0) for seed in range(-50, 50) for step in range(3)]
    assert len(set(seeds)) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)


@IN_PROCESS
@pytest.mark.parametrize(
    ("layer", "rank", "words"),
    [
        (Grow(), 1, r"1SEND_F1: \(2, 6\) torch.float32, but the last one from 2 rows was \(2, 7\)"),
        (Return("detached"), 1, "no gradient reaches the input of stage 1: its output does not"),
        (Return("integers"), 1, "no gradient reaches the input of stage 1"),
        (
            Return("lock"),
            1,
            r"cannot be sent to another rank .* return tuples, named",
        ),
        (Return("keys"), 2, "keywords must be strings"),  # as in one process: its layer cannot
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(layer, rank, words):
    class Anything(nn.Module):
        def forward(self, *values):
            return sum((v.float().sum() for v in values), torch.zeros(())) + torch.zeros(2, 3)

    layers = [nn.Linear(8, 8), layer, Anything()]
    with (
        Pipeline(layers, gpipe(3, 3), loss=cross_entropy, timeout=10) as pipeline,
        pytest.raises(RankError, match=words) as caught,
    ):
        pipeline.step(torch.randn(6, 8), torch.randint(3, (6,)))
    assert caught.value.rank == rank


class Trim(nn.Module):
    """(rows, tokens, 8): leaves out the tokens that are 0 in all rows that it sees."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x[:, : int((x != 0).any(2).sum(1).max())])


class Average(nn.Module):
    def forward(self, x):
        return x.mean(1)


@pytest.mark.parametrize("worker", ["pipelab", "torch"])
def test_a_shape_that_depends_on_values_stays_in_its_stage_or_is_refused(worker):
    # on torch's worker the next rank once died by signal 6
    layers, y = [nn.Tanh(), Trim(), Average(), nn.Linear(8, 8)], batch(8)[1]
    x = torch.randn(8, 6, 8)
    x[:4, 4:] = 0.0
    together = [nn.Sequential(*layers[:3]), layers[3]]
    with Pipeline(together, gpipe(2, 2), loss=cross_entropy, worker=worker) as pipeline:
        loss = pipeline.step(x, y).loss
    assert loss == plain_loop(nn.Sequential(*layers), x, y, 2)
    apart = [nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])]
    if worker == "pipelab":  # shared memory carries any shape
        with Pipeline(apart, gpipe(2, 2), loss=cross_entropy) as pipeline:
            assert pipeline.step(x, y).loss == loss
        return
    words = r"\(4, 6, 8\) .* the last one from 4 rows was \(4, 4, 8\)(.*\n)+.* into stage 0"
    with (
        Pipeline(apart, gpipe(2, 2), loss=cross_entropy, worker=worker) as pipeline,
        pytest.raises(RankError, match=words) as caught,
    ):
        pipeline.step(x, y)
    assert (caught.value.rank, caught.value.stage, caught.value.microbatch) == (0, 0, 1)


@IN_PROCESS
def test_batches_that_differ_in_what_is_none_or_how_it_is_called():
    # two batches with tensors of one shape, in other places, were once refused as a changed shape
    layers, (x, y) = [Either(), Whichever(), nn.Linear(8, 8)], batch(6)
    with Pipeline(layers, gpipe(3, 2), loss=cross_entropy) as pipeline:
        for inputs in ({"a": x}, {"b": x}, (x, None), (None, x), (x,), {"b": x}):
            pair = (*inputs, None)[:2] if isinstance(inputs, tuple) else map(inputs.get, "ab")
            loss = cross_entropy(layers[2](layers[1](**layers[0](*pair))), y).item()
            assert pipeline.step(inputs, y).loss == pytest.approx(loss, rel=1e-6)

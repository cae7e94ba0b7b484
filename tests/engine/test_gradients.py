"""The gradient rule: the mean loss over all rows, scaled once, equal to one process bit for bit."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, verify_gradients
from pipelab.models import mlp, next_byte_loss, tiny_gpt
from pipelab.schedules import Schedule, gpipe, one_f_one_b, sequential
from pipelab.schedules.catalogue import BUILDERS, build

IN_PROCESS = pytest.mark.usefixtures("in_process")  # what follows CASES is about arithmetic
SGD = partial(torch.optim.SGD, lr=0.5)


def batch(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 16, generator=generator)
    return x, torch.randint(10, (rows,), generator=generator)


def plain_loop(model, x, y, m):
    """What any user would write for one process: no code of pipelab's in it."""
    total = 0.0
    for inputs, targets in zip(x.tensor_split(m), y.tensor_split(m), strict=True):
        loss = cross_entropy(model(inputs), targets) * (len(inputs) / len(x))
        loss.backward()
        total += loss.item()
    return total


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return mlp(depth=9)


@pytest.fixture(scope="module")
def open_for(model):
    """An open pipeline that follows a schedule: one for each placement of stages, then reused."""
    pipelines = {}

    def follow(schedule):
        stages = tuple(schedule.stages_of(rank) for rank in range(schedule.num_ranks))
        if stages not in pipelines:
            pipelines[stages] = Pipeline(model, schedule, loss=cross_entropy)
        pipelines[stages].use(schedule)
        return pipelines[stages]

    yield follow
    for pipeline in pipelines.values():
        pipeline.close()


# (schedule, ranks, microbatches, rows): all that we build, and the two best known once more.
KNOWN = ("gpipe", "1f1b")
OTHERS = [name for name in BUILDERS if name not in KNOWN]
CASES = [
    *((*case, 1, 8) for case in product(KNOWN, (1, 2, 4))),
    *((*case, 3, rows) for case in product(KNOWN, (1, 2, 4)) for rows in (12, 13)),
    *((*case, 8, rows) for case in product(KNOWN, (1, 2, 4)) for rows in (16, 21)),
    *(
        (*case, m, rows)
        for case in product(OTHERS, (2, 4))
        for m, rows in ((1, 4), (3, 13), (8, 21))
        if m >= BUILDERS[case[0]].fewest(case[1])
    ),
]


@pytest.mark.parametrize(("name", "p", "m", "rows"), CASES)
def test_gradients_equal_one_process_and_the_whole_batch(name, p, m, rows, model, open_for):
    x, y = batch(rows)
    pipeline = open_for(build(name, p, m))
    result, ours = pipeline.step(x, y), pipeline.gradients()
    model.zero_grad()
    total = plain_loop(model, x, y, m)
    assert type(result.loss) is float
    assert result.loss == total
    assert list(ours) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert torch.equal(ours[name], parameter.grad), name
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        error = (ours[name] - parameter.grad).norm() / parameter.grad.norm()
        assert error < 1e-6, name


@IN_PROCESS
@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
def test_three_sgd_steps_end_in_the_same_parameters(build):
    torch.manual_seed(0)
    model, m = mlp(depth=6), 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Pipeline(model, build(4, m), loss=cross_entropy, optimizer=SGD) as pipeline:
        losses = [pipeline.step(*batch(13, seed)).loss for seed in range(3)]
        ours = pipeline.state_dict()
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())  # ours to keep
    optimizer = SGD(model.parameters())
    for seed in range(3):
        optimizer.zero_grad()
        assert plain_loop(model, *batch(13, seed), m) == losses[seed]
        optimizer.step()
    assert list(ours) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(ours[name], value), name


@IN_PROCESS
def test_tiny_gpt_on_bytes_with_integer_inputs():
    torch.manual_seed(0)
    model = tiny_gpt(width=16, blocks=2, heads=2, context=8)
    tokens = torch.randint(256, (9, 9))
    report = verify_gradients(
        model, one_f_one_b(4, 4), tokens[:, :-1], tokens[:, 1:], next_byte_loss
    )
    assert report.ok
    assert all(row.exact for row in report.parameters), str(report)
    assert len(report.parameters) == len(list(model.parameters()))


@IN_PROCESS
def test_two_stages_on_one_rank_hand_over_without_messages():
    looped = Schedule.from_tokens(
        [
            ["0F0", "0F1", "2F0", "2F1", "2B0", "2B1", "0B0", "0B1"],
            ["1F0", "1F1", "3F0", "3F1", "3B0", "3B1", "1B0", "1B1"],
        ]
    )
    vee = Schedule.from_tokens(
        [
            ["0F0", "0F1", "3F0", "3B0", "3F1", "3B1", "0B0", "0B1"],
            ["1F0", "2F0", "1F1", "2F1", "2B0", "1B0", "2B1", "1B1"],
        ]
    )
    for schedule in (looped, vee):
        report = verify_gradients(mlp(depth=6), schedule, *batch(7), cross_entropy)
        assert all(row.exact for row in report.parameters), str(report)


@IN_PROCESS
def test_backwards_out_of_order_are_close():
    crossed = Schedule.from_tokens([["0F0", "0F1", "0B1", "0B0"], ["1F0", "1F1", "1B1", "1B0"]])
    assert verify_gradients(mlp(depth=4), crossed, *batch(7), cross_entropy).ok


@IN_PROCESS
def test_a_wrong_gradient_is_not_ok():
    # the report itself must be able to fail: a loss that adds up, and hides it from the trials
    def summed(output, target):
        return cross_entropy(output, target) * (len(output) if torch.is_grad_enabled() else 1)

    model, (x, y) = mlp(depth=4), batch(12)
    with Pipeline(model, gpipe(2, 3), loss=summed) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    cross_entropy(model(x), y).backward()
    ratio = ours["0.0.weight"].norm() / model[0][0].weight.grad.norm()
    assert ratio == pytest.approx(4, rel=1e-4)  # rows of a microbatch: never hidden
    from pipelab.engine.verify.gradient_report import GradientReport, _compare

    row = _compare("w", ours["0.0.weight"], model[0][0].weight.grad)
    assert not row.close
    assert not GradientReport((row,), 1.0, 1.0).ok
    assert not GradientReport((), 1.0, 1.0).ok
    assert not GradientReport((_compare("w", None, ours["0.0.weight"]),), 1.0, 1.0).ok


@IN_PROCESS
def test_in_place_layers_frozen_layers_and_layers_without_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 10),
    )
    model[2].requires_grad_(False)
    x, y = batch(9)
    report = verify_gradients(model, one_f_one_b(5, 2), x, y, cross_entropy)
    assert report.ok, str(report)
    with Pipeline(model, one_f_one_b(5, 2), loss=cross_entropy, optimizer=SGD) as pipeline:
        pipeline.step(x, y)
        after = pipeline.state_dict()
        assert "2.weight" not in pipeline.gradients()
    assert torch.equal(after["2.weight"], model[2].weight)
    assert not torch.equal(after["0.weight"], model[0].weight)


@IN_PROCESS
def test_two_steps_do_not_add_up_and_evaluation_leaves_gradients_alone():
    model, (x, y) = mlp(depth=4), batch(12)
    with Pipeline(model, one_f_one_b(2, 3), loss=cross_entropy) as pipeline:
        pipeline.step(x, y)
        first = pipeline.gradients()
        loss = pipeline.evaluate(x, y)
        pipeline.step(x, y)
        second = pipeline.gradients()
        prediction = pipeline.predict(x[:2])  # fewer rows than microbatches
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        assert loss == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-6)
        assert torch.allclose(prediction, model(x[:2]), rtol=1e-6, atol=1e-6)


@IN_PROCESS
def test_batches_of_changing_shape_and_size():
    model = nn.Sequential(*(nn.Tanh() for _ in range(3)), nn.Linear(4, 2))
    mse = nn.functional.mse_loss
    with Pipeline(model, one_f_one_b(3, 2), loss=mse) as pipeline:
        for shape in ((5, 4), (5, 4), (8, 4), (4, 3, 4), (6, 4), (5, 4)):
            x, y = torch.randn(shape), torch.randn(*shape[:-1], 2)
            got = pipeline.step(x, y).loss
            assert got == pytest.approx(mse(model(x), y).item(), rel=1e-5)


def test_other_schedules_without_relaunch():
    model, (x, y) = mlp(depth=6), batch(12)
    with Pipeline(model, gpipe(4, 3), loss=cross_entropy) as pipeline:
        before, pids = pipeline.step(x, y), pipeline.pids
        for schedule in (one_f_one_b(4, 3), sequential(4, 3)):
            pipeline.use(schedule)
            assert pipeline.step(x, y).loss == before.loss
        pipeline.use(one_f_one_b(4, 6))
        result = pipeline.step(x, y)
        assert pipeline.pids == pids
    assert result.trace.setting.microbatches == 6
    assert result.loss == pytest.approx(before.loss, rel=1e-6)


@IN_PROCESS
def test_eval_mode_is_put_back_and_batchnorm_counts_each_microbatch_once():
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with Pipeline(model, one_f_one_b(3, 4), loss=cross_entropy) as pipeline:
        pipeline.step(*batch(12))
        pipeline.evaluate(*batch(12))
        assert pipeline.state_dict()["1.num_batches_tracked"] == 4
        pipeline.step(*batch(12))
        assert pipeline.state_dict()["1.num_batches_tracked"] == 8
        assert torch.isfinite(pipeline.state_dict()["1.running_mean"]).all()


@IN_PROCESS
def test_one_layer_object_used_twice_runs_twice():
    act = nn.Tanh()
    model = nn.Sequential(nn.Linear(16, 16), act, nn.Linear(16, 10), act)
    x, y = batch(8)
    assert verify_gradients(model, gpipe(4, 2), x, y, cross_entropy).ok


@IN_PROCESS
def test_halved_backwards_of_a_transformer_with_frozen_and_shared_weights():
    torch.manual_seed(0)
    model = tiny_gpt(width=16, blocks=4, heads=2, context=8)
    model[1].qkv.requires_grad_(False)
    model[3].norm_1.weight = model[3].norm_2.weight  # one tensor, used twice in one stage
    tokens = torch.randint(256, (9, 9))
    schedule = build("zero_bubble_h1", 3, 4)
    report = verify_gradients(model, schedule, tokens[:, :-1], tokens[:, 1:], next_byte_loss)
    assert report.ok, str(report)
    assert all(row.exact for row in report.parameters), str(report)


@IN_PROCESS
def test_a_first_layer_that_works_in_place_changes_one_microbatch():
    # microbatches are views of one batch, and counted changes together: autograd refused B1
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(16, 16), nn.Linear(16, 10))
    x, y = batch(8)
    before = x.clone()
    report = verify_gradients(model, gpipe(2, 4), x, y, cross_entropy)
    assert all(row.exact for row in report.parameters), str(report)
    assert torch.equal(x, before)  # the learner's own

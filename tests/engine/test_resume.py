"""A saved training continues bit for bit: any optimizer, any schedule of rates, by name."""

from collections import Counter
from functools import partial

import numpy
import pytest
import torch
from torch import nn, optim
from torch.nn.functional import mse_loss
from torch.optim import lr_scheduler as rates
from torch.optim.swa_utils import SWALR

from pipelab.engine import Pipeline
from pipelab.errors import CheckpointError
from pipelab.schedules import gpipe
from tests.engine.one_process import assert_same

pytestmark = pytest.mark.usefixtures("in_process")

OPTIMIZERS = sorted(
    name
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and name not in ("Optimizer", "LBFGS", "SparseAdam")
)
MOMENTUM = partial(optim.SGD, lr=0.05, momentum=0.9)


def linears(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(4)))


def uneven(seed=0):
    """Stages of these have weights alone, or weights and biases, or two of each."""
    torch.manual_seed(seed)
    plain = [nn.Linear(8, 8, bias=False) for _ in range(2)]
    return nn.Sequential(*plain, nn.Linear(8, 8), nn.LayerNorm(8))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 8, generator=generator), torch.randn(12, 8, generator=generator)


def train(pipeline, seeds, accumulate=False):
    for seed in seeds:
        if accumulate:
            pipeline.step(*batch(seed + 100), update=False)
        yield pipeline.step(*batch(seed)).loss


def check_resumes(folder, model, p=2, then=2, accumulate=False, data=batch, **options):
    """Three steps, saved; three more are the same here and in a pipeline that loads them."""
    options = {"loss": mse_loss} | options
    with Pipeline(model(), gpipe(p, 3), **options) as pipeline:
        list(train(pipeline, range(3), accumulate))
        pipeline.save(folder)
        losses = list(train(pipeline, range(3, 6), accumulate))
        after = pipeline.state_dict()
    with Pipeline(model(seed=1), gpipe(then, 3), **options) as pipeline:
        list(train(pipeline, range(9, 11), accumulate))  # a past that load forgets
        pipeline.load(folder)
        assert list(train(pipeline, range(3, 6), accumulate)) == losses
        assert_same(pipeline.state_dict(), after)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torchs(tmp_path, name):
    optimizer = partial(getattr(optim, name), lr=0.01)
    check_resumes(tmp_path, linears, optimizer=optimizer)
    options = {"replicas": 2, "autocast": torch.float16, "clip_norm": 0.1, "accumulate": True}
    check_resumes(tmp_path, linears, then=4, optimizer=optimizer, **options)


def decay(parameters):
    """A group that decays and one that does not; an empty one is left out."""
    groups = [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0, "lr": 0.03},
    ]
    return optim.AdamW([group for group in groups if group["params"]], lr=0.01)


class Own(rates.LRScheduler):
    """A learner's: one list for all groups, one entry a group, a function, and a count."""

    def __init__(self, optimizer):
        self.factors = [0.5 + group["weight_decay"] for group in optimizer.param_groups]
        self.rule, self.seen = (lambda factor: factor**0.1), Counter()
        self.warm_up = [0.1, 0.2, 0.3, 0.4]
        super().__init__(optimizer)

    def get_lr(self):
        self.seen[self.last_epoch % 2] += 1
        return [
            group["lr"] * self.rule(factor) - 1e-5 * self.seen[1]
            for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True)
        ]


RATES = {
    "LambdaLR": partial(rates.LambdaLR, lr_lambda=lambda step: 0.9**step),
    "MultiplicativeLR": partial(rates.MultiplicativeLR, lr_lambda=lambda step: 0.9),
    "StepLR": partial(rates.StepLR, step_size=2),
    "MultiStepLR": partial(rates.MultiStepLR, milestones=list(numpy.arange(2, 6, 2))),
    "ConstantLR": partial(rates.ConstantLR, total_iters=4),
    "LinearLR": partial(rates.LinearLR, total_iters=5),
    "ExponentialLR": partial(rates.ExponentialLR, gamma=numpy.float64(0.9)),
    "PolynomialLR": partial(rates.PolynomialLR, total_iters=9, power=2),
    "CosineAnnealingLR": partial(rates.CosineAnnealingLR, T_max=5),
    "CosineAnnealingWarmRestarts": partial(rates.CosineAnnealingWarmRestarts, T_0=3),
    "CyclicLR": partial(rates.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=2),
    "OneCycleLR": partial(rates.OneCycleLR, max_lr=0.1, total_steps=20),
    "ReduceLROnPlateau": partial(rates.ReduceLROnPlateau, patience=0, threshold=0.5),
    "SequentialLR": lambda x: rates.SequentialLR(
        x, [rates.LinearLR(x, total_iters=2), rates.MultiStepLR(x, [1, 3])], [3]
    ),
    "ChainedScheduler": lambda x: rates.ChainedScheduler(
        [rates.LinearLR(x, total_iters=2), rates.ExponentialLR(x, 0.9)]
    ),
    "SWALR": partial(SWALR, swa_lr=0.01, anneal_epochs=4),
    "a learner's": Own,
}


def test_every_schedule_of_torchs_is_tried():
    ours = {"LRScheduler", "_LRScheduler"}
    kinds = {k for k, x in vars(rates).items() if isinstance(x, type) and hasattr(x, "get_last_lr")}
    assert kinds - ours <= RATES.keys()


@pytest.mark.parametrize("name", RATES)
def test_every_schedule_of_rates_with_groups_that_differ_by_stage(tmp_path, name):
    for then in (2, 1):
        check_resumes(tmp_path, uneven, then=then, optimizer=decay, lr_schedule=RATES[name])


@pytest.mark.parametrize(("p", "then"), [(2, 2), (2, 1), (2, 4), (4, 2), (1, 4)])
def test_settings_go_by_name(tmp_path, p, then):
    # all got stage 0's, or died in zip()
    def by_layer(parameters, names):
        groups = [
            {"params": [x], "lr": 0.1 / (1 + int(name.partition(".")[0]))}
            for x, name in zip(parameters, names, strict=True)
        ]
        return optim.SGD(groups, momentum=0.9)

    for optimizer in (decay, by_layer):
        check_resumes(tmp_path, uneven, p=p, then=then, optimizer=optimizer)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["optimizer"]
    found = {
        group["names"][0]: group["settings"]["lr"]
        for stage in saved.values()
        for group in stage["groups"]
    }
    assert found == {
        "0.weight": 0.1, "1.weight": 0.05, "2.weight": 0.1 / 3, "2.bias": 0.1 / 3,
        "3.weight": 0.025, "3.bias": 0.025,
    }  # fmt: skip


def test_stages_may_have_other_optimizers(tmp_path):
    def mixed(parameters, names):
        kind = optim.Adagrad if "0.weight" in names else optim.AdamW
        return kind(parameters, lr=0.01)

    check_resumes(tmp_path, linears, then=2, optimizer=mixed)
    with (
        Pipeline(linears(), gpipe(1, 3), loss=mse_loss, optimizer=mixed) as pipeline,
        pytest.raises(CheckpointError, match=r"trained with AdamW, this pipeline .* with Adagrad"),
    ):
        pipeline.load(tmp_path)


def by_stage(parameters, names):
    """One group a stage, so that another cut has parameters with several settings in one group."""
    return optim.SGD(zip(names, parameters, strict=True), lr=0.1 if "0.weight" in names else 0.03)


@pytest.mark.parametrize("name", [None, *(name for name in RATES if RATES[name] is not Own)])
def test_a_group_whose_parameters_had_other_settings_becomes_several(tmp_path, name):
    lr_schedule = RATES.get(name)
    for p, then in ((2, 1), (4, 2)):
        check_resumes(tmp_path, linears, p, then, optimizer=by_stage, lr_schedule=lr_schedule)
    check_resumes(tmp_path, uneven, p=2, then=1, optimizer=by_stage, lr_schedule=lr_schedule)


def test_a_learners_list_that_may_be_for_each_group_is_refused_then(tmp_path):
    options = {"loss": mse_loss, "optimizer": by_stage, "lr_schedule": Own}
    with Pipeline(linears(), gpipe(2, 3), **options) as pipeline:
        pipeline.save(tmp_path)
    with (
        Pipeline(linears(), gpipe(1, 3), **options) as pipeline,
        pytest.raises(CheckpointError, match=r"nothing says whether the lr_schedule's factors has"),
    ):
        pipeline.load(tmp_path)


def test_such_groups_are_saved_and_loaded_in_turn(tmp_path):
    options = {"loss": mse_loss, "optimizer": by_stage}
    with Pipeline(linears(), gpipe(2, 3), **options) as pipeline:
        list(train(pipeline, range(3)))
        pipeline.save(tmp_path / "two")
        losses = list(train(pipeline, range(3, 9)))
    with Pipeline(linears(1), gpipe(1, 3), **options) as pipeline:
        pipeline.load(tmp_path / "two")
        found = list(train(pipeline, range(3, 6)))
        pipeline.save(tmp_path / "one")
        pipeline.load(tmp_path / "one")
        found += list(train(pipeline, range(6, 8)))
        pipeline.save(tmp_path / "one")
    with Pipeline(linears(1), gpipe(2, 3), **options) as pipeline:
        pipeline.load(tmp_path / "one")
        assert [*found, *train(pipeline, [8])] == losses


def test_another_schedule_of_rates_is_refused_and_the_pipeline_stays(tmp_path):
    step, exponential = RATES["StepLR"], RATES["ExponentialLR"]
    options = {"loss": mse_loss, "optimizer": MOMENTUM}
    with Pipeline(linears(), gpipe(2, 3), lr_schedule=step, **options) as pipeline:
        pipeline.save(tmp_path)
    with Pipeline(linears(), gpipe(2, 3), lr_schedule=exponential, **options) as pipeline:
        with pytest.raises(CheckpointError, match=r"with lr_schedule StepLR, .* ExponentialLR"):
            pipeline.load(tmp_path)
        assert pipeline.step(*batch(0)).loss > 0


class Counts(optim.SGD):
    """Keeps a count for no parameter, and whatever it is given."""

    def __init__(self, parameters, extra=None):
        super().__init__(parameters, lr=0.01, momentum=0.9)
        self.state["all"]["count"] = 0
        self.param_groups[0]["extra"] = extra

    @torch.no_grad()
    def step(self, closure=None):
        self.state["all"]["count"] += 1
        self.param_groups[0]["lr"] /= self.state["all"]["count"]
        return super().step(closure)


class OfItsOwn(Counts):
    def state_dict(self):
        return super().state_dict() | {"slow": 1}


def test_state_of_no_parameter_is_kept_and_what_a_file_cannot_hold_is_refused(tmp_path):
    check_resumes(tmp_path, linears, then=2, optimizer=Counts)
    check_resumes(tmp_path, linears, then=1, optimizer=Counts)
    check_resumes(tmp_path, linears, optimizer=partial(Counts, extra=max))  # made anew
    for bad, words in (
        (partial(Counts, extra=numpy.float32(1)), r"\['settings'\]\['extra'\].* is a float32"),
        (OfItsOwn, r"\['slow'\] of its optimizer is kept outside of its state"),
    ):
        with Pipeline(linears(), gpipe(2, 3), loss=mse_loss, optimizer=bad) as pipeline:
            pipeline.step(*batch(0))
            with pytest.raises(CheckpointError, match=words):
                pipeline.save(tmp_path / "bad")
            assert pipeline.step(*batch(0)).loss > 0
    assert not (tmp_path / "bad").exists()


def as_version_1(path):
    """What pipelab 0.1.0 wrote: groups without names, states beside them, names by stage."""
    data = torch.load(path, weights_only=True)
    old, places = {}, {}
    for stage, state in data["optimizer"].items():
        groups = [group["settings"] for group in state["groups"]]
        old[stage] = {"kind": state["kind"], "groups": groups}
        if "lr_schedule" in state:
            old[stage]["lr_schedule"] = state["lr_schedule"]["state"]
        places |= {name: stage[-1] for group in state["groups"] for name in group["names"]}
        old |= {f"{places[name]}.{name}": entry for name, entry in state["state"].items()}
    model = {f"{places[name]}.{name}": value for name, value in data["model"].items()}
    torch.save(data | {"version": 1, "model": model, "optimizer": old}, path)


def test_a_checkpoint_of_the_version_before_still_loads(tmp_path):
    def two_groups(parameters):
        return optim.AdamW(
            [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.01}]
        )

    for optimizer, lr_schedule in ((MOMENTUM, RATES["StepLR"]), (two_groups, None)):
        options = {"loss": mse_loss, "optimizer": optimizer, "lr_schedule": lr_schedule}
        with Pipeline(linears(), gpipe(2, 3), **options) as pipeline:
            list(train(pipeline, range(3)))
            path = pipeline.save(tmp_path)
            losses = list(train(pipeline, range(3, 6)))
        as_version_1(path)
        with Pipeline(linears(1), gpipe(2, 3), **options) as pipeline:
            pipeline.load(tmp_path)
            assert list(train(pipeline, range(3, 6))) == losses
    with Pipeline(uneven(), gpipe(2, 3), loss=mse_loss, optimizer=decay) as pipeline:
        pipeline.step(*batch(0))
        as_version_1(pipeline.save(tmp_path))
        with pytest.raises(CheckpointError, match=r"0\.1\.0 does not say which parameters"):
            pipeline.load(tmp_path)

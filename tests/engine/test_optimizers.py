"""Makers of optimizers and of rates: what they get, and what is refused before a process starts."""

import sys
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from pipelab.engine import Pipeline
from pipelab.engine.driver.optimizer_trial import tried
from pipelab.engine.protocol.commands import Options
from pipelab.errors import LossError, ModelError, OptimizerError, PipelabError, RankError
from pipelab.schedules import gpipe
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, gradients, linears, plain_loop

IN_PROCESS = pytest.mark.usefixtures("in_process")
SGD = partial(optim.SGD, lr=0.1)
STEPS = partial(StepLR, step_size=2)


@pytest.fixture
def no_start(monkeypatch):
    """Fails where a rank would start."""

    def start(*_):
        raise AssertionError("a process was started")

    monkeypatch.setattr("pipelab.engine.pipeline.start_ranks", start)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 8, generator=generator), torch.randn(12, 8, generator=generator)


def open_pipeline(model=None, schedule=None, **options):
    given = {"loss": mse_loss, "optimizer": SGD} | options
    return Pipeline(model or linears(), schedule or gpipe(2, 3), **given)


class NeedsClosure(optim.SGD):
    """Says so only when it steps, as sharpness-aware ones do."""

    def step(self, closure=None):
        assert closure is not None, "give it the model again"
        loss = closure()
        super().step()
        return loss


class WantsClosure(optim.SGD):
    def step(self, closure):
        return super().step(closure)


class WantsMore(optim.SGD):
    def step(self, number):
        return super().step()


class ByEpoch:
    """Its step() wants what it never gets."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, epoch):
        raise AssertionError

    state_dict = load_state_dict = step


class Bare:
    """Has a step, but nothing to save or to load."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        raise AssertionError


ELSEWHERE = nn.Linear(3, 3)
OTHER = optim.SGD(ELSEWHERE.parameters(), lr=0.1)


def str_of(value):
    """A test's id: without addresses, which differ between the workers that run tests."""
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (OTHER, r"optimizer= is an SGD that was made of this process's parameters"),
        ("adam", r"optimizer= is a str, 'adam':\ngive what makes one"),
        (0.1, r"optimizer= is a float, 0\.1"),
        ({"lr": 0.1}, r"optimizer= is a dict"),
        (partial(optim.SGD, lr=-1.0), r"failed for stage 0 \(0.weight, 0.bias and 2 more\):\nVal"),
        (partial(optim.SGD, rate=1.0), r"TypeError: .*unexpected keyword argument 'rate'"),
        (nn.Linear, r"TypeError: .*'out_features'"),
        (lambda parameters: None, r"made nothing \(None\) for stage 0 .*\nand no optimizer"),
        (lambda parameters: optim.SGD, r"made the class SGD for stage 0"),
        (lambda parameters: [SGD(parameters)], r"made a list for stage 0"),
        (lambda parameters: nn.Linear(2, 2), r"made a Linear for stage 0"),
        (lambda parameters: OTHER, r"2 of its parameters are not this stage's \(one of shape \(3,"),
        (lambda parameters: SGD([*parameters, ELSEWHERE.bias]), r"and 1 of its parameters are not"),
        (lambda parameters: SGD([x for x in parameters if x.dim() > 2]), r"a group may be empty"),
        (lambda parameters: SGD([{"params": []}]), r"without a parameter for each of 2 stages"),
        (optim.LBFGS, r"LBFGS, for stage 0 .*\nwants a closure that runs the model again"),
        (WantsClosure, r"WantsClosure, for stage 0 .*\nwants a closure"),
        (NeedsClosure, r"NeedsClosure, for stage 0 .*\nwants a closure"),
        (WantsMore, r"WantsMore, for stage 0 .*\nhas a step\(\) that wants number: here it is"),
        (optim.SparseAdam, r"SparseAdam, for stage 0 .*\ncannot step:\n.* dense gradients"),
        (partial(optim.Adam, capturable=True), r"Adam, .*\ncannot step:\n.*capturable=True"),
        (partial(optim.SGD, differentiable=True), r"SGD, .*\ncannot step:\n.*in-place"),
        (partial(optim.Adam, lr=torch.tensor(0.1), foreach=True), r"ValueError: lr as a Tensor"),
    ],
    ids=str_of,
)
def test_an_optimizer_that_cannot_train_is_refused(optimizer, words):
    with pytest.raises(OptimizerError, match=words) as caught:
        open_pipeline(optimizer=optimizer)
    assert max(map(len, str(caught.value).splitlines())) <= 95


@pytest.mark.usefixtures("no_start")
def test_parameters_of_another_stage_are_named():
    model = linears()
    with pytest.raises(ModelError, match=r"the optimizer refers to 0\.weight, a weight of the"):
        open_pipeline(model, optimizer=lambda _: SGD(model.parameters()))


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    ("lr_schedule", "words"),
    [
        ("cosine", r"lr_schedule= is a str, 'cosine'"),
        (StepLR(OTHER, 2), r"lr_schedule= is a StepLR of one optimizer"),
        (ReduceLROnPlateau(OTHER), r"lr_schedule= is a ReduceLROnPlateau of one optimizer"),
        (StepLR, r"failed for stage 0's SGD:\nTypeError: .*'step_size'"),
        (lambda optimizer: None, r"made nothing \(None\) for stage 0's SGD"),
        (lambda optimizer: StepLR, r"made the class StepLR for stage 0's SGD"),
        (lambda optimizer: StepLR(OTHER, 2), r"made a StepLR of another optimizer"),
        (ByEpoch, r"step\(\) of the ByEpoch for stage 0's SGD wants epoch:"),
        (Bare, r"made a Bare for stage 0's SGD"),
    ],
    ids=str_of,
)
def test_a_schedule_of_rates_that_cannot_work_is_refused(lr_schedule, words):
    with pytest.raises(OptimizerError, match=words):
        open_pipeline(lr_schedule=lr_schedule)


@pytest.mark.usefixtures("no_start")
def test_rates_of_no_optimizer_are_refused():
    with pytest.raises(OptimizerError, match="there is none:\ngive optimizer= too"):
        open_pipeline(optimizer=None, lr_schedule=STEPS)


class Square(torch.autograd.Function):
    """A loss that is called by its class's apply."""


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (nn.MSELoss, r"the loss is the class MSELoss, .* give MSELoss\(\)"),
        (partial(nn.CrossEntropyLoss, label_smoothing=0.1), r"class CrossEntropyLoss, .*Loss\(\)"),
        (Square, r"give Square\.apply"),
        ("mse", "the loss is a str"),
        (None, "the loss is a NoneType"),
    ],
    ids=str_of,
)
def test_a_class_is_no_loss(loss, words):
    with pytest.raises(LossError, match=words):
        open_pipeline(loss=loss)


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    "option",
    [
        {"seed": None}, {"seed": 1.5}, {"seed": "0"}, {"replicas": "2"}, {"replicas": 1.5},
        {"clip_norm": "1"}, {"clip_norm": True}, {"autocast": "bfloat16"},
        {"autocast": torch.float32}, {"autocast": True}, {"timeout": "30"}, {"timeout": None},
        {"idle_timeout": "1"}, {"count": 3}, {"reduction": "avg"}, {"reduction": None},
        {"memory_budget": "1G"}, {"checkpoint": "all"}, {"checkpoint": 1},
        {"checkpoint": [0.5]}, {"pace": 0.01},
    ],
    ids=str_of,
)  # fmt: skip
def test_an_option_of_another_kind_is_refused(option):
    (name,) = option
    with pytest.raises(PipelabError, match=rf"^{name}=.*: give "):
        open_pipeline(**option)


@IN_PROCESS
def test_a_maker_may_ask_for_names_and_leave_parameters_out():
    seen = []

    def weights_alone(parameters, names):
        seen.append(names)
        return SGD([x for x, name in zip(parameters, names, strict=True) if "weight" in name])

    model, (x, y) = linears(), batch()
    with open_pipeline(model, optimizer=weights_alone) as pipeline:
        assert seen[:2] == [
            ["0.weight", "0.bias", "1.weight", "1.bias"],
            ["2.weight", "2.bias", "3.weight", "3.bias"],
        ]
        pipeline.step(x, y)
        ours = pipeline.state_dict()
    plain_loop(model, x, y, 3, mse_loss)
    SGD([p for name, p in model.named_parameters() if "weight" in name]).step()
    assert_same(ours, model.state_dict())


@IN_PROCESS
def test_a_maker_that_knows_parameters_by_themselves_is_refused():
    # a rank's copies are others
    model = linears()
    with pytest.raises(ModelError, match=r"(?s)optimizer refers to .*Use what it is called with"):
        open_pipeline(model, optimizer=lambda own: SGD([p for p in own if p is not model[1].bias]))


@IN_PROCESS
def test_a_maker_that_knows_parameters_by_id_is_refused():
    # a rank's copies have other ids: all parameters decayed, and nobody said so
    model = linears()
    biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}

    def groups(own):
        ours = [p for p in own if id(p) in biases]
        return [{"params": ours, "lr": 0.5}, {"params": [p for p in own if id(p) not in biases]}]

    with pytest.raises(RankError, match=r"lr=0\.1 here and lr=0\.5 there\.(?s:.*)not by id"):
        open_pipeline(model, optimizer=lambda own: SGD(groups(own)))
    with pytest.raises(RankError, match=r"has 0\.bias only here\."):
        open_pipeline(model, optimizer=lambda own: SGD([p for p in own if id(p) not in biases]))
    with pytest.raises(RankError, match=r"has 0\.bias there alone\."):
        open_pipeline(model, optimizer=lambda own: SGD(groups(own)[:1]))


@IN_PROCESS
@pytest.mark.parametrize("maker", ["default", "keyword", "bound", "callable"])
def test_names_may_be_asked_for_in_any_kind_of_maker(maker):
    class Maker:
        def __call__(self, parameters, names):
            return with_default(parameters, names)

    def with_default(parameters, names=None):
        assert names is not None and len(names) == len(parameters)
        return SGD(parameters)

    makers = {
        "default": with_default,
        "keyword": lambda parameters, *, names: with_default(parameters, names),
        "bound": partial(with_default, names=range(4)),  # the learner's own
        "callable": Maker(),
    }
    with open_pipeline(optimizer=makers[maker]) as pipeline:
        assert pipeline.step(*batch()).loss > 0


@IN_PROCESS
def test_a_frozen_stage_needs_no_optimizer(tmp_path):
    model = linears()
    model[2:].requires_grad_(False)
    trained = lambda own: SGD([p for p in own if p.requires_grad])  # noqa: E731
    with open_pipeline(model, optimizer=trained, lr_schedule=STEPS, clip_norm=1.0) as pipeline:
        pipeline.step(*batch())
        pipeline.save(tmp_path)
        loss = pipeline.step(*batch()).loss
    with open_pipeline(model, gpipe(4, 3), optimizer=trained, lr_schedule=STEPS) as pipeline:
        pipeline.load(tmp_path)
        assert pipeline.step(*batch()).loss == loss


@IN_PROCESS
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_v"])
def test_a_plateau_sees_the_loss_of_each_step(replicas, name, tmp_path):
    """The step's mean loss, the same float on all ranks: one process would do the same."""
    plateau = partial(ReduceLROnPlateau, patience=0, threshold=0.02, factor=0.5)
    model, p, m = linears(), 2, 2
    options = {"optimizer": SGD, "lr_schedule": plateau, "replicas": replicas}
    with open_pipeline(model, build(name, p, m), **options) as pipeline:
        losses = [pipeline.step(*batch(seed)).loss for seed in range(6)]
        pipeline.save(tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["optimizer"]
    optimizer = SGD(model.parameters())
    rates = plateau(optimizer)
    for seed, loss in enumerate(losses):
        optimizer.zero_grad()
        plain = plain_loop(model, *batch(seed), m * replicas, mse_loss)
        assert plain == pytest.approx(loss, rel=1e-5)
        optimizer.step()
        rates.step(loss)
    expected = rates.state_dict()
    assert optimizer.param_groups[0]["lr"] < 0.1
    for state in saved.values():
        assert state["lr_schedule"] == {"kind": "ReduceLROnPlateau", "state": expected}
        assert state["groups"][0]["settings"]["lr"] == optimizer.param_groups[0]["lr"]


@IN_PROCESS
def test_a_plateau_with_everything_else(tmp_path):
    """fp16's scale, clipping and steps without an update; a stage without parameters too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    options = {"autocast": torch.float16, "clip_norm": 1.0, "replicas": 2}
    plateau = partial(ReduceLROnPlateau, patience=0, threshold=0.9)
    with open_pipeline(model, gpipe(3, 2), lr_schedule=plateau, **options) as pipeline:
        for seed in range(3):
            pipeline.step(*batch(seed), update=False)
            last = pipeline.step(*batch(seed + 3))
        path = pipeline.save(tmp_path)
    for stage in ("stage 0", "stage 2"):
        state = torch.load(path, weights_only=True)["optimizer"][stage]
        assert state["lr_schedule"]["state"]["last_epoch"] == 3
        assert state["groups"][0]["settings"]["lr"] == pytest.approx(0.001)
    assert last.loss > 0


def rows(words=30):
    generator = torch.Generator().manual_seed(3)
    table = torch.randint(9, (words,), generator=generator)
    return table, torch.randn(words, 8, generator=generator)


@IN_PROCESS
@pytest.mark.parametrize("replicas", [1, 2])
def test_sparse_gradients_stay_sparse(replicas):
    # over replicas they came back dense: SparseAdam failed, and Adam, which wants dense ones, ran
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Embedding(9, 8, sparse=True), nn.Linear(8, 8)), rows()

    def mixed(parameters, names):
        return (optim.SparseAdam if "0.weight" in names else optim.Adam)(parameters, lr=0.01)

    with open_pipeline(model, gpipe(2, 3), optimizer=mixed, replicas=replicas) as pipeline:
        pipeline.step(x, y)
        ours, after = pipeline.gradients(), pipeline.state_dict()
    plain_loop(model, x, y, 3 * replicas, mse_loss)
    for name, gradient in gradients(model).items():
        assert torch.allclose(ours[name], gradient.to_dense(), rtol=1e-5, atol=1e-8), name
    for layer, kind in zip(model, (optim.SparseAdam, optim.Adam), strict=True):
        kind(layer.parameters(), lr=0.01).step()
    for name, value in model.state_dict().items():
        assert torch.allclose(after[name], value, rtol=1e-4, atol=1e-6), name


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop])
def test_sparse_gradients_for_an_optimizer_of_dense_ones_are_refused(kind):
    model = nn.Sequential(nn.Embedding(9, 8, sparse=True), nn.Linear(8, 8))
    with pytest.raises(OptimizerError) as caught:
        open_pipeline(model, optimizer=kind)
    assert "support sparse gradients" in str(caught.value)
    assert "Sparse gradients: 0.weight; dense ones: none" in str(caught.value)


def test_the_trial_loads_no_compiler(monkeypatch):
    """It takes a second to load; torch loads it to make an optimizer."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import fails
    function = optim.Optimizer.add_param_group.__wrapped__
    monkeypatch.delattr(function, "__dynamo_disable", raising=False)
    with pytest.raises(ImportError):
        optim.SGD([nn.Parameter(torch.ones(1))])
    assert tried(Options(mse_loss, optim.AdamW, STEPS), [nn.Linear(2, 2)]).lr_takes_loss is False
    assert not hasattr(function, "__dynamo_disable")  # others keep the compiler out, as before

"""Layers that are more than a class and its weights: as in one process, or refused by name."""

import multiprocessing
import re
import sys
import time
from collections import OrderedDict
from pathlib import Path

import cloudpickle
import pytest
import torch
import torch._dynamo
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from pipelab.engine import Pipeline, verify_gradients
from pipelab.engine.driver.compiled import compilation_named, compiled_parts
from pipelab.engine.protocol.commands import dumps
from pipelab.errors import ModelError, RankError, RankTimeout
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

M = 4


def linear():
    return nn.Linear(8, 8)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).t()


def parametrized_twice():
    layer = parametrizations.weight_norm(linear())
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", nn.Tanh())
    return layer


def pruned():
    return prune.l1_unstructured(linear(), "weight", 0.5)


class With(nn.Module):
    """A linear layer, and something that its forward uses."""

    def __init__(self, use, **buffers):
        super().__init__()
        self.linear, self.use = linear(), use
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        return self.use(self, self.linear(x))


def sparse(layout):
    def make():
        mixing = torch.eye(8).roll(1, 0).to_sparse(layout=layout)
        return With(lambda self, x: (self.mixing @ x.t()).t(), mixing=mixing)

    return make


def conjugate():
    return With(lambda self, x: (self.phase * x).real, phase=torch.full((8,), 1 + 2j).conj())


def negative():
    imaginary = torch.full((8,), 1 + 2j).conj().imag
    return With(lambda self, x: self.scale * x, scale=imaginary)


def halved_tanh(x):
    return torch.tanh(x) * 0.5


def scripted_function():
    layer = With(lambda self, x: self.held(x))
    layer.held = torch.jit.script(halved_tanh)
    return layer


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, x):
        y = torch.tanh(self.linear(x))
        if bool(y.sum() > 1000.0):
            y = y * 2
        return self.linear(y) * 0.5


def as_it_is(graph, inputs):
    return graph.forward


def double(x):
    return x.sin() * 2


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = linear()

    @torch.compile(backend=as_it_is)
    def forward(self, x):
        return self.linear(x).tanh()


def compiled_in_place():
    layer = Twice()
    layer.compile(backend=as_it_is)
    return layer


def frozen_script():
    layer = Twice()
    layer.linear.bias.requires_grad_(False)
    return torch.jit.script(layer)


LAYERS = {
    "weight_norm": lambda: parametrizations.weight_norm(linear()),
    "spectral_norm": lambda: parametrizations.spectral_norm(linear()),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "parametrized twice": parametrized_twice,
    "parametrized inside": lambda: nn.Sequential(parametrizations.weight_norm(linear()), nn.Tanh()),
    "weight_norm by hooks": lambda: weight_norm(linear()),
    "spectral_norm by hooks": lambda: spectral_norm(linear()),
    "pruned": pruned,
    "sparse": sparse(torch.sparse_coo),
    "csr": sparse(torch.sparse_csr),
    "conjugate": conjugate,
    "negative": negative,
    "scripted": lambda: torch.jit.script(Twice()),
    "script, partly frozen": frozen_script,
    "script inside": lambda: nn.Sequential(torch.jit.script(Twice()), nn.Tanh()),
    "scripted function": scripted_function,
    "traced": lambda: torch.jit.trace(linear(), torch.zeros(2, 8)),
    "compiled": lambda: torch.compile(Twice(), backend=as_it_is),
    "compiled in place": compiled_in_place,
    "compiled forward": Compiled,
    "compiled function": lambda: With(torch.compile(lambda self, x: double(x), backend=as_it_is)),
}


def model_of(what, stages):
    torch.manual_seed(0)
    layers = [linear() for _ in range(stages)]
    layers[stages // 2] = LAYERS[what]()
    return nn.Sequential(*layers)


class Turned(nn.Module):
    def forward(self, x):
        return {"x": x.mT.contiguous().mT, "all": x.sum().expand(2, 3)}


class Strides(nn.Module):
    """How products of matrices are rounded may depend on it."""

    def forward(self, value):
        x = value["x"]
        assert x.stride() == (24, 1, 3), x.stride()
        return x.flatten(1) + value["all"][0, 0]


@pytest.mark.parametrize("how", ["in_process", "own processes"])
def test_a_message_keeps_the_order_of_dimensions_in_memory(how, request):
    if how == "in_process":  # with the messages of gloo and NCCL
        request.getfixturevalue(how)
    model = nn.Sequential(linear(), Turned(), Strides(), nn.Linear(24, 10))
    schedule = build("zero_bubble_h1", 2, M)
    x, y = torch.randn(8, 3, 8), torch.randint(10, (8,))
    with Pipeline(model, schedule, loss=cross_entropy, split=[2, 2]) as pipeline:
        for _ in range(2):  # the first batch brings the forms
            pipeline.step(x, y)
            ours = pipeline.gradients()
            model.zero_grad()
            plain_loop(model, x, y, M)
            assert_same(ours, gradients(model))


@pytest.mark.filterwarnings("ignore")  # TorchScript, CSR and the older norms are deprecated
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_h1", "zero_bubble_v"])
@pytest.mark.parametrize("what", LAYERS)
def test_a_layer_trains_as_in_one_process(what, name, tmp_path):
    schedule = build(name, 2, M)
    model, (x, y) = model_of(what, schedule.num_stages), batch(8)
    with Pipeline(model, schedule, loss=cross_entropy) as pipeline:
        for _ in range(3):  # TorchScript runs what it has optimized from the third call on
            pipeline.step(x, y)
            ours = pipeline.gradients()
            model.zero_grad()
            plain_loop(model, x, y, M)
            assert_same(ours, gradients(model))
        state = pipeline.state_dict()
        pipeline.save(tmp_path)
        pipeline.load(tmp_path)
        again = pipeline.state_dict()
    theirs = model.state_dict()
    assert [*state] == [*again] == [*theirs]
    for name, value in theirs.items():
        for found in (state[name], again[name]):
            assert torch.equal(found.to_dense(), value.to_dense()), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("what", ["weight_norm", "weight_norm by hooks", "pruned", "scripted"])
def test_such_a_layer_can_be_verified(what):
    report = verify_gradients(model_of(what, 2), build("1f1b", 2, M), *batch(8), cross_entropy)
    assert report.ok, report


class Own(nn.Parameter):
    pass


def of_own_class():
    layer = linear()
    layer.weight = Own(layer.weight.detach())
    return layer


def with_parameter(tensor):
    layer = linear()
    layer.extra = nn.Parameter(tensor)
    return layer


NESTED = [torch.ones(2), torch.ones(3)]
REFUSED = {
    "lazy": (lambda: nn.LazyLinear(8), "a LazyLinear, .*weight is lazy"),
    "lazy inside": (
        lambda: nn.Sequential(linear(), nn.LazyBatchNorm1d()),
        r"a Sequential, .*1\.weight is lazy",
    ),
    "lazy buffer": (
        lambda: nn.LazyBatchNorm1d(affine=False),
        "a LazyBatchNorm1d, .*running_mean is lazy",
    ),
    "meta": (lambda: nn.Linear(8, 8, device="meta"), 'a Linear, .*weight is on the device "meta"'),
    "meta buffer": (
        lambda: With(linear(), mask=torch.zeros(8, device="meta")),
        'a With, .*mask is on the device "meta"',
    ),
    "sparse parameter": (
        lambda: with_parameter(torch.eye(8).to_sparse()),
        "extra is a sparse parameter",
    ),
    "own class": (of_own_class, "weight is of the class Own"),
    "nested": (
        lambda: With(linear(), words=torch.nested.nested_tensor(NESTED)),
        "words is a nested tensor",
    ),
}


@pytest.mark.filterwarnings("ignore")  # of nested tensors
@pytest.mark.parametrize("what", REFUSED)
def test_a_layer_that_cannot_be_copied_is_refused_by_name(what):
    make, message = REFUSED[what]
    model = nn.Sequential(linear(), linear(), make(), linear())
    with pytest.raises(ModelError, match=f"(?s)layer 2, .*{message}"):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)


def with_raw_hooks(self, x):
    y = x.tanh()
    y.grad_fn._raw_saved_result.register_hooks(torch.clone, torch.clone)
    return y


@pytest.mark.usefixtures("in_process")
def test_hooks_of_one_saved_tensor_are_refused_with_what_to_use():
    model = nn.Sequential(linear(), With(with_raw_hooks))
    with (
        pytest.raises(RankError, match=r"1F0 .*hooks of one saved tensor .*saved_tensors_hooks"),
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy) as pipeline,
    ):
        pipeline.step(*batch(8))


def hangs(graph, inputs):
    time.sleep(60)


def test_a_step_that_ends_while_it_compiles_says_so():
    model = linears(2)
    model[1] = torch.compile(model[1], backend=hangs)
    with (
        pytest.raises(RankTimeout, match=r"(?s)rank 1 is in 1F0.*layer 1 is compiled .*timeout="),
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy, timeout=0.5) as pipeline,
    ):
        pipeline.step(*batch(8))


def held():
    layer = linear()
    layer.held = torch.compile(double, backend=as_it_is)
    return layer


@pytest.mark.parametrize(
    ("layer", "loss", "found"),
    [
        (lambda: torch.compile(linear(), backend=as_it_is), cross_entropy, {1: "layer 1"}),
        (compiled_in_place, cross_entropy, {1: "layer 1"}),
        (lambda: nn.Sequential(linear(), compiled_in_place()), cross_entropy, {1: "layer 1.1"}),
        (Compiled, cross_entropy, {1: "layer 1"}),
        (held, cross_entropy, {1: "layer 1"}),
        (linear, torch.compile(cross_entropy, backend=as_it_is), {1: "the loss"}),
        (linear, torch.compile(nn.MSELoss(), backend=as_it_is), {1: "the loss"}),
        (linear, nn.MSELoss(), {}),
    ],
)
def test_what_is_compiled_is_found(layer, loss, found):
    stages = [nn.Sequential(linear()), nn.Sequential()]
    stages[1].add_module("1", layer())
    assert compiled_parts(stages, loss) == found


def test_another_stages_timeout_is_no_compilation():
    with pytest.raises(RankTimeout, match=r"^late$"), compilation_named({1: "layer 1"}):
        raise RankTimeout("late", 0, "0F0", "", 0, 0)


class Bar(nn.Linear):
    """Has a named semaphore, as a progress bar does."""

    def forward(self, x):
        self.lock = multiprocessing.get_context("spawn").RLock()
        print(self.lock._semlock.name)
        return super().forward(x)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows semaphores as files")
def test_semaphores_of_a_layer_are_removed(capfd):
    model = nn.Sequential(Bar(8, 8), Bar(8, 8))
    with Pipeline(model, build("1f1b", 2, M), loss=cross_entropy, device="cpu") as pipeline:
        pipeline.step(*batch(8))
        names = re.findall(r"/(mp-\w+)$", capfd.readouterr().out, re.MULTILINE)
        files = [Path("/dev/shm", f"sem.{name}") for name in names]
        assert len(files) == 2 * M and any(file.exists() for file in files)
    assert not any(file.exists() for file in files)


def test_modules_of_torch_travel_by_name():
    """Some cannot be imported, some are of other classes; a notebook's code refers to them."""
    modules = [torch.ops, torch.ops.aten, torch._VF, torch._C._functions, torch.nn.functional]
    modules.append(torch._dynamo.config)
    found = cloudpickle.loads(dumps(modules))
    assert all(one is other for one, other in zip(found, modules, strict=True))


def test_an_ordered_dict_keeps_its_order_what_was_set_on_it_and_itself():
    given = OrderedDict(b=1, a=2)
    given.versions, given["own"] = [3], given
    found = cloudpickle.loads(dumps(given))
    assert type(found) is OrderedDict and [*found] == ["b", "a", "own"]
    assert found.versions == [3] and found["own"] is found

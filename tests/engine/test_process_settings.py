"""What changes numbers in a process reaches the ranks of its next launch."""

import os
import re

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.protocol import process_settings
from pipelab.errors import PipelabError
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

M = 2
OTHER = {  # a value that is not the one at the start, for each row
    "default_dtype": torch.float64,
    "deterministic": 1,
    "anomaly": (True, False),
    "float32_matmul_precision": "medium",
    "backends.fp32_precision": "tf32",
    "backends.cudnn.fp32_precision": "ieee",
    "backends.cuda.matmul.fp32_precision": "ieee",
    "backends.cudnn.conv.fp32_precision": "ieee",
    "backends.cudnn.rnn.fp32_precision": "ieee",
    "backends.mkldnn.fp32_precision": "bf16",
    "backends.mkldnn.matmul.fp32_precision": "tf32",
    "backends.mkldnn.conv.fp32_precision": "ieee",
    "backends.mkldnn.rnn.fp32_precision": "ieee",
    "backends.opt_einsum.strategy": "greedy",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction": (False, False),
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction": (False, False),
    "sdp priority": [0, 1, 2, 3, 4],
}


class Shows(nn.Linear):
    """Prints the settings and a variable of its process."""

    def forward(self, x):
        for name, value in sorted(process_settings.current().values.items()):
            print(f"{name} = {value}")
        return super().forward(x)


@pytest.fixture
def put_back():
    before = process_settings.current()
    yield before
    process_settings.take_over(before)


def change(row, before):
    """Set one row to another value, if this machine can; whether it could."""
    other = OTHER.get(row.name, not before if isinstance(before, bool) else None)
    if other is None:
        return False
    try:
        row.set(other)
    except RuntimeError:
        return False
    return True


def test_every_setting_reaches_the_ranks(put_back, capfd, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 3)
    changed = {
        row.name
        for row in process_settings.TABLE
        if row.name in put_back.values and change(row, put_back.values[row.name])
    }
    wanted = {f"{name} = {value}" for name, value in process_settings.current().values.items()}
    before = {f"{name} = {value}" for name, value in put_back.values.items()}
    with Pipeline(
        nn.Sequential(*(Shows(8, 8) for _ in range(2))),
        build("gpipe", 2, M),
        loss=cross_entropy,
        device="cpu",
    ) as pipeline:
        x, y = batch(8)
        pipeline.step(x.to(torch.get_default_dtype()), y)
    found = set(re.sub(r"^\[rank \d\] ", "", capfd.readouterr().out, flags=re.M).splitlines())
    assert found == wanted
    assert "torch._dynamo.config = {'recompile_limit': 3}" in found
    assert len(wanted - before) >= len(changed) >= 25


class UsesSettings(nn.Module):
    """Its numbers depend on the default dtype, on denormals, on a variable."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        assert torch.are_deterministic_algorithms_enabled()
        tiny = torch.full((), 2.0**-140, dtype=torch.float32) * 1.0
        scale = torch.tensor(1 / 3) * float(os.environ.get("SCALE_OF_A_TEST", "1"))
        return self.linear(x * scale) + (tiny > 0.0)


def test_numbers_are_those_of_one_process(put_back, monkeypatch):
    torch.use_deterministic_algorithms(mode=True)
    model, (x, y) = nn.Sequential(UsesSettings(), UsesSettings()), batch(8)
    found = []
    for _ in range(2):
        with Pipeline(model, build("gpipe", 2, M), loss=cross_entropy, device="cpu") as pipeline:
            pipeline.step(x, y)
            ours = pipeline.gradients()
        model.zero_grad()
        plain_loop(model, x, y, M)
        assert_same(ours, gradients(model))
        found.append(ours["0.linear.weight"])
        monkeypatch.setenv("SCALE_OF_A_TEST", "0.7")
        torch.set_flush_denormal(True)
    assert not torch.equal(*found)


def test_a_default_dtype_trains_in_it(put_back):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(2)))
    x, y = torch.randn(8, 8), torch.randint(8, (8,))
    options = {"optimizer": torch.optim.SGD, "clip_norm": 0.1, "replicas": 2, "device": "cpu"}
    with Pipeline(model, build("1f1b", 2, 2), loss=cross_entropy, **options) as pipeline:
        norm = pipeline.step(x, y).gradient_norm
        ours = pipeline.gradients()
    cross_entropy(model(x), y).backward()
    assert norm == pytest.approx(
        float(torch.nn.utils.clip_grad_norm_([*model.parameters()], 0.1)), rel=1e-12
    )
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_rank_has_the_variables_of_its_parent_no_others(put_back, monkeypatch):
    monkeypatch.setenv("NCCL_OLD", "1")
    monkeypatch.setenv("NCCL_BOTH", "1")
    parents = {**os.environ, "NCCL_BOTH": "2", "CUDA_NEW": "3"}
    del parents["NCCL_OLD"]
    process_settings.take_over(process_settings.Settings(parents, {}))
    assert dict(os.environ) == parents


@pytest.mark.usefixtures("in_process")
def test_autocast_around_a_step_is_refused_unless_the_ranks_have_it_too():
    x, y = batch(8)
    with (
        Pipeline(linears(2), build("gpipe", 2, M), loss=cross_entropy, device="cpu") as plain,
        Pipeline(
            linears(2),
            build("gpipe", 2, M),
            loss=cross_entropy,
            device="cpu",
            autocast=torch.bfloat16,
        ) as half,
        torch.autocast("cpu", torch.bfloat16),
    ):
        for call in (lambda: plain.step(x, y), lambda: plain.evaluate(x, y)):
            with pytest.raises(PipelabError, match=r"autocast=torch\.bfloat16"):
                call()
        with pytest.raises(PipelabError, match=r"autocast=torch\.bfloat16"):
            plain.predict(x)
        half.step(x, y)

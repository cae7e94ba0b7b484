"""A training on disk: it continues where it was, and a bad file is refused in words."""

import math
import os
import pickle
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from pipelab.engine import Pipeline
from pipelab.engine.driver import checkpoint
from pipelab.engine.protocol.commands import Options
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.stage import Stage
from pipelab.engine.rank.update import Update
from pipelab.errors import CheckpointError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import build
from tests.engine.one_process import Draws, assert_same, batch, linears

IN_PROCESS = pytest.mark.usefixtures("in_process")
ADAM = partial(torch.optim.AdamW, lr=0.01)
RATES = partial(MultiStepLR, milestones=[1, 3, 4], gamma=0.3)


def model_with_buffers(seed=0):
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(3)]
    return nn.Sequential(*blocks, nn.Linear(8, 8))


def open_pipeline(model, schedule, **options):
    given = {"loss": cross_entropy, "optimizer": ADAM, "lr_schedule": RATES} | options
    return Pipeline(model, schedule, **given)


def test_a_state_keeps_its_own_types():
    # NAdam's product of momenta is fp32, also for parameters of bf16: a cast changes what follows
    def update_of(module):
        options = Options(mse_loss, partial(torch.optim.NAdam, lr=0.01))
        return Update({0: Stage(0, module, True, options)}, options, DataParallel(None, None, 1.0))

    saved, loaded = (update_of(nn.Linear(2, 2).bfloat16()) for _ in range(2))
    for parameter in saved.stages[0].parameters:
        parameter.grad = torch.ones_like(parameter)
    saved.step(0)
    loaded.load(saved.state())
    states = (update.optimizers[0].state.values() for update in (saved, loaded))
    for before, after in zip(*states, strict=True):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert after[key].dtype is value.dtype and torch.equal(after[key], value), key
            assert after[key] is not value


@IN_PROCESS
def test_a_schedule_of_rates_may_come_with_the_load(tmp_path):
    rates = partial(OneCycleLR, max_lr=0.1, total_steps=9)
    with open_pipeline(model_with_buffers(), gpipe(2, 2), lr_schedule=None) as pipeline:
        pipeline.step(*batch(8))
        pipeline.save(tmp_path)
    with open_pipeline(model_with_buffers(), gpipe(2, 2), lr_schedule=rates) as pipeline:
        pipeline.load(tmp_path)
        assert [math.isfinite(pipeline.step(*batch(8)).loss) for _ in range(3)] == [True] * 3


@IN_PROCESS
@pytest.mark.parametrize(("name", "p"), [("1f1b", 2), ("gpipe", 4), ("zero_bubble_v", 2)])
def test_a_training_continues_bit_for_bit_also_cut_otherwise(tmp_path, name, p):
    model = model_with_buffers()
    with open_pipeline(model, one_f_one_b(2, 3)) as pipeline:
        for seed in range(2):
            pipeline.step(*batch(13, seed=seed))
        path = pipeline.save(tmp_path / "new" / "folder")
        saved = pipeline.state_dict()
        losses = [pipeline.step(*batch(13, seed=seed)).loss for seed in range(2, 5)]
        after = pipeline.state_dict()
    elsewhere = model_with_buffers(seed=1)
    with open_pipeline(elsewhere, build(name, p, 3)) as pipeline:
        pipeline.step(*batch(13, seed=9))  # a past that load forgets
        pipeline.step(*batch(13, seed=9), update=False)
        pipeline.load(path.parent)
        assert_same(pipeline.state_dict(), saved)
        assert [pipeline.step(*batch(13, seed=s)).loss for s in range(2, 5)] == losses
        assert_same(pipeline.state_dict(), after)
    data = torch.load(path, weights_only=True)
    elsewhere.load_state_dict(data["model"])
    assert_same(elsewhere.state_dict(), saved)
    assert data["steps"] == 2


def test_dropout_continues_too(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), Draws(), nn.Linear(8, 8))
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        pipeline.step(*batch(4))
        pipeline.save(tmp_path)
        pipeline.step(*batch(4))
        drawn = pipeline.state_dict()["1.drawn"]
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        pipeline.load(tmp_path)
        pipeline.step(*batch(4))
        assert torch.equal(pipeline.state_dict()["1.drawn"], drawn)
    assert len(set(drawn[:4].tolist())) == 4


@IN_PROCESS
def test_a_checkpoint_before_the_first_step_forgets_the_optimizers_past(tmp_path):
    # it holds no optimizer state; the momentum of the steps since once stayed
    model, data = linears(2), batch(6)
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        pipeline.save(tmp_path)
        losses = [pipeline.step(*data).loss for _ in range(3)]
        pipeline.load(tmp_path)
        assert [pipeline.step(*data).loss for _ in range(3)] == losses


@IN_PROCESS
def test_other_optimizers_and_rates(tmp_path):
    # a missing schedule, and another optimizer's state, once killed the ranks
    model, data = linears(2), batch(6)
    with open_pipeline(model, gpipe(2, 2), lr_schedule=None) as pipeline:
        pipeline.step(*data)
        pipeline.save(tmp_path)
        loss = pipeline.step(*data).loss
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        pipeline.load(tmp_path)
        assert pipeline.step(*data).loss == loss
    with open_pipeline(model, gpipe(2, 2), optimizer=None, lr_schedule=None) as pipeline:
        pipeline.load(tmp_path)
        assert pipeline.step(*data).loss == loss
        pipeline.save(tmp_path / "plain")
    with open_pipeline(model, gpipe(2, 2), optimizer=torch.optim.SGD) as pipeline:
        with pytest.raises(CheckpointError, match=r"trained with AdamW, this pipeline .* with SGD"):
            pipeline.load(tmp_path)
        pipeline.load(tmp_path / "plain")
        assert pipeline.step(*data).loss == loss


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["PIPELAB_EVIL"],)


@IN_PROCESS
def test_bad_files_are_refused_and_run_no_code(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELAB_EVIL", str(tmp_path / "evil"))
    model, data = linears(2), batch(6)
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        pipeline.step(*data)
        path = pipeline.save(tmp_path)
        state, whole = pipeline.state_dict(), path.read_bytes()
        good = torch.load(path, weights_only=True)

        def refused(words):
            with pytest.raises(CheckpointError, match=words) as caught:
                pipeline.load(tmp_path)
            assert "\n" not in str(caught.value)
            assert "weights_only" not in str(caught.value)  # torch advises to set it to False

        for bad in (whole[:-100], whole[: len(whole) // 2], whole[:3], b"", b"hello", b"PK\3\4"):
            path.write_bytes(bad)
            refused("cannot be read as a checkpoint")
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
        refused(r"cannot be read as a checkpoint .*might run code")
        torch.save(good | {"steps": Evil()}, path)
        refused(r"cannot be read as a checkpoint .*might run code")
        for bad, words in (
            (good | {"version": 3}, "has version 3, this pipelab reads up to 2"),
            (good | {"format": "other"}, "is not a checkpoint"),
            (state, "is not a checkpoint"),
            ([1, 2], "is not a checkpoint"),
            ({"format": good["format"], "version": 1}, "is damaged"),
            (good | {"model": {"0.weight": 1}}, "is damaged"),
            (good | {"optimizer": [1]}, "is damaged"),
            (
                good | {"model": {**state, "9.bias": state["0.bias"]}},
                r"it has 9\.bias, which the model",
            ),
        ):
            torch.save(bad, path)
            refused(words)
        path.unlink()
        refused(r"cannot be read as a checkpoint .*No such file")
        assert_same(pipeline.state_dict(), state)  # the ranks were not touched
        path.write_bytes(whole)
        pipeline.load(tmp_path)
    assert not (tmp_path / "evil").exists()


@IN_PROCESS
def test_states_of_another_model_are_refused_before_ranks_are_touched():
    model, data = model_with_buffers(), batch(6)
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        state = pipeline.state_dict()
        less = {name: value for name, value in state.items() if name != "1.1.running_mean"}
        narrow = state | {"0.0.weight": torch.zeros(8, 7)}
        nothing = {name: torch.zeros(3) for name in "abcdefgh"}
        for bad, words in (
            (less, "it lacks 1.1.running_mean; load it into a pipeline of the same model"),
            (state | {"w": torch.ones(1)}, "it has w, which the model does not have"),
            (narrow, r"0.0.weight has shape \(8, 7\) in the state and \(8, 8\) in this model"),
            (nothing, r"it lacks .* and \d+ more"),
            (state | {"3.bias": 1}, "not a dict of tensors"),
            ([1], "not a dict of tensors"),
        ):
            with pytest.raises(CheckpointError, match=words):
                pipeline.load_state_dict(bad)
        assert_same(pipeline.state_dict(), state)
        other = {name: value + 1 for name, value in state.items()}
        pipeline.load_state_dict(other)
        assert_same(pipeline.state_dict(), other)
        pipeline.step(*data)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="cannot be used as a folder"):
        checkpoint.save(tmp_path / "file", checkpoint.Checkpoint({}, {}, 0))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@IN_PROCESS
def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    model, data = linears(2), batch(6)
    with open_pipeline(model, gpipe(2, 2)) as pipeline:
        path = pipeline.save(tmp_path)
        before = path.read_bytes()
        pipeline.step(*data)

        def half(data, file):
            file.write(b"half")
            raise OSError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", half)
            with pytest.raises(OSError, match="full"):
                pipeline.save(tmp_path)
        assert path.read_bytes() == before
        assert files(tmp_path) == [path.name]
        assert pipeline.save(tmp_path).read_bytes() != before
        assert files(tmp_path) == [path.name]


SAVES_WITHOUT_END = """
import sys, torch
from pathlib import Path
from pipelab.engine.driver import checkpoint
number = 0
while True:
    number += 1
    state = {"w": torch.full((200_000,), float(number)), "v": torch.tensor(float(number))}
    checkpoint.save(Path(sys.argv[1]), checkpoint.Checkpoint(state, {}, number))
    print(number, flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES_WITHOUT_END, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = checkpoint.load(tmp_path)
    assert found.steps >= 20
    assert torch.equal(found.parameters["w"], found.parameters["v"].expand(200_000))


@settings(max_examples=150)
@given(st.data())
def test_no_damage_gets_past_the_words(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    good = checkpoint.Checkpoint({"w": torch.ones(3)}, {"stage 0": {"groups": []}}, 3)
    path = checkpoint.save(folder, good)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        whole = data.draw(st.sampled_from([b"", b"\x80\x02", b"PK"])) + data.draw(st.binary())
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        checkpoint.load(folder)

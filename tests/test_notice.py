"""What takes long says so, in a cell of a notebook; nothing else does."""

import sys
import threading
import time
import types

import pytest
import torch

from pipelab import notice
from pipelab.engine import Pipeline
from pipelab.lessons import warm_up
from pipelab.notice import noticed
from pipelab.schedules import gpipe
from pipelab.simulator import Cost


@pytest.fixture
def cell(monkeypatch):
    """As in a kernel, whose cells are run by the main thread; "long" is soon over."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.delenv(notice.SWITCH, raising=False)
    monkeypatch.setattr(notice, "_AFTER", 0.01)


def long(what: str) -> None:
    with noticed(what):
        time.sleep(0.3)


def test_a_long_block_says_what_it_does_and_a_short_one_nothing(cell, capsys, monkeypatch):
    long("starting 4 processes")
    assert capsys.readouterr().out == "starting 4 processes ...\n"
    monkeypatch.setattr(notice, "_AFTER", 60.0)
    long("starting 4 processes")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["script", "thread", "switched off"])
def test_elsewhere_it_is_silent(cell, capsys, monkeypatch, place):
    if place == "script":
        monkeypatch.delitem(sys.modules, "ipykernel")
    if place == "switched off":
        monkeypatch.setenv(notice.SWITCH, "0")
    if place == "thread":  # of a widget's run
        thread = threading.Thread(target=long, args=["what"])
        thread.start()
        thread.join()
    else:
        long("what")
    assert capsys.readouterr().out == ""


def test_a_block_within_a_block_of_the_same_words_adds_no_line(cell, capsys):
    with noticed("loading PyTorch"):
        for _ in range(2):
            long("loading PyTorch")
        long("starting 4 processes")
    long("loading PyTorch")
    said = ["loading PyTorch ...", "starting 4 processes ...", "loading PyTorch ..."]
    assert capsys.readouterr().out.splitlines() == said


def test_a_cell_says_once_what_it_does_again_and_again(cell, capsys, monkeypatch):
    """Many short steps are a long wait, too; three slow starts said the same three times."""
    stdout = types.SimpleNamespace(write=sys.stdout.write, flush=sys.stdout.flush)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(notice, "_AFTER", 0.5)
    for stdout.parent_header in ({"msg_id": "a"}, {"msg_id": "b"}):
        for _ in range(4):
            long("4 ranks at work")
    stdout.parent_header = {"msg_id": "c"}
    long("4 ranks at work")
    assert capsys.readouterr().out == "4 ranks at work ...\n" * 2


def test_a_pipeline_says_that_its_ranks_are_at_work(cell, capsys):
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    options = {"loss": torch.nn.functional.cross_entropy, "pace": Cost(0.05, 0.05, 0.05)}
    with Pipeline(layers, gpipe(2, 2), **options) as pipeline:
        pipeline.step(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))
    assert "2 ranks at work ...\n" in capsys.readouterr().out


def test_an_idle_kernel_that_loads_the_parts_of_pytorch_says_so_once(cell, capsys, monkeypatch):
    monkeypatch.setattr(warm_up, "import_module", lambda name: long("loading PyTorch"))
    warm_up._load()
    assert capsys.readouterr().out == "loading PyTorch ...\n"


def test_it_ends_with_an_error_too(cell, capsys):
    with pytest.raises(ValueError, match="mine"), noticed("what"):
        raise ValueError("mine")
    time.sleep(0.1)
    assert capsys.readouterr().out == ""

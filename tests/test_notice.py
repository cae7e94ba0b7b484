"""What takes long says so, in a cell of a notebook; nothing else does."""

import sys
import threading
import time
import types
from collections.abc import Callable

import pytest
import torch

from pipelab import notice
from pipelab.engine import Pipeline
from pipelab.lessons import warm_up
from pipelab.notice import noticed
from pipelab.schedules import gpipe
from pipelab.simulator import Cost

EMPTY = {"text/plain": "", "text/html": ""}


class Output:
    """What stands below a cell: each text that was displayed, and what has become of it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.left: list[dict[str, str]] = []
        self.at_the_end: list[Callable[[], None]] = []

    def register(self, event, function):
        assert event == "post_run_cell"
        if function not in self.at_the_end:
            self.at_the_end.append(function)

    def end(self) -> None:
        """The cell's."""
        for function in self.at_the_end:
            function()

    def display(self, bundle, *, raw, display_id):
        assert raw
        assert display_id  # or nothing could take its place
        self.said.append(bundle["text/plain"])
        self.left.append(bundle)
        place = len(self.left) - 1
        return types.SimpleNamespace(update=lambda new, raw: self.left.__setitem__(place, new))


@pytest.fixture
def cell(monkeypatch):
    """As in a kernel, whose cells are run by the main thread; "long" is soon over."""
    output = Output()
    interactive = types.ModuleType("IPython")
    interactive.display = types.SimpleNamespace(display=output.display)
    interactive.get_ipython = lambda: types.SimpleNamespace(events=output)
    monkeypatch.setattr(notice, "_notices", {})
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", interactive)
    monkeypatch.delenv(notice.SWITCH, raising=False)
    monkeypatch.setattr(notice, "_AFTER", 0.01)
    return output


def long(what: str) -> None:
    with noticed(what):
        time.sleep(0.3)


def test_a_long_block_says_what_it_does_and_a_short_one_nothing(cell, monkeypatch):
    long("starting 4 processes")
    assert cell.said == ["starting 4 processes ..."]
    monkeypatch.setattr(notice, "_AFTER", 60.0)
    long("starting 4 processes")
    assert cell.said == ["starting 4 processes ..."]


def test_when_the_block_is_over_nothing_of_the_notice_is_left(cell):
    """It stayed, in the middle of tables; "loading PyTorch ..." below a saved prediction."""
    with noticed("loading"):
        time.sleep(0.3)
        assert [bundle["text/html"] for bundle in cell.left] == ["<pre>loading ...</pre>"]
    assert cell.left == [EMPTY]


def test_a_block_that_ends_while_its_notice_appears_leaves_none(cell, monkeypatch):
    def late(bundle, **options):
        time.sleep(0.3)  # the block ends meanwhile
        return cell.display(bundle, **options)

    monkeypatch.setattr(sys.modules["IPython"].display, "display", late)
    with noticed("loading"):
        time.sleep(0.1)
    assert cell.left == [EMPTY]


@pytest.mark.parametrize("place", ["script", "thread", "switched off"])
def test_elsewhere_it_is_silent(cell, monkeypatch, place):
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
    assert cell.said == []


def test_a_block_within_a_block_of_the_same_words_adds_no_line(cell):
    with noticed("loading PyTorch"):
        for _ in range(2):
            long("loading PyTorch")
        long("starting 4 processes")
    assert cell.said == ["loading PyTorch ...", "starting 4 processes ..."]


def test_many_short_blocks_are_a_long_wait_and_say_so_once_in_a_cell(cell, monkeypatch):
    monkeypatch.setattr(notice, "_AFTER", 0.5)
    for _ in range(2):
        for _ in range(4):
            long("4 ranks at work")
        cell.end()
    long("4 ranks at work")
    assert cell.said == ["4 ranks at work ..."] * 2
    assert cell.left == [EMPTY] * 2


def test_a_block_that_follows_a_long_one_uses_its_line_again(cell):
    long("loading")
    with noticed("loading"):
        time.sleep(0.3)
        assert [bundle["text/plain"] for bundle in cell.left] == ["loading ..."]
    assert cell.left == [EMPTY] and cell.said == ["loading ..."]


def test_a_pipeline_says_that_its_ranks_are_at_work(cell):
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    options = {"loss": torch.nn.functional.cross_entropy, "pace": Cost(0.05, 0.05, 0.05)}
    with Pipeline(layers, gpipe(2, 2), **options) as pipeline:
        pipeline.step(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))
    assert "2 ranks at work ..." in cell.said


def test_an_idle_kernel_that_loads_the_parts_of_pytorch_says_so_once(cell, monkeypatch):
    monkeypatch.setattr(warm_up, "import_module", lambda name: long("loading PyTorch"))
    warm_up._load()
    assert cell.said == ["loading PyTorch ..."]


def test_it_ends_with_an_error_too(cell, monkeypatch):
    monkeypatch.setattr(notice, "_AFTER", 0.5)
    with pytest.raises(ValueError, match="mine"), noticed("what"):
        raise ValueError("mine")
    time.sleep(0.7)
    assert cell.said == []

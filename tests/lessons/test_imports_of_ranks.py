"""What a lesson makes its ranks load: the engine has all that they need before they are forked.

A function of a chapter, sent to the ranks, would make each import the chapter, and with it what
draws pictures: seconds, on every rank, in every cell.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.engine.protocol.commands import Build
from pipelab.lessons import experiment
from pipelab.lessons.chapters import MODULES
from pipelab.lessons.chapters.ch01_relay import cook
from pipelab.schedules import gpipe
from tests.engine import in_process
from tests.lessons import rank_loads

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Lesson 10 kills ranks and lets them wait for each other: those that are threads do neither.
PATHS = [path for path in sorted(NOTEBOOKS.glob("[01]*.ipynb")) if path.stem[:2] != "10"]
LONG = ("04", "06", "08", "09", "11")  # 10 to 26 s each, together a minute of the whole suite
NOT_HERE = ("run_on_torch", "check(", "hint(")  # ranks of torchrun's; or tested elsewhere

HEAVY = ("IPython", "PIL", "anywidget", "ipywidgets", "matplotlib")
OURS = ("pipelab.lessons", "pipelab.plots", "pipelab.widgets")


def observed(loss):
    """The loss, which prints what of the above its process has loaded."""
    names = (*HEAVY, *OURS)

    def observe(output, target):
        import sys

        print("loaded:", *(name for name in names if name in sys.modules))
        return loss(output, target)

    return observe


def what_ranks_load(run, capsys):
    """The modules of all ranks of a run; what the notebook's own process has does not count."""
    capsys.readouterr()
    run()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[rank ")]
    assert lines, "no rank has said what it loaded"
    return {word for line in lines for word in line.partition("loaded:")[2].split()}


@pytest.fixture
def observing(monkeypatch):
    """Pipelines of lessons get a loss that observes."""

    def pipeline(*arguments, loss, **options):
        return Pipeline(*arguments, loss=observed(loss), **options)

    modules = [module for name, module in sys.modules.items() if name.startswith(OURS[0])]
    for module in modules:
        if getattr(module, "Pipeline", None) is Pipeline:
            monkeypatch.setattr(module, "Pipeline", pipeline)


def _all_chapters():
    return [import_module(f"pipelab.lessons.chapters.{name}") for name in MODULES.values()]


def test_a_kitchen_of_cooks_loads_no_lesson(observing, capsys):
    order = [["0F0", "0F1"], ["", "1F0", "1F1"]]
    assert what_ranks_load(lambda: cook(order, minute=0.01), capsys) == set()


def test_what_checks_record_loads_no_lesson(observing, capsys):
    _all_chapters()

    def run():
        model, inputs, targets = experiment.experiment()
        with experiment.start(model, gpipe(2, 2)) as pipeline:
            pipeline.step(inputs, targets)

    assert what_ranks_load(run, capsys) == set()


def test_a_function_of_a_chapter_would_be_noticed(observing, capsys):
    """Else the tests above could not fail."""
    from pipelab.lessons.chapters import ch05_gradient as chapter

    def run():
        model = [chapter.Odd()]
        with experiment.Pipeline(model, gpipe(1, 1), loss=experiment.LOSS) as pipeline:
            pipeline.step(torch.rand(4, 6), torch.randint(4, (4,)))

    assert "pipelab.lessons" in what_ranks_load(run, capsys)


@pytest.fixture
def given(monkeypatch, tmp_path_factory):
    """What the ranks of all pipelines are given, as bytes; they are threads, and start at once."""
    found, dumps = [], in_process.dumps

    def kept(message):
        data = dumps(message)
        if isinstance(message, Build):
            found.append(data)
        return data

    def start(num_ranks, replicas, timeout, idle_timeout):
        return in_process.InProcessRanks(num_ranks, replicas, tmp_path_factory.mktemp("ranks"))

    monkeypatch.setattr(in_process, "dumps", kept)
    monkeypatch.setattr("pipelab.engine.pipeline.start_ranks", start)
    monkeypatch.chdir(tmp_path_factory.mktemp("lesson"))
    return found


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem[:2] in LONG), id=p.stem) for p in PATHS],
)
def test_no_lesson_makes_its_ranks_load_one(path, given):
    """Its cells run here, and what its ranks get is read where ranks are forked."""
    names = {"__name__": "__main__"}  # a notebook's: what cells define travels by value
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not any(word in source for word in NOT_HERE):
            exec(compile(source, f"{path.stem}, {cell['id']}", "exec"), names)
    ours, theirs = fork_server.pipe()
    with ours, theirs:
        what = (theirs, list(set(given)), (*HEAVY, *OURS))
        child = fork_server.fork("what ranks load", rank_loads.report, *what)
        assert ours.poll(60.0)
        assert ours.recv() == []
        child.close()
    assert given

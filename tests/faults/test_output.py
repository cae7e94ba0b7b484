"""What ranks print and warn is printed by the cell, test or script that asked, in rank order."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbclient
import nbformat
import pytest

from tests.faults.leftovers import gone

CLASS = """\
import warnings

import torch
from torch import nn

from pipelab.engine import Pipeline
from pipelab.schedules import one_f_one_b


class Talks(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name, self.linear = name, nn.Linear(4, 4)

    def forward(self, x):
        print(self.name, "sees", len(x), "rows")
        if self.name == "gamma":
            warnings.warn("gamma is careful", stacklevel=2)
        return self.linear(x)
"""
OPEN = """\
model = [Talks("alpha"), Talks("beta"), Talks("gamma")]
batch = torch.ones(4, 4), torch.ones(4, 4)
pipeline = Pipeline(model, one_f_one_b(3, 2), loss=nn.functional.mse_loss)"""
STEP = "result = pipeline.step(*batch)"
CLOSE = "pipeline.close()\nprint('closed')"
SAID = [f"[rank {r}] {name} sees 2 rows" for r, name in enumerate(("alpha", "beta", "gamma"))]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook that Jupyter's own client has run, and where it is saved."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source)
            for source in (
                f"{CLASS}\n{OPEN}",
                STEP,
                "print('a cell of somebody else')",
                STEP,
                CLOSE,
            )
        ]
    )
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=os.environ)
    path = tmp_path_factory.mktemp("output") / "talks.ipynb"
    nbformat.write(notebook, path)
    return notebook, path


def streams(cell):
    assert {output.output_type for output in cell.outputs} <= {"stream"}
    assert {output.name for output in cell.outputs} <= {"stdout"}
    return "".join(output.text for output in cell.outputs).splitlines()


def test_under_nbclient_it_is_in_the_cell_that_asked(executed):
    model, first, other, second, close = map(streams, executed[0].cells)
    assert model == []
    assert [line for line in first if "sees" in line] == [line for line in SAID for _ in range(2)]
    assert [line for line in first if "careful" in line and line.startswith("[rank 2] ")]
    assert [line.split("]")[0] for line in first] == sorted(line.split("]")[0] for line in first)
    assert other == ["a cell of somebody else"]
    assert second == [line for line in SAID for _ in range(2)]  # a warning is given once
    assert close == ["closed"]


def test_under_nbval_each_cell_has_the_same_output(executed):
    options = ["-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-c", os.devnull]
    done = run(["-m", "pytest", *options, executed[1].name], executed[1].parent)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


class Ran(NamedTuple):
    """A script, and what it printed."""

    path: Path
    lines: list[str]


FAILS = """
class Fails(nn.Module):
    def forward(self, x):
        raise KeyError("my own bug")


with Pipeline(
    [nn.Linear(4, 4), Fails()], one_f_one_b(2, 2), loss=nn.functional.mse_loss
) as pipeline:
    try:
        pipeline.step(*batch)
    except RankError as error:
        print(error)
"""
NO_CLOSE = """
def my_loss(output, target):
    return ((output - target) ** 2).mean()


model = [nn.Linear(4, 4), Talks("delta"), nn.Linear(4, 4), Talks("epsilon")]
pipeline = Pipeline(model, one_f_one_b(4, 2), loss=my_loss,
                    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01))
print(pipeline.step(*batch).loss > 0)
print("pids", *pipeline.pids)
"""
STEPS = "\n".join((OPEN, STEP, "print('next')", STEP, CLOSE))
START = "print('script starts')\nfrom pipelab.errors import RankError"
SCRIPT = "\n".join((CLASS, START, STEPS, FAILS, NO_CLOSE))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A plain script without a guard, in a folder whose name once hid the learner's line."""
    path = tmp_path_factory.mktemp("plain") / "torch" / "engine" / "train.py"
    path.parent.mkdir(parents=True)
    path.write_text(SCRIPT, "utf-8")
    done = run([path.name], path.parent)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return Ran(path, done.stdout.splitlines())


def test_a_plain_script_without_a_main_guard_runs_once_and_leaves_nothing(ran):
    assert ran.lines.count("script starts") == 1
    is_more, pids = ran.lines[-2:]
    assert is_more == "True"
    assert pids.startswith("pids ") and len(pids.split()) == 1 + 4
    assert gone([int(pid) for pid in pids.split()[1:]])  # the interpreter's end closes


def test_in_a_plain_script_it_is_in_rank_order(ran):
    steps = [line for line in SAID for _ in range(2)]
    wanted = [*steps, "next", *steps, "closed"]
    assert [line for line in ran.lines if line in {*wanted}] == wanted


def test_a_rank_names_the_line_of_a_script_in_a_folder_called_torch(ran):
    first, second = ran.lines[ran.lines.index("closed") + 1 :][:2]
    number = SCRIPT.splitlines().index('        raise KeyError("my own bug")') + 1
    assert first.startswith("rank 1 failed in 1F0 ") and "KeyError: 'my own bug'" in first
    where = f'File "{ran.path}", line {number}, in forward'
    assert second == f'  at {where}: raise KeyError("my own bug")'


def test_a_module_that_opens_a_pipeline_when_ranks_import_it(tmp_path):
    (tmp_path / "script.py").write_text(f"{CLASS}\n{OPEN}", encoding="utf-8")
    done = run(["-c", "import script"], tmp_path)
    assert "LaunchError: a rank was about to open another pipeline" in done.stderr
    assert 'Put it behind `if __name__ == "__main__":`' in done.stderr


def run(arguments, folder):
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )

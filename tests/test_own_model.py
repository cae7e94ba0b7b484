"""The guide "Your own model": its files, written down and run by its own commands."""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "notebooks" / "guides" / "your_own_model.md").read_text("utf-8")
BLOCK = re.compile(r"<!-- (file: (\S+)|run) -->\n```\w+\n(.*?)```\n", re.DOTALL)


def commands() -> list[str]:
    return [
        line for _, name, text in BLOCK.findall(GUIDE) if not name for line in text.splitlines()
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files of the guide; blocks of one name follow one another."""
    folder = tmp_path_factory.mktemp("own")
    for _, name, text in BLOCK.findall(GUIDE):
        if name:
            with (folder / name).open("a", encoding="utf-8") as file:
                file.write(text)
    return folder


def run(command: str, folder: Path) -> str:
    """A command of the guide with this Python; what it printed."""
    program, *arguments = command.split()
    programs = {"python": [], "torchrun": ["-W", "ignore", "-m", "torch.distributed.run"]}
    result = subprocess.run(
        [sys.executable, *programs[program], *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"$ {command}\n{result.stdout}{result.stderr}"
    return result.stdout


def run_here(command: str, folder: Path) -> str:
    """The same in this process, which has torch and a fork server already."""
    program, script, *arguments = command.split()
    assert program == "python"
    threads, printed = torch.get_num_threads(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script, *arguments])
        torch.set_num_threads(1)
        try:
            runpy.run_path(script, run_name="__main__")
        finally:
            torch.set_num_threads(threads)
            sys.modules.pop("my_model", None)
    return printed.getvalue()


def losses(text: str) -> list[float]:
    (line,) = [line for line in text.splitlines() if line.startswith("losses ")]
    return [float(word) for word in line.split()[1:]]


def test_every_block_of_code_is_run():
    assert len(re.findall(r"^```\w", GUIDE, re.MULTILINE)) == len(BLOCK.findall(GUIDE))
    assert [command.split()[0] for command in commands()] == ["python"] * 3 + ["torchrun"] * 2


@pytest.fixture(scope="module")
def trained(folder):
    """What steps 1 to 4 print."""
    check, train = run_here(commands()[0], folder), run(commands()[1], folder)
    assert check.startswith("the row is the model\n")
    assert "WRONG" not in check and check.count("exact") > 20
    assert re.search(r"^stage 0: layers 0, .* ms\nstage 1: layers .*7: .* ms$", check, re.MULTILINE)
    return train


def test_the_model_learns_and_is_drawn(folder, trained):
    found = losses(trained)
    assert len(found) == 5 and found == sorted(found, reverse=True)
    after = float(re.search(r"after training (\S+)", trained)[1])
    assert after < found[-1]  # what was trained is the model itself
    for name in ("timeline.png", "trace.perfetto.json"):
        assert (folder / name).stat().st_size > 1000


def test_torchs_engine_has_the_same_losses(folder, trained):
    assert losses(run_here(commands()[2], folder)) == pytest.approx(losses(trained), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 4])
def test_torchrun_has_the_same_losses(folder, trained, number):
    assert losses(run(commands()[number], folder)) == pytest.approx(losses(trained), abs=2e-5)

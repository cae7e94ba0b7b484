"""The README keeps its word: its code runs, its commands are whole, its tree is the real tree."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PICTURE = ROOT / "notebooks" / "images" / "demo_timeline.png"


def block(marker: str) -> str:
    """The text of the fenced block right under ``<!-- marker -->``."""
    found = re.findall(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```\n", README, re.DOTALL)
    assert len(found) == 1, f"want one block under <!-- {marker} -->, found {len(found)}"
    return found[0]


def test_python_block_runs_as_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "ten_lines.py"
    script.write_text(block("python"), "utf-8")
    assert "__main__" not in block("python")
    result = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(r"loss \d+\.\d+, bubble \d+%\n", result.stdout), result.stdout
    assert result.stderr == ""
    width, height = png_size(tmp_path / "timeline.png")
    assert width > 300 and height > 100


def test_python_block_has_ten_lines():
    assert len([line for line in block("python").splitlines() if line.strip()]) == 10


@pytest.mark.parametrize("name", ["demo", "test"])
def test_commands_are_one_line_and_complete(name):
    (line,) = block(f"command: {name}").splitlines()
    steps = line.split(" && ")
    venv = {"demo": ".venv", "test": ".venv-test"}[name]
    assert steps[0] == f"python3 -m venv {venv}"
    assert steps[1].startswith(f"{venv}/bin/pip install -c binder/requirements.txt -e ")
    assert len(steps) == 3 and steps[2].startswith(f"{venv}/bin/")


def test_ci_runs_the_very_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert "<!-- command: test -->" in text
    assert "pip install" not in text, "the README's line installs; CI adds nothing of its own"


def test_picture_is_there_and_described():
    assert re.search(r"!\[[^\]]{40,}\]\(notebooks/images/demo_timeline\.png\)", README)
    width, height = png_size(PICTURE)
    assert width > 300 and height > 100


def test_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert not missing, f"README.md links to {missing}"


def test_nobody_is_told_to_install_a_name_that_is_not_ours():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("binder/*"), *ROOT.glob("notebooks/*.ipynb")):
        assert not re.search(r"pip3? install (-\S+ )*pipelab\b", path.read_text("utf-8")), path


def test_tree_names_every_module_and_nothing_else():
    named = tree_files(block("tree"))
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipelab").rglob("*.py")
        if path.name != "__init__.py"
    }
    listed = {name for name in named if name.endswith(".py")}
    assert not modules - listed, f"the README's tree lacks {sorted(modules - listed)}"
    gone = sorted(name for name in named if not (ROOT / name).is_file())
    assert not gone, f"the README's tree names {gone}, which are not there"


def test_tree_has_a_line_for_each_file():
    for line in block("tree").splitlines():
        name, *words = line.split()
        assert words or name.endswith("/"), f"{name} says nothing about itself"


def tree_files(text: str) -> set[str]:
    """Paths of the files that an indented tree names; folders end in a slash."""
    folders: list[tuple[int, str]] = []
    files = set()
    for line in text.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = (folders[-1][1] if folders else "") + name
        if name.endswith("/"):
            folders.append((indent, path))
        else:
            files.add(path)
    return files


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", f"{path.name} is no PNG"
    return struct.unpack(">II", head[16:24])

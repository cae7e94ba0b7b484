"""README and guides: code runs, commands are understood, links lead somewhere, the tree is real."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pipelab.bench.__main__ import _parser as bench_parser
from pipelab.cli.main import parse, parser
from tests.tree import GUIDE, guide

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PICTURE = ROOT / "notebooks" / "images" / "lab.png"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("notebooks/guides/*")])
OUTPUT = re.compile(r"loss \d+\.\d+, bubble \d+ %\n")  # of the block marked python
MAX_BYTES = 8192  # of the README, which is an entrance


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
    assert OUTPUT.fullmatch(result.stdout), result.stdout
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
    assert "pip install" not in text, "the README's line installs; CI installs nothing else"


def test_picture_is_there_and_described():
    assert re.search(r"!\[[^\]]{40,}\]\(notebooks/images/lab\.png\)", README)
    width, height = png_size(PICTURE)
    assert width > 300 and height > 100
    assert PICTURE.stat().st_size < 150_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        name, _, heading = target.partition("#")
        if "://" in target:
            continue
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not heading or heading in headings(path), f"{page.name} links to {target}"


def headings(path: Path) -> set[str]:
    """The anchors of a page, as forges make them of headings."""
    lines = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).lower().replace(" ", "-") for line in lines}


def test_readme_is_short_and_leads_to_every_guide():
    assert len(README.encode()) <= MAX_BYTES
    for path in ROOT.glob("notebooks/guides/*.md"):
        assert f"](notebooks/guides/{path.name})" in README, f"no link to {path.name}"


def test_the_course_has_the_same_lessons_and_minutes_everywhere():
    rows = r"^\| (\d+) \| ([^|]+) \| (\d+) \|"
    course = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    found = re.findall(rows, README, re.MULTILINE)
    assert found == re.findall(rows, course, re.MULTILINE)
    assert len(found) == len([*ROOT.glob("notebooks/[0-9]*.ipynb")])


def commands(page: Path) -> list[str]:
    """What follows ``pipelab`` or ``-m pipelab.bench`` in a page's shell blocks, less comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [line.partition("#")[0].split() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and line[0].startswith(".venv/bin/")]


@pytest.mark.parametrize("line", commands(GUIDE.parent / "commands.md"), ids=" ".join)
def test_commands_of_the_guide_have_arguments_that_are_understood(line):
    if line[0].endswith("/pipelab"):
        assert parse(line[1:]).command == line[1]
    else:
        assert line[1:3] == ["-m", "pipelab.bench"]
        assert bench_parser().parse_args(line[3:]).bench == line[3]


def test_guide_of_commands_names_every_command():
    help = parser().format_help()
    (names,) = re.findall(r"^  COMMAND$\n((?:    \w.*\n(?: {10,}.*\n)*)+)", help, re.MULTILINE)
    wanted = set(re.findall(r"^    (\w+)", names, re.MULTILINE))
    lines = commands(GUIDE.parent / "commands.md")
    assert wanted == {line[1] for line in lines if line[0].endswith("/pipelab")}


def test_output_is_that_of_the_python_block():
    assert OUTPUT.fullmatch(block("output"))


def test_no_page_says_to_install_a_name_that_is_not_ours():
    for path in (*PAGES, *ROOT.glob("binder/*"), *ROOT.glob("notebooks/*.ipynb")):
        assert not re.search(r"pip3? install (-\S+ )*pipelab\b", path.read_text("utf-8")), path


def test_tree_is_the_real_tree():
    assert GUIDE.read_text("utf-8") == guide(), "write it again: python tests/tree.py"


def test_tree_has_a_text_for_each_file():
    silent = [line for line in guide().splitlines() if re.fullmatch(r" +\S+\.(py|js)", line)]
    assert not silent, f"no first line: {silent}"
    named = set(re.findall(r"^ +(\S+\.py) ", guide(), re.MULTILINE))
    assert named >= {path.name for path in (ROOT / "pipelab").rglob("*.py")} - {"__init__.py"}


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", f"{path.name} is no PNG"
    return struct.unpack(">II", head[16:24])

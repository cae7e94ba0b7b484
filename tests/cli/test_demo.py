"""``pipelab demo``, run for real: once as users do, small at the edges, and stopped by Ctrl-C."""

import json
import os
import pty
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelab.cli import console
from pipelab.cli.main import main
from pipelab.trace import Trace
from tests.cli.test_cli import interrupt, started, survivors
from tests.test_readme import png_size

FILES = {"timeline{}.png", "trace{}.json", "trace{}.perfetto.json"}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """What the demo printed, and its folder."""
    here = tmp_path_factory.mktemp("demo")
    with started("demo", "--steps", "40", "--output", "out", cwd=here) as command:
        output, errors = command.communicate(timeout=300)
        assert command.returncode == 0, output + errors
        assert errors == ""
        assert survivors(command.mark) == []
    assert [path.name for path in here.iterdir()] == ["out"]
    return output, here / "out"


def test_loss_falls_well_below_its_start(demo):
    first, last = map(
        float, re.search(r"loss ([\d.]+) at the start, ([\d.]+) at", demo[0]).groups()
    )
    assert 4.5 < first < 6.5
    assert last < 0.65 * first


def test_progress_has_separate_lines_without_a_terminal(demo):
    steps = re.findall(r"^step +(\d+)/40   loss [\d.]+   [\d.]+ steps/s$", demo[0], re.MULTILINE)
    assert steps == ["1", "10", "20", "30", "40"]
    assert "\r" not in demo[0] and "\x1b" not in demo[0]


def test_timelines_show_letters_microbatches_and_idle_time(demo):
    rows = re.findall(r"^(rank \d .*% idle)$", demo[0], re.MULTILINE)
    assert [row[:6] for row in rows] == [f"rank {rank}" for rank in range(4)] * 2
    paced = rows[4:]
    for row in paced:
        assert "·" in row
        assert re.findall(r"B(\d)", row) == list("01234567")
    in_one_line = " ".join(demo[0].split())  # the source line may wrap
    assert "unpaced" in in_one_line and re.search(r"paced F \d+ ms, B \d+ ms", in_one_line)


def test_measured_bubble_stands_beside_the_formula(demo):
    pattern = r"bubble fraction: measured ([\d.]+) %, formula \(p−1\)/\(m\+p−1\) = 3/11 = 27\.3 %"
    unpaced, paced = (float(share) for share in re.findall(pattern, demo[0]))
    assert 0 < unpaced < 100
    assert 20 < paced < 60  # a busy machine makes it larger, nothing makes it smaller


def test_bytes_of_the_ranks_add_up_to_those_of_one_process(demo):
    rows = re.findall(r"^(rank \d|one process)((?: +[\d.]+ k?M?B){5})$", demo[0], re.MULTILINE)
    assert [name for name, _ in rows] == ["rank 0", "rank 1", "rank 2", "rank 3", "one process"]
    units = {"B": 1, "kB": 1e3, "MB": 1e6}
    table = [
        [float(value) * units[unit] for value, unit in re.findall(r"([\d.]+) (\w+)", cells)]
        for _, cells in rows
    ]
    *ranks, one = table
    for column in range(3):  # parameters, gradients, optimizer
        assert sum(row[column] for row in ranks) == pytest.approx(one[column], rel=0.03)
    peaks = [row[3] for row in ranks]
    assert peaks == sorted(peaks, reverse=True)  # 1F1B: rank r holds p - r microbatches
    assert sum(peaks) < one[3]
    assert all(sum(row[:4]) == pytest.approx(row[4], rel=0.03) for row in table)


def test_folder_holds_both_recordings(demo):
    _, output = demo
    names = {name.format(suffix) for name in FILES for suffix in ("", "-unpaced")}
    assert {path.name for path in output.iterdir()} == names
    assert all(name in demo[0] for name in names)
    for suffix in ("", "-unpaced"):
        trace = Trace.load(output / f"trace{suffix}.json")
        assert trace.source == "recorded" and trace.num_ranks == 4
        assert bool(trace.setting.paced) is (suffix == "")
        assert len(trace.memory) == 4
        width, height = png_size(output / f"timeline{suffix}.png")
        assert width > 1000 and height > 400
        perfetto = json.loads((output / f"trace{suffix}.perfetto.json").read_text("utf-8"))
        assert perfetto["traceEvents"]


def test_it_ends_by_naming_the_next_step(demo):
    assert "pipelab lab" in "\n".join(demo[0].splitlines()[-2:])


def test_smallest_demo_on_a_terminal_where_the_line_moves(tmp_path, monkeypatch):
    ours, theirs = pty.openpty()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "90")
    with ThreadPoolExecutor(1) as reader, os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        shown = reader.submit(read_all, ours)
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["demo", "--steps", "3", "--ranks", "1", "--microbatches", "1"]) == 0
        monkeypatch.undo()
    output = shown.result()
    assert re.search(r"\rstep 1/3 .*\rstep 3/3 .*steps/s *\r\n", output, re.DOTALL)
    assert "\x1b" not in output
    assert max(len(line) for line in re.split(r"[\r\n]+", output)) <= 90
    assert "(p−1)/(m+p−1) = 0/1 = 0.0 %" in output


def read_all(handle):
    """What is written to a terminal until the last file that leads there is closed."""
    parts = []
    while True:
        try:
            part = os.read(handle, 65536)
        except OSError:
            part = b""
        if not part:
            os.close(handle)
            return b"".join(parts).decode()
        parts.append(part)


LONG = ("--steps", "12")
SHORT = ("--steps", "2", "--ranks", "2", "--microbatches", "2")  # soon paced


@pytest.mark.parametrize(
    ("line", "seconds", "options"),
    [
        ("pipelab demo:", 0.0, LONG),
        ("pipelab demo:", 0.6, LONG),  # while torch is loaded
        pytest.param("parameters in", 0.0, LONG, marks=pytest.mark.slow),  # at launch, as 0.4 is
        ("parameters in", 0.4, LONG),  # while the fork server loads torch
        ("step  1/12", 0.05, LONG),  # while the ranks train
        ("at the end", 0.3, SHORT),  # while the paced ranks start or work
        ("Files in", 0.0, SHORT),  # while pictures are drawn
    ],
)
def test_ctrl_c_ends_it_in_one_line_and_leaves_nothing(line, seconds, options, tmp_path):
    with started("demo", *options, cwd=tmp_path, TMPDIR=str(tmp_path)) as command:
        while line not in command.stdout.readline():
            assert command.poll() is None
        time.sleep(seconds)
        assert interrupt(command) == "Stopped by Ctrl-C."
        assert command.returncode == 130
        assert survivors(command.mark) == []
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(("pipelab-", "pymp"))]
    assert left == ["pipelab-demo"]


@pytest.fixture
def never_trains(monkeypatch):
    """Fail if a command gets as far as torch."""

    def fails():
        raise AssertionError("it began to work")

    monkeypatch.setattr(console, "import_engine", fails)


def test_refuses_a_file_as_its_folder_before_it_trains(tmp_path, never_trains, capsys):
    path = tmp_path / "taken"
    path.write_text("mine")
    assert main(["demo", "--output", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"pipelab: {path} is a file, not a folder: choose another with --output FOLDER, or move "
        f"it away\n"
    )
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["below_a_file", "locked", "empty", "not_a_path", "too_long"])
def test_refuses_an_unwritable_folder_before_it_trains(name, tmp_path, never_trains, capsys):
    (tmp_path / "file").touch()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    path = {
        "below_a_file": str(tmp_path / "file" / "out"),
        "locked": str(locked if os.geteuid() else Path("/proc/nowhere")),
        "empty": "",
        "not_a_path": "a\0b",
        "too_long": "x" * 5000,
    }[name]
    assert main(["demo", "--output", path]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match(r"pipelab: (cannot write into|the name of) ", captured.err)
    assert "choose another with --output FOLDER" in captured.err


def test_links_in_the_folder_do_not_lead_outside(tmp_path):
    outside, output = tmp_path / "outside", tmp_path / "out"
    outside.write_text("mine")
    output.mkdir()
    for name in FILES:
        (output / name.format("")).symlink_to(outside)
    from pipelab.plots import plot_timeline
    from pipelab.schedules import gpipe
    from pipelab.simulator import Cost, simulate

    trace = simulate(gpipe(2, 2), Cost())
    console.save(output, "", trace, plot_timeline(trace))
    assert outside.read_text() == "mine"
    assert not any(path.is_symlink() for path in output.iterdir())
    assert len(list(output.iterdir())) == 3

"""``pipelab open``: the screen, the page, the figures, and what it refuses."""

import json
import os

import pytest

from pipelab.cli.main import main
from pipelab.schedules import one_f_one_b
from pipelab.trace import Trace
from tests.trace.foreign import assert_same, kineto, ndtimeline, write
from tests.traces import recorded_like


@pytest.fixture
def timeline(tmp_path):
    made = {(step, replica): recorded_like(one_f_one_b(4, 6), seed=step + replica)
            for step in (0, 1, 2) for replica in (0, 1)}  # fmt: skip
    return write(tmp_path / "timeline.json.gz", ndtimeline(made))


def test_one_screen(timeline, capsys):
    assert main(["open", str(timeline), "--width", "90"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("rank 0 F0") and len(lines) < 50 and err == ""
    assert (
        "schedule   1F1B: 4 ranks, 6 microbatches, 1 stage a rank; 2 replicas, 6 steps read" in out
    )
    for head in ("bubble ", "idle ", "slowest ", "path ", "what if ", "fit ", "note "):
        assert any(line.startswith(head) for line in lines), head
    assert "33.3 % by (p−1)/(m+p−1)" in out


@pytest.mark.parametrize(("lines", "times"), [(24, 2), (80, 1)])
def test_on_a_small_terminal_the_answer_is_there_again_at_the_end(
    lines, times, timeline, capsys, monkeypatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((80, lines)))
    assert main(["open", str(timeline)]) == 0
    out = capsys.readouterr().out
    assert out.count("answer     Ranks are idle") == times
    assert ("answer" in "".join(out.splitlines()[-6:])) == (times == 2)


def test_figures_for_programs(timeline, capsys):
    assert main(["open", str(timeline), "--json", "--step", "1", "--replica", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schedule"], data["ranks"], data["microbatches"]) == ("1f1b", 4, 6)
    assert (data["shown"]["step"], data["shown"]["replica"]) == (1, 1)
    assert {row["name"] for row in data["what_ifs"]} >= {"rank", "stage", "even", "free_messages"}


def test_a_page_and_a_file_for_perfetto(tmp_path, capsys):
    own = recorded_like(one_f_one_b(3, 4))
    kineto(tmp_path / "profile", [own])
    page, chrome = tmp_path / "page.html", tmp_path / "step.perfetto.json"
    args = ["open", str(tmp_path / "profile"), "--html", str(page), "--perfetto", str(chrome)]
    assert main(args) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert "torch.profiler, host time" in text and "with free messages" in text
    body = text.partition("<body>")[2]
    assert body.startswith("<p ") and "Ranks are idle for" in body.partition("</p>")[0]
    (back,) = Trace.read(chrome)
    assert_same(back, own)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nothing.json"], "no such file"),
        (["--step", "77"], "step 77 of replica"),
        (["--replica", "9"], "of replica 9 is not there"),
        (["--html", "no/such/folder/page.html"], "cannot write no/such/folder/page.html"),
    ],
)
def test_what_cannot_be_done_is_said(args, words, timeline, capsys):
    files = [] if args[0].endswith(".json") else [str(timeline)]
    assert main(["open", *files, *args]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("pipelab: ") and words in err

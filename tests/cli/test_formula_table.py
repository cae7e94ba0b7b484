"""``pipelab formulas``: each formula with its condition, beside the simulator and real ranks."""

import json
import re

import pytest

from pipelab.cli.main import main
from pipelab.schedules.catalogue import BUILDERS
from tests.formulas_page import PAGE, page, without_recorded


@pytest.fixture
def run(capsys):
    def command(line):
        code = main(["formulas", *line.split()])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def found(run, line):
    rows = json.loads(run(f"{line} --json")[1])["formulas"]
    return {(row["schedule"], row["figure"]): row for row in rows}


def test_all_formulas_hold_where_f_i_and_w_are_equal(run):
    rows = found(run, "--no-record")
    assert {name for name, _ in rows} == set(BUILDERS)
    for row in rows.values():
        assert row["applies"] and row["value"] == pytest.approx(row["simulated"]), row
        assert row["recorded"] is None and row["source"]


def test_where_i_is_longest_it_says_which_fail_and_by_how_much(run):
    line = "--backward-input 1.2 --backward-weight 0.8 --no-record"
    failing = {
        name
        for (name, figure), row in found(run, line).items()
        if figure != "peak" and abs(row["value"] - row["simulated"]) > 1e-9
    }
    assert failing == {"zero_bubble_v", "dual_pipe_v", "v_half", "v_min"}
    _, text, _ = run(f"v_half 1f1b {line}")
    assert re.search(r"F/4 +6 +7\.1 +fails by \+1\.1", text)
    assert "if messages are free, F = I = W, m > p/2" in text
    assert re.search(r"\(p−1\)\(F\+B\) +9 +9 +holds", text)


def test_deepseeks_b_is_the_whole_backward(run):
    """(p-1)(F&B + B - 3W): with B = I + W the figure is what runs; with B = I it is half of it."""
    row = found(run, "dual_pipe_v -p 4 -m 10 --forward 2 --no-record")["dual_pipe_v", "idle"]
    assert row["simulated"] == row["value"] == 3 * (3 + 2 - 3 * 1)
    assert row["simulated"] != 3 * (3 + 1 - 3 * 1)
    line = "dual_pipe_v -p 4 -m 10 --forward 2 --backward-input 2.4 --backward-weight 1.6"
    row = found(run, f"{line} --overlapped 6 --no-record")["dual_pipe_v", "idle"]
    assert (row["value"], row["simulated"]) == (pytest.approx(7.8), pytest.approx(7.2))
    assert not row["applies"]


def test_what_ranks_show_stands_beside_it(run):
    row = found(run, "1f1b -p 2 -m 3 --forward 20ms")["1f1b", "idle"]
    assert row["value"] == pytest.approx(0.06)
    assert row["recorded"] > 0.9 * row["value"]
    _, text, _ = run("gpipe -p 2 -m 2")
    assert "fails" not in text and "Recorded: real ranks" in " ".join(text.split())


def test_markdown_is_a_table_and_sizes_that_are_refused_say_so(run):
    _, text, _ = run("dual_pipe_v 1f1b -p 4 -m 6 --no-record --markdown")
    head, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count(" | ") == head.count(" | ") for row in rows)
    assert "DualPipeV of 4 ranks wants at least 8 microbatches" in text
    assert "| 1F1B | idle in the step | `(p−1)(F+B)` | if messages are free | 9 | 9 |" in text


def test_an_unknown_name_is_refused(run):
    code, _, error = run("2f2b")
    assert code == 1 and "no schedule is called '2f2b'" in error


def test_the_page_says_what_the_simulator_says():
    assert without_recorded(PAGE.read_text("utf-8")) == without_recorded(page("--no-record"))


def test_without_a_recording_there_is_no_column_for_it_and_a_refusal_is_whole(run):
    said = run("1f1b dual_pipe_v -m 6 --no-record")[1]
    assert "recorded" not in said.lower()
    refused = "wants at least 8 microbatches, two for each rank, not 6: cut the batch into more, or"
    assert refused in " ".join(said.split())

"""``pipelab show`` and ``pipelab simulate``: schedules printed, predicted and compared."""

import json
import re
import subprocess
import sys

import pytest

from pipelab.cli.main import main
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b, validate
from pipelab.schedules.catalogue import BUILDERS, Builder, build
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations


@pytest.fixture
def run(capsys):
    """Run a command line; returns its exit code, stdout and stderr."""

    def run(line):
        code = main(line.split())
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a schedule file into the current folder; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.csv"):
        (tmp_path / name).write_text(text)
        return name

    return write


DEADLOCK = "0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n"
INCOMPLETE = "0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n"


# ------------------------------------------------------------------------------------- show


def test_show_prints_grid_activations_and_messages(run):
    code, output, errors = run("show interleaved -p 4 -m 8 -v 2")
    grid, _, facts = output.partition("\n\n")
    assert (code, errors) == (0, "")
    assert grid == str(build("interleaved", 4, 8, 2))
    facts = " ".join(facts.split())
    assert "rank 0: 5.5, rank 1: 4.5, rank 2: 3.5, rank 3: 2.5 (microbatches" in facts
    assert facts.endswith("messages in a step 112")


@pytest.mark.parametrize("name", BUILDERS)
def test_shown_csv_is_the_schedule_and_can_be_shown_again(name, run, file):
    _, text, _ = run(f"show {name} -p 3 -m 7 --csv")
    assert Schedule.from_csv(text).tokens == build(name, 3, 7).tokens
    assert run(f"show {file(text)} --csv") == (0, text, "")


def test_show_lowered_has_messages_and_steps(run):
    _, output, _ = run("show 1f1b -p 2 -m 2 --lowered")
    rows = [line.split()[2:] for line in output.splitlines()]
    assert rows == [[a.token for a in row] for row in lower(one_f_one_b(2, 2)).ranks]


def test_a_file_with_messages_is_judged_with_them_and_shown_without(run, file):
    text = lower(gpipe(2, 2)).to_csv()
    assert run(f"show {file(text)} --csv") == (0, gpipe(2, 2).to_csv(), "")
    assert run("show mine.csv --lowered")[1].replace(" ", "").count("SEND_F") == 2
    crossed = text.replace("1RECV_F0", "?").replace("1RECV_F1", "1RECV_F0").replace("?", "1RECV_F1")
    assert ">1RECV_F1<" in run(f"show {file(crossed)}")[2]
    assert json.loads(run(f"simulate {file(text)} --json")[1])["schedules"][0]["duration"] == 9


@pytest.mark.parametrize("text", ["\ufeff0F0,0B0\n", "0F0,,0B0\r\n", " 0F0 , 0B0\n"])
def test_show_reads_what_spreadsheets_and_torch_write(text, run, file):
    code, output, _ = run(f"show {file(text)}")
    assert code == 0
    assert output.startswith("mine.csv: 1 rank")
    assert "rank 0  0F0 0B0\n" in output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (INCOMPLETE, ["stage 0, microbatch 1: found 1 F, 0 B", "rank 0  0F0 >0F1< 0B0"]),
        (DEADLOCK, ["deadlock", "rank 1 cannot start 1F1", "the cycle: rank 0 -> rank 1"]),
        ("0F0,0X0\n", ["'0X0' is no token"]),
        ("", ["the schedule has no ranks"]),
    ],
    ids=["incomplete", "deadlock", "no token", "empty"],
)
@pytest.mark.parametrize("command", ["show", "simulate"])
def test_a_file_that_cannot_run_is_refused_with_its_name(command, text, words, run, file):
    code, output, errors = run(f"{command} {file(text)}")
    assert (code, output) == (1, "")
    assert errors.startswith("pipelab: mine.csv: ")
    assert all(word in errors for word in words), errors


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("show dapple", "no schedule is called 'dapple': choose from sequential, gpipe, 1f1b"),
        ("show dapple -p 3", "or name a CSV file"),
        ("show nowhere.csv", "cannot read nowhere.csv (No such file or directory): want one line"),
        ("show 1f1b -v 3", "-v 3 changes nothing here"),
        ("simulate 1f1b zero_bubble_v -v 3", "free in interleaved and looped_bfs only"),
        ("simulate --forward 10ms --latency 1", "forward 10 ms, latency 1 units: give all times"),
        ("simulate --latency 1ms", "forward 1 units, latency 1 ms: give all times a unit"),
    ],
)
def test_what_makes_no_schedule_is_refused_in_words(line, words, run):
    code, output, errors = run(line)
    assert (code, output) == (1, "")
    assert words in errors


def test_a_file_has_its_own_sizes(run, file):
    for line in ("show {} -p 4", "simulate {} -m 2", "show {} -v 2"):
        code, _, errors = run(line.format(file("0F0,0B0\n")))
        assert code == 1
        assert "leave -p and -m out" in errors or "changes nothing here" in errors


def test_a_file_that_is_no_text_is_refused(run, tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe0F0")
    code, _, errors = run(f"show {tmp_path / 'table.csv'}")
    assert code == 1
    assert "table.csv (it is not text): want one line per rank" in errors


def test_help_names_every_schedule(capsys):
    for command in ("show", "simulate"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        words = re.findall(r"\w+", capsys.readouterr().out)
        assert set(words) >= set(BUILDERS)


@pytest.mark.parametrize("line", ["show 1f1b", "simulate", "simulate gpipe --json"])
def test_neither_torch_nor_matplotlib_is_loaded(line):
    script = f"""
import sys
from pipelab.cli.main import main
assert main({line.split()}) == 0
assert not {{"torch", "matplotlib", "numpy"}} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# --------------------------------------------------------------------------------- simulate

# p, m, v: schedule -> duration at F = I = W = 1, bubble fraction, the fullest rank's activations
PAPERS = {
    (2, 4, 2): {
        "gpipe": (15, 0.2, 4),
        "1f1b": (15, 0.2, 2),
        "interleaved": (13.5, 0.1111, 2.5),
        "zero_bubble_h1": (13, None, 2),
        "zero_bubble_v": (12.5, None, 2),
    },
    (4, 8, 2): {
        "sequential": (96, 0.75, 1),
        "gpipe": (33, 0.2727, 8),
        "1f1b": (33, 0.2727, 4),
        "interleaved": (28.5, 0.1579, 5.5),
        "looped_bfs": (28.5, 0.1579, 8),
        "zero_bubble_h1": (27, 0.1111, 4),
        "zero_bubble_h2": (27, 0.1111, 7),
        "zero_bubble_v": (25.5, 0.0588, 4),
    },
    (4, 8, 4): {"interleaved": (26.25, 0.0857, 4.75)},
}


@pytest.mark.parametrize("sizes", PAPERS)
def test_the_table_that_papers_print(sizes, run):
    p, m, v = sizes
    line = f"simulate -p {p} -m {m} -v {v}"
    printed = {row.split()[0]: row.split()[1:] for row in run(line)[1].splitlines() if row}
    data = json.loads(run(f"{line} --json")[1])
    assert data["unit"] == "units"
    rows = {row["schedule"]: row for row in data["schedules"]}
    assert list(rows) == list(BUILDERS)
    for name, (duration, fraction, peak) in PAPERS[sizes].items():
        row = rows[name]
        assert row["duration"] == pytest.approx(duration)
        assert row["peak_activations"] == peak
        assert fraction is None or round(row["bubble_fraction"], 4) == fraction
        ideal = 3 * m
        assert row["bubble_overhead"] == pytest.approx((duration - ideal) / ideal)
        local = 1 if BUILDERS[name].stages_per_rank == 2 else 0  # the V turns on one rank
        assert row["messages"] == 2 * m * (p * row["stages_per_rank"] - 1 - local)
        stages, shown, share, _, overhead, _, most, messages = printed[name]
        assert (float(stages), float(shown)) == (row["stages_per_rank"], duration)
        assert float(share) == pytest.approx(100 * row["bubble_fraction"], abs=0.051)
        assert float(overhead) == pytest.approx(100 * row["bubble_overhead"], abs=0.051)
        assert (float(most), int(messages)) == (peak, row["messages"])


def test_equal_on_paper_different_with_latency(run):
    rows = json.loads(run("simulate gpipe 1f1b --latency 0.1 --json")[1])["schedules"]
    assert [row["duration"] for row in rows] == pytest.approx([33.6, 34.6])


def test_times_with_a_unit(run):
    line = "simulate 1f1b --forward 10ms --backward-weight 5000us --latency 0"
    data = json.loads(run(f"{line} --json")[1])
    assert data["unit"] == "s"
    cost = {"forward": 0.01, "backward_input": 0.01, "backward_weight": 0.005}
    cost |= {"overlapped": 0, "latency": 0}
    assert data["cost"] == pytest.approx(cost)
    assert data["schedules"][0]["duration"] == pytest.approx(0.275)  # (m+p-1)(F+B)
    output = run(line)[1]
    assert re.search(r"^1f1b +1 +275 ", output, re.MULTILINE)  # in forward's unit
    assert "F 10, I 10, W 5 ms" in output and "200 ms if no rank were ever idle" in output


def test_microbatches_of_unequal_lengths(run):
    line = "simulate gpipe 1f1b zero_bubble_h1 -p 4 --lengths 1,1,4,1,1,1,1,1"
    data = json.loads(run(f"{line} --json")[1])
    assert data["lengths"] == [1, 1, 4, 1, 1, 1, 1, 1]
    assert [row["microbatches"] for row in data["schedules"]] == [8] * 3
    durations = [row["duration"] for row in data["schedules"]]
    assert durations[0] == 33 + 3 * 3 * 4  # each further rank adds the longest once
    assert durations[2] < durations[1] < durations[0]
    assert "33 units if no rank were ever idle" in run(line)[1].replace("\n", " ")
    assert "microbatches of 1/1/4/1/1/1/1/1" in run(line)[1].replace("\n", " ")


def test_slices_share_the_cost_of_their_microbatch(run, file):
    path = file("0F0.0,0F0.1,0B0.1,0B0.0\n1F0.0,1F0.1,1B0.1,1B0.0\n")
    (row,) = json.loads(run(f"simulate {path} --json")[1])["schedules"]
    assert row["duration"] == pytest.approx(4.5)  # 3 of one rank's own, and half as many before it
    assert "1 microbatch of 2 slices" in run(f"show {path}")[1]


@pytest.mark.parametrize("lengths", ["1,2", "1,,2", "1,-1", "0,1", "a", "nan,1", "inf,1"])
def test_lengths_that_do_not_fit_are_refused(run, lengths):
    try:
        code, *_ = run(f"simulate 1f1b -p 2 -m 3 --lengths {lengths}")
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)


def test_one_schedule_is_a_timeline_as_wide_as_asked_for(run):
    for width in (60, 90):
        output = run(f"simulate 1f1b -p 2 -m 3 --width {width}")[1]
        rows = [line for line in output.splitlines() if line.endswith("% idle")]
        assert [len(row) for row in rows] == [width] * 2
        assert all("F0" in row and "B2" in row for row in rows)
        assert "predicted" in output
        assert re.search(r"└0 .*└10\b.* units$", output, re.MULTILINE)


def test_without_a_unit_the_timeline_does_not_speak_of_seconds(run):
    output = run("simulate gpipe --forward 0.001")[1]
    assert not re.search(r"\d (s|ms|µs)\b", output)


def test_a_refusal_is_a_line_of_the_table(run, file, monkeypatch):
    def refuses(p, m, v):
        raise ScheduleError(f"{m} microbatches are no multiple of {p} ranks: choose others\nmore")

    monkeypatch.setitem(BUILDERS, "interleaved", Builder("interleaved", refuses, None))
    code, output, _ = run("simulate -p 3 -m 8")
    assert code == 0  # nobody asked for it by name
    assert re.search(r"^interleaved +8 microbatches are no multiple of 3", output, re.MULTILINE)
    assert "more" not in output  # the reason's first line is enough here
    code, output, _ = run(f"simulate 1f1b {file(DEADLOCK)} dapple -m 2")
    assert code == 1
    assert re.search(r"^mine\.csv +deadlock: no rank can go on$", output, re.MULTILINE)
    assert re.search(r"^dapple +no schedule is called 'dapple'", output, re.MULTILINE)
    rows = json.loads(run("simulate mine.csv 1f1b --json")[1])["schedules"]
    assert rows[0]["refused"].startswith("deadlock: no rank can go on\n  rank 0 cannot")
    assert rows[1]["duration"] == 33


def test_rows_of_several_sizes_name_their_own(run, file):
    output = run(f"simulate 1F1B {file('0F0,0B0')} -p 2 -m 3")[1]
    assert re.search(r"^1f1b 2x3 +1 +12 ", output, re.MULTILINE)
    assert re.search(r"^mine.csv 1x1 +1 +3 ", output, re.MULTILINE)
    assert "if no rank" not in output  # there is no one ideal


@pytest.mark.parametrize("cost", ["", "--forward 10ms --latency 5ms"])
def test_best_shows_its_proof(cost, run):
    line = f"simulate --best -p 4 -m 8 --memory-limit 4 {cost}"
    code, output, _ = run(line)
    data = json.loads(run(f"{line} --json")[1])
    best = Schedule.from_csv(data["csv"])
    validate(best)
    assert code == 0
    assert max(peak_activations(best)) <= 4
    durations = [row["duration"] for row in data["tried"]]
    assert data["bound"] <= data["schedules"][0]["duration"] == durations[0] == min(durations)
    assert all(row["peak_activations"] <= 4 for row in data["tried"])
    assert {"1f1b", "zero_bubble_h1", "greedy"} <= {row["schedule"] for row in data["tried"]}
    left_out = "Above 4 microbatches on a rank: gpipe, eager_1f1b, zero_bubble_h2."
    assert left_out in " ".join(output.split())
    if not cost:
        assert data["bound"] == 27 == durations[0]
        assert "is shorter than 27 units" in output and "The best is there." in output

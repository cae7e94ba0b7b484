"""``pipelab run``: a schedule by name, from a file or a link, recorded on real ranks."""

import pytest

from pipelab.cli.main import main, parse
from pipelab.cli.run import job_of
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost
from pipelab.trace import Trace


def asked(line: str):
    return job_of(parse(["run", *line.split()]))


def test_it_is_recorded_shown_and_saved(tmp_path, capsys):
    line = f"run --schedule gpipe -p 2 -m 2 --forward 5ms --steps 1 --width 80 --output {tmp_path}"
    assert main(line.split()) == 0
    output = capsys.readouterr().out
    for words in ("predicted", "recorded", "bubble fraction 33.3 %", "rank 1 WAIT", "paced F 5 ms"):
        assert words in output, words
    trace = Trace.load(tmp_path / "trace.json")
    assert (trace.source, trace.setting.schedule, trace.setting.microbatches) == (
        "recorded", "gpipe", 2
    )  # fmt: skip
    page = (tmp_path / "timeline.html").read_text("utf-8")
    assert '"ghost_data": {"base64": "' in page and '"source": "predicted"' in page
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_a_playgrounds_link_runs_as_fast_as_it_goes(tmp_path, capsys):
    link = "#p=2&m=2&t=FFB1B0-FFB1B0"
    assert main(["run", "--schedule", link, "--unpaced", "--steps", "1",
                 "--output", str(tmp_path)]) == 0  # fmt: skip
    trace = Trace.load(tmp_path / "trace.json")
    first = [f"{e.stage}{e.kind}{e.microbatch}" for e in trace.events if e.rank == 1]
    order = [token for token in first if token[1] in "FB"]
    assert order == ["1F0", "1F1", "1B1", "1B0"] and not trace.setting.paced
    assert "as fast" not in capsys.readouterr().err


def test_a_name_a_file_and_a_link_ask_for_the_same(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(gpipe(4, 8).to_csv(), "utf-8")
    cost = Cost(0.010, 0.010, 0.010)
    by_name, by_link, by_file = (asked(f"--schedule {s}") for s in ("GPipe", "#s=gpipe", path))
    assert by_name.schedule.tokens == by_file.schedule.tokens == by_link.schedule.tokens
    assert by_name.cost == by_file.cost == by_link.cost == cost
    assert asked("-p 2 -m 3").schedule == one_f_one_b(2, 3)
    assert asked("--unpaced").cost is None


def test_times_are_of_a_ranks_slice_which_its_stages_share():
    by_name = asked("--schedule interleaved --forward 20ms --latency 1ms").cost
    assert by_name == asked("--schedule #s=interleaved&f=20&i=20&w=20&l=1").cost
    assert by_name == Cost(0.010, 0.010, 0.010, latency=0.001)
    assert asked("--schedule #f=10,20,10,10").cost.forward == (0.01, 0.02, 0.01, 0.01)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--unpaced --forward 10ms", "leave --forward out"),
        ("--schedule #s=gpipe -p 4 --latency 1ms", "leave -p, --latency out"),
        ("--forward 10", "give each time a unit"),
        ("--schedule nosuch", "no schedule is called 'nosuch'"),
        ("--schedule #t=BF", "move 0F0 up"),
        ("--schedule #s=what", "no schedule is called 'what'"),
        ("--schedule #f=1,2", "has 2 numbers"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_process_starts(line, words, capsys, tmp_path):
    assert main(["run", *line.split(), "--output", str(tmp_path)]) == 1
    assert words in capsys.readouterr().err
    assert not any(tmp_path.iterdir())

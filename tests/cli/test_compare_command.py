"""``pipelab compare``: one schedule predicted, run by pipelab, and run by PyTorch's engine."""

import pytest

from pipelab.cli.compare_engines import summary, timelines
from pipelab.cli.main import main
from pipelab.cli.recordings import Turns, typical
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace


def trace(seconds):
    return simulate(one_f_one_b(2, 2), Cost(seconds, seconds, seconds))


def test_all_three_are_shown_and_saved(tmp_path, capsys):
    line = f"compare gpipe -p 2 -m 2 --steps 3 --width 80 --output {tmp_path}"
    assert main(line.split()) == 0
    output = capsys.readouterr().out
    for words in ("predicted", "pipelab", "torch", "3 turns", "Where the time goes", "rank 1 WAIT"):
        assert words in output, words
    predicted, torchs = (Trace.load(tmp_path / f"trace-{x}.json") for x in ("predicted", "torch"))
    assert predicted.setting.schedule == torchs.setting.schedule == "gpipe"
    assert torchs.setting.backend == "torch.distributed.pipelining, gloo"
    for name in ("timeline-predicted.png", "timeline-torch.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_ratios_are_taken_turn_by_turn():
    turns = Turns([trace(0.1), trace(0.2), trace(0.4)], [trace(0.2), trace(0.2), trace(0.2)])
    assert turns.ratios == pytest.approx([2.0, 1.0, 0.5])
    assert "torch / pipelab, turn by turn: 1.00 (from 0.50 to 2.00, 3 turns)" in summary(turns, 1.8)
    assert typical(turns.ours) is turns.ours[1]


def test_a_second_is_as_wide_in_each_timeline():
    lines = timelines({"slow": trace(0.2), "fast": trace(0.1)}, columns=110)
    slow, fast = (lines[i].splitlines()[0].split("  ")[0] for i in (1, 3))
    assert len(slow) / len(fast) == pytest.approx(2, rel=0.2)


def test_a_schedule_that_is_none_is_refused_in_words(capsys, tmp_path):
    assert main(f"compare nosuch --output {tmp_path}".split()) == 1
    assert "no schedule is called 'nosuch'" in capsys.readouterr().err


@pytest.mark.timing
def test_a_pace_is_kept_by_both_engines_and_predicted(tmp_path, capsys):
    line = f"compare 1f1b -p 2 -m 2 --steps 3 --pace 10ms --width 80 --output {tmp_path}"
    assert main(line.split()) == 0
    output = capsys.readouterr().out
    assert "at the set pace" in output and "cores here" not in output
    names = ("predicted", "pipelab", "torch")
    predicted, ours, torchs = (Trace.load(tmp_path / f"trace-{x}.json") for x in names)
    assert (predicted.source, ours.source) == ("predicted", "recorded")  # once the two were one
    assert predicted.duration == pytest.approx((2 + 1) * 0.030)  # (m + p - 1)(F + B)
    for trace in (ours, torchs):
        assert "F 10 ms" in trace.setting.paced
        assert 0.9 < trace.duration / predicted.duration < 1.5


@pytest.mark.parametrize("pace", ["10", "0ms"])
def test_a_pace_is_a_time(pace, capsys, tmp_path):
    assert main(f"compare --pace {pace} --output {tmp_path}".split()) == 1
    assert f"--pace {pace.rstrip('ms')} is not the time of a device" in capsys.readouterr().err

"""The benches run, compare what computes the same, and leave no process. Times are not judged."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import torch

from pipelab.bench.__main__ import _parser
from pipelab.bench.cases import cases
from pipelab.bench.first_step import bench_first_step
from pipelab.bench.launch import launch_torchrun
from pipelab.bench.limit import Alone, computations
from pipelab.bench.step import SCHEDULES, Case, bench_cases, jobs, mean_of, step_table
from pipelab.bench.workloads import workload
from pipelab.errors import PipelabError
from pipelab.schedules import one_f_one_b, zero_bubble_h1, zero_bubble_v
from tests.benchmarks.__main__ import main, parser

ROOT = Path(__file__).parents[2]
MARK = "PIPELAB_TEST_MARK"  # in the environment of the bench and of all that it starts


def bench(*arguments: str) -> None:
    """Run the bench as a user would; none of its processes may be left."""
    mark = str(uuid.uuid4())
    result = subprocess.run(
        [sys.executable, "-m", "pipelab.bench", *arguments],
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "(quartiles)" in result.stdout
    deadline = time.monotonic() + 10.0
    while left := [process for process in psutil.process_iter() if _has(process, mark)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def test_simulate_counts_actions_time_and_memory(tmp_path, capsys):
    path = tmp_path / "simulate.json"
    assert main(["simulate", "--quick", "--repeats", "1", "--json", str(path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()[1:]
    assert head.split()[-4:] == ["µs/action", "growth", "peak", "MB"]
    assert [line.split()[:4] for line in lines] == [
        ["8", "x", "32", "1,024"],
        ["16", "x", "64", "4,096"],
    ]
    small, large = json.loads(path.read_text("utf-8"))["rows"]
    assert small["growth"] == 1
    assert large["growth"] == pytest.approx(large["per_action"] / small["per_action"])
    # memory is linear: four times as many actions, four times as many bytes, give or take
    assert 3 < large["peak_bytes"] / small["peak_bytes"] < 5


def check_ratio(ratio: dict[str, float]) -> None:
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


def test_step_compares_the_same_computation(tmp_path):
    path = tmp_path / "step.json"
    bench("step", "--quick", "--limit", "--json", str(path))
    result = json.loads(path.read_text("utf-8"))
    assert result["bench"] == "step"
    assert result["machine"]["cores"] >= 1 and result["machine"]["torch"]
    assert result["settings"]["recording"] is True
    assert [case["schedule"] for case in result["cases"]] == ["1f1b"]
    for case in result["cases"]:
        assert (case["model"], case["ranks"], case["microbatches"]) == ("mlp", 2, 8)
        assert case["loss"]["ours"] == pytest.approx(case["loss"]["torch"], rel=1e-5)
        assert case["gradient_difference"] <= 1e-5
        times = case["seconds_per_step"]
        assert len(times["ours"]) == len(times["torch"]) == len(times["limit"]) == 3
        check_ratio(case["ours_over_limit"])
        check_ratio(case["ours_over_torch"])


@pytest.mark.parametrize("schedule", [one_f_one_b(2, 4), zero_bubble_h1(2, 4), zero_bubble_v(2, 4)])
def test_the_limit_is_the_same_computation_alone(schedule):
    """Each rank does all its forwards and backwards, on one microbatch that stands for all."""
    work = workload("mlp", schedule.num_stages)
    rows, names = len(work.inputs) // 4, [name for name, _ in work.model.named_parameters()]
    loss = 4 * work.loss(work.model(work.inputs[:rows]), work.targets[:rows])
    gradients = torch.autograd.grad(loss, [*work.model.parameters()])
    found = [Alone(computation) for computation in computations(work, schedule)]
    losses = [alone.step() for alone in found]
    assert [loss for loss in losses if loss is not None] == [pytest.approx(loss.item())]
    last = schedule.num_stages - 1
    (home,) = (alone for alone in found if alone.last == last)
    theirs = dict(zip(names, gradients, strict=True))
    for name, parameter in home.computation.stages[last].named_parameters():
        assert torch.allclose(parameter.grad, theirs[name], rtol=1e-4)
    assert not any(alone.kept for alone in found)


def test_step_refuses_to_time_what_differs(monkeypatch):
    """The loss is one on our side, another on torch's: nothing is timed."""

    def others(work, case):
        return jobs(work._replace(targets=work.targets.flip(0)), case)

    monkeypatch.setattr("pipelab.bench.step.jobs", others)
    with pytest.raises(PipelabError, match="do not compute the same"):
        next(bench_cases([Case("mlp", "gpipe", 2, 8, 1, 0.01)]))


def test_each_schedule_runs_on_both_sides_or_torch_says_why_not():
    # /proc/stat counts hundredths of a second: a block holds many of them
    line = "--models mlp --ranks 2 --microbatches 4 --blocks 1 --seconds 0.1 --schedules"
    chosen = cases(_parser().parse_args(["step", *line.split(), *SCHEDULES]))
    assert [case.schedule for case in chosen] == [*SCHEDULES]
    results = [*bench_cases([*chosen, Case("mlp", "1f1b", 2, 1, 1, 0.01)])]
    for result in results[:-1]:
        assert len(result.ours) == len(result.torch) == 1 and result.gradient_difference <= 1e-5
        assert result.loss[0] == pytest.approx(result.loss[1], rel=1e-5)
        # two ranks and a parent cannot use more than three processors at once
        if sys.platform != "linux":  # only its /proc has these
            continue
        assert 0 < result.cpu[0] <= 3 * result.ours[0] + 0.02 and 0 < result.cpu_ratio < 5
        assert 0 <= result.others <= 1.1
    refused = results[-1]
    assert "greater than or equal to the number of stages" in refused.refusal
    assert len(refused.ours) == 1 and refused.ratio is None
    text = step_table(results)
    assert f"geometric mean {mean_of(results):.2f} over {len(SCHEDULES)} points" in text
    assert f"torch refuses: {refused.refusal}" in text


def test_the_grid_has_all_points():
    points = cases(parser().parse_args(["grid"]))
    found = {case[:4] for case in points}
    assert len(found) == len(points) == 2 * 3 * len(SCHEDULES) * 4
    assert ("medium gpt", "zero_bubble_h1", 8, 32) in found
    # torch's ranks are started once for each number of ranks
    assert [case.num_ranks for case in points] == sorted(case.num_ranks for case in points)


def test_memory_of_both_sides(tmp_path, capsys):
    """Torch keeps a buffer for each of m microbatches for good, 1F1B needs one or two."""
    path = tmp_path / "memory.json"
    line = f"memory --models mlp --ranks 2 --microbatches 32 --schedules 1f1b --json {path}"
    assert main(line.split()) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == ["mlp", "2", "32", "1f1b"]
    (case,) = json.loads(path.read_text())["cases"]
    for rank in range(2):
        ours, theirs = case["ours"][rank], case["torch"][rank]
        assert theirs["buffers"] == 32 * (2 * 64 * 4)  # m microbatches of 2 rows, 64 wide
        assert 0 < ours["buffers"] <= 2 * (2 * 64 * 4)
        assert 10**6 < ours["at_rest"] <= ours["peak"] and theirs["at_rest"] > 10**6


@pytest.mark.slow
def test_torchruns_last_lines_are_in_the_error(monkeypatch, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such luck')", "utf-8")
    monkeypatch.setattr("pipelab.bench.launch._SCRIPT", script)
    with pytest.raises(PipelabError, match="torchrun ended with code 1"):
        launch_torchrun(1)


@pytest.mark.slow
def test_launch_compares_with_torchrun(tmp_path):
    path = tmp_path / "launch.json"
    bench("launch", "--repeats", "1", "--opened", "2", "--json", str(path))
    result = json.loads(path.read_text("utf-8"))
    assert result["bench"] == "launch" and result["settings"]["ranks"] == 4
    for who in ("ranks", "pipeline", "torchrun"):
        assert [t["total"] >= t["joined"] > 0 for t in result["times"][who]] == [True]
    for ratios in result["torchrun_over_ours"].values():
        check_ratio(ratios["joined"])
        check_ratio(ratios["total"])
    assert len(result["first_step"]["waits"]["both"]) == 2


def test_first_step_is_the_sum_of_its_parts():
    found = bench_first_step(2, 2)
    waits, processor = found.waits, found.processor
    assert {name: len(times) for name, times in waits.items()} == {
        "both": 2, "new": 2, "first": 2, "use": 8, "step": 8,
    }  # fmt: skip
    assert waits["both"] == [a + b for a, b in zip(waits["new"], waits["first"], strict=True)]
    assert min(waits["use"] + waits["step"]) > 0
    if sys.platform == "linux":  # only its /proc has these; a step of two ranks takes two of them
        assert all(0 < time < 5 for times in processor.values() for time in times)
    first, *lines = str(found).splitlines()
    assert first.split() == ["ms", "(quartiles)"]
    assert lines[0].startswith("new pipeline and first step  ") and lines[-1].count("to") == 1


def test_tracing_compares_recorded_with_silent_steps(capsys, tmp_path):
    path = tmp_path / "tracing.json"
    arguments = ["tracing", "--models", "mlp", "--ranks", "2", "--blocks", "2", "--seconds", "0.02"]
    assert main([*arguments, "--json", str(path)]) == 0
    assert "recorded / silent" in capsys.readouterr().out
    (case,) = json.loads(path.read_text())["cases"]
    assert len(case["recorded"]) == len(case["silent"]) == 2
    assert sys.platform != "linux" or 0.2 < case["cpu"] < 5


def test_recording_compares_recorded_with_plain_steps_under_torchrun(capsys, tmp_path):
    path = tmp_path / "recording.json"
    arguments = ["recording", "--models", "mlp", "--schedules", "1f1b", "--blocks", "2"]
    assert main([*arguments, "--seconds", "0.01", "--json", str(path)]) == 0
    assert "recorded over plain" in capsys.readouterr().out
    (case,) = json.loads(path.read_text())["cases"]
    assert [len(case["wall"][side]) for side in ("recorded", "plain", "again")] == [2, 2, 2]
    # of 8 microbatches F and B on 4 ranks; RECV, WAIT and SEND of both between them
    assert case["events"] == 8 * (2 * 4 + 3 * 2 * 3)
    assert 0 < case["alone"] < 1e-3 and case["end"] > 0


def test_soak_counts_what_is_left(capsys):
    from tests.benchmarks.soak import Held, Part, soak_table

    assert main(["soak", "--opened", "2", "--steps", "8", "--at-once", "2"]) == 0
    assert "8 steps on one" in capsys.readouterr().out
    left = Part("x", Held(1, 2, 3, 10**6), Held(2, 2, 3, 3 * 10**6), (5 * 10**6,))
    assert not left.is_clean
    assert soak_table([left]).splitlines()[-1].split() == ["x", "1", "0", "0", "+2.0", "5"]


def test_options_by_their_earlier_names(capsys):
    with pytest.raises(SystemExit) as left:
        _parser().parse_args(["step", "--grid"])
    assert left.value.code == 2
    assert "python -m tests.benchmarks grid" in capsys.readouterr().err
    assert _parser().parse_args(["step", "--pin-torch"]).torch_affinity


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--json .", ". is a folder: name a file"),
        ("--json no/such.json", "no file can be written in no"),
        ("--seconds -1", "'-1' is not a time above 0"),
        ("--seconds nan", "'nan' is not a time above 0"),
        ("--blocks 0", "'0' is not a number of 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(option, words, capsys):
    with pytest.raises(SystemExit) as left:
        _parser().parse_args(["step", *option.split()])
    assert left.value.code == 2 and words in capsys.readouterr().err

"""Numbers that a lesson states in prose, compared with the run that it is stored with.

What is deterministic is compared by nbval in the notebook itself; times are judged as ratios.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelab.errors import RankOutOfMemory
from pipelab.lessons.edition import read
from pipelab.lessons.trials import share
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
from pipelab.widgets import TimelineLab
from pipelab.widgets.settings import Settings
from pipelab.widgets.settings import part as share_of
from tests.lessons.hidden_outputs import hidden

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def said(number: str, cell: str) -> str:
    """What a cell printed or returned when its notebook was stored, as text."""
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    (found,) = [c for c in read(path).cells if c.id == cell]
    outputs = found.outputs or hidden(number, cell)
    texts = (o.get("text") or o.data["text/plain"] for o in outputs)
    return "\n".join(texts)


def numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in re.findall(r"-?\d[\d,]*\.?\d*", text)]


@pytest.mark.parametrize(("cell", "minutes"), [("alone", 18), ("together", 8), ("reversed", 13)])
def test_01_minutes(cell, minutes):
    assert numbers(said("01", cell))[0] == pytest.approx(minutes, rel=0.05)


def test_02_a_quarter_and_a_third():
    rows = [numbers(line)[1:] for line in said("02", "table").splitlines() if "rank" in line]
    whole, *parts = rows
    for part in parts:
        assert [n / w for n, w in zip(part[:3], whole, strict=False)] == pytest.approx(
            [1 / 4] * 3, rel=1e-4
        )
        assert part[3] == pytest.approx(whole[3] / 3, rel=5e-3)  # the loss saves a little, too
    assert sum(map(sum, parts)) > sum(whole)
    assert sum(whole[:3]) == pytest.approx(8.4, rel=0.01)  # MB
    assert sum(whole[:2]) == pytest.approx(4.2, rel=0.01)


def test_02_where_the_memory_ends():
    one, two, four = [line for line in said("02", "failure").splitlines() if line.strip()]
    assert "in 0B0" in one and "STEP" in two and four == "p = 4: trains"


def test_03_a_quarter_computes_and_nothing_is_won():
    assert 0.2 < numbers(said("03", "reveal"))[0] <= 0.25
    assert 0.7 < numbers(said("03", "reveal-speed"))[0] <= 1.05
    assert 0.75 <= numbers(said("03", "sequential"))[0] < 0.85
    one, four = (numbers(line)[0] for line in said("03", "speed").strip().splitlines())
    assert 0.7 < one / four <= 1.05


def test_03_prints_the_loop_and_loads_no_other_worker():
    script = """
import inspect, sys
from pipelab.engine.rank.worker import Worker
print(inspect.getsource(Worker.run_step))
assert "torch.distributed.pipelining" not in sys.modules
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == said("03", "loop")
    assert "for action in self.actions:" in done.stdout


def test_04_points_lie_on_the_formula_or_a_little_above():
    rows = [numbers(line)[1:] for line in said("04", "sweep").splitlines() if line[0].isdigit()]
    assert [row[0] for row in rows] == [1, 2, 4, 8, 16]
    for m, recorded, formula in rows:
        assert formula == pytest.approx(3 / (m + 3), abs=0.006)
        assert formula - 0.01 <= recorded < formula + 0.12
    shares = [row[1] for row in rows]
    assert shares == sorted(shares, reverse=True)


def test_04_more_microbatches_are_not_always_faster():
    assert numbers(said("04", "reveal-more"))[0] > 1.5
    rows = [numbers(line) for line in said("04", "device").splitlines() if "ms" in line]
    step = {int(row[0]): row[1] for row in rows}
    assert step[16] < 0.5 * step[1]
    assert step[64] > 0.9 * step[16]  # a quiet machine: 186 / 203, as the simulator says


def test_05_only_weighting_by_rows_is_right():
    added, means, weighted = (
        numbers(line.partition("off by")[2])[0] if "e-" not in line else 1e-6
        for line in said("05", "ragged").strip().splitlines()
    )
    assert added > 1 and means > 0.1 and weighted <= 1e-6
    assert numbers(said("05", "reveal"))[0] == 4


def test_05_adam_hides_what_sgd_shows():
    rows = [numbers(line.partition("right")[2] or line.partition("wrong")[2])
            for line in said("05", "adam").splitlines() if line.strip()]  # fmt: skip
    adam, adam_wrong, sgd, sgd_wrong = rows
    assert adam == adam_wrong
    assert sgd[0] == sgd_wrong[0] and abs(sgd[1] - sgd_wrong[1]) > 0.1
    assert sgd_wrong[-1] < sgd_wrong[0], "even the wrong one falls"


def test_06_twice_the_ranks_twice_the_layers():
    text = said("06", "grow")
    found = re.findall(r"p = (\d): (\d+) layers train", text)
    assert found == [("1", "5"), ("2", "10"), ("4", "20")]
    assert text.count("ran out of memory in") == text.count("STEP (") == 3
    assert numbers(said("06", "reveal"))[0] == 20
    held, budget, parameters, gradients, _ = numbers(said("06", "width").partition("it held")[2])[
        :5
    ]
    assert held > budget == 1.5e6 and parameters + gradients > budget, "one layer alone"


def test_06_faster_but_never_p_times():
    rows = [numbers(line) for line in said("06", "speed").splitlines() if "%" in line]
    assert [row[0] for row in rows] == [1, 2, 4]
    for p, _, _, times, efficiency in rows:
        assert 0.85 * 16 * p / (15 + p) < times < 1.03 * 16 * p / (15 + p)
        assert efficiency == pytest.approx(100 * times / p, abs=1)
    assert "equal bit for bit: True" in said("06", "learn")
    one, four = (float(x) for x in re.findall(r"took (\d\.\d+) s", said("06", "learn")))
    assert four < 0.6 * one


def test_06_more_ranks_are_not_always_faster():
    rows = [numbers(line) for line in said("06", "limit").splitlines() if "#" in line]
    assert [row[0] for row in rows] == [1, 2, 4, 8]
    free, dear = [row[1] for row in rows], [row[2] for row in rows]
    assert free == sorted(free, reverse=True)
    assert dear[3] > 1.05 * min(dear)
    eight, *_ = [numbers(line) for line in said("06", "eight").splitlines() if "idle" in line]
    assert eight[-1] > 80 and round(100 * 7 / 11) == 64
    on_paper = [
        [1000 * simulate(gpipe(p, 4), share(0.4, p, 4, latency)).duration for p in (1, 2, 4, 8)]
        for latency in (0.0, 0.012)
    ]
    assert pytest.approx(on_paper[0], abs=0.51) == [400, 250, 175, 138]
    assert pytest.approx(on_paper[1], abs=0.51) == [400, 274, 247, 305]


def test_06_cores_bound_what_is_not_paced():
    cores, *_ = numbers(said("06", "cores"))
    times = [numbers(line)[2] for line in said("06", "cores").splitlines() if "times" in line]
    assert times[0] == 1 and max(times) < 1.1 * cores


def test_06_answers_beside_the_lab():
    """The lab's model and pace: on paper the seconds, on real ranks the bytes."""
    whole = Cost(0.3, 0.3, 0.3, latency=0.012)

    def milliseconds(p: int, m: int, schedule: str = "gpipe") -> float:
        settings = Settings(p, m, schedule, share_of(whole, p * m))
        return settings.prediction.duration * 1000

    def near(*stated: int) -> object:
        return pytest.approx(stated, abs=0.6)

    assert tuple(milliseconds(p, 16) for p in (1, 2, 4, 8)) == near(900, 502, 339, 330)
    assert tuple(milliseconds(p, 2) for p in (1, 2, 4, 8)) == near(900, 699, 635, 674)
    assert (milliseconds(4, 8, "1f1b"), milliseconds(8, 8)) == near(501, 379)
    lab = TimelineLab(4, 8, "1f1b", paced=False, budget=3_000_000)
    lab.wait()
    lab.set_state({"num_ranks": 8, "schedule": "gpipe"})
    lab.wait()
    lab.num_ranks = 4
    with pytest.raises(RankOutOfMemory, match="backward"):
        lab.wait()
    lab.close()

"""Numbers that a lesson states in prose, held against the run that it is stored with.

What is deterministic is compared by nbval in the notebook itself; times are judged as ratios.
"""

import re
from pathlib import Path

import pytest

from pipelab.lessons.edition import read

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def said(number: str, cell: str) -> str:
    """What a cell of a stored notebook printed or returned, as text."""
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    (found,) = [c for c in read(path).cells if c.id == cell]
    texts = (o.get("text") or o.data["text/plain"] for o in found.outputs)
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
        assert part[3] == pytest.approx(whole[3] / 3)
    assert sum(map(sum, parts)) > sum(whole)
    assert sum(whole[:3]) == pytest.approx(8.4e6, rel=0.01)
    assert sum(whole[:2]) == pytest.approx(4.2e6, rel=0.01)


def test_02_where_the_memory_ends():
    one, two, four = [line for line in said("02", "failure").splitlines() if line.strip()]
    assert "in 0B0" in one and "STEP" in two and four == "p = 4: trains"


def test_03_a_quarter_computes_and_nothing_is_won():
    assert 0.2 < numbers(said("03", "reveal"))[0] <= 0.25
    assert 0.7 < numbers(said("03", "reveal-speed"))[0] <= 1.05
    assert 0.75 <= numbers(said("03", "sequential"))[0] < 0.85
    one, four = (numbers(line)[0] for line in said("03", "speed").strip().splitlines())
    assert 0.7 < one / four <= 1.05

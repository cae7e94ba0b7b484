"""What the stored lessons show to somebody who has run nothing, and what they promise."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
START = next(path for path in NOTEBOOKS if path.name == "00_start_here.ipynb")


def cells(path: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_code_cells_fit_on_a_screen(path):
    for cell in cells(path, "code"):
        lines = "".join(cell["source"]).splitlines()
        assert len(lines) <= 20
        assert max(map(len, lines)) <= 90


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_picture_has_words(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            data = output.get("data", {})
            assert "image/svg+xml" not in data, "untrusted notebooks drop SVG"
            if "image/png" in data:
                html = "".join(data["text/html"])
                assert re.search(r'<img alt="[^"]{60,}" src="data:image/png', html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_some_cell_is_compared(path):
    tags = [cell["metadata"].get("tags", []) for cell in cells(path, "code")]
    assert ["nbval-check-output"] in tags, "a lesson that compares nothing proves little"


def test_start_here_is_five_cells_with_a_question_before_each_run():
    assert len(cells(START, "code")) == 5
    text = "\n".join("".join(cell["source"]) for cell in cells(START, "markdown"))
    assert text.count("**Predict") == 3  # before the first run, the lab, the check
    for lesson in range(1, 13):
        assert f"\n| {lesson} |" in text


def test_start_here_shows_a_lab_without_a_kernel():
    lab = cells(START, "code")[3]["outputs"][-1]["data"]
    assert {"image/png", "text/html", "text/plain"} <= set(lab)
    assert "run this cell to get the controls" in "".join(lab["text/html"])

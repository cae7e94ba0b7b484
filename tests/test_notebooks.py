"""What the stored lessons show to somebody who has run nothing, and what they promise."""

import json
import re
from pathlib import Path

import pytest

from tests.lessons.hidden_outputs import ANSWERS, hidden
from tests.lessons.minutes import estimate, stated

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
RUN = re.compile(
    r"\bPipeline\(|\bTimelineLab\(|\bkitchen_lab\(|verify_gradients\(|\bcook\(|\brun\(|\btrain\("
)
START = next(path for path in NOTEBOOKS if path.name == "00_start_here.ipynb")


def cells(path: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_code_cells_fit_on_a_screen(path):
    for cell in cells(path, "code"):
        lines = "".join(cell["source"]).splitlines()
        assert len(lines) <= 15
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


def test_start_here_is_few_cells_with_a_question_before_each_run():
    ids = [cell["id"] for cell in cells(START, "code")]
    assert ids == [
        "schedule",
        "predict",
        "model",
        "run",
        "reveal",
        "look",
        "lab",
        "check",
        "progress",
    ]
    text = "\n".join("".join(cell["source"]) for cell in cells(START, "markdown"))
    assert text.count("**Predict") == 3  # before the first run, the lab, the check
    for lesson in range(1, 13):
        assert f"\n| {lesson} |" in text


def test_start_here_shows_a_lab_without_a_kernel():
    (lab,) = [cell["outputs"][-1]["data"] for cell in cells(START, "code") if cell["id"] == "lab"]
    assert {"image/png", "text/html", "text/plain"} <= set(lab)
    assert "run this cell to get the controls" in "".join(lab["text/html"])


# ------------------------------------------------------------------------ lessons 1 and later

LESSONS = pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path != START], ids=lambda path: path.name
)


def text_of(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path, kind)]


@LESSONS
def test_lesson_says_what_it_is_for_and_how_long_it_takes(path):
    title = text_of(path, "markdown")[0]
    assert re.match(rf"# Lesson {int(path.name[:2])} · ", title)
    assert re.search(r"\*About (3[05]|40) minutes\.", title)
    goals = title.partition("**After this lesson you can**")[2]
    assert len(re.findall(r"^[123]\. ", goals, re.MULTILINE)) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stated_minutes_are_those_of_a_first_reader(path):
    """By the rule of ``tests/lessons/minutes.py``, without the optional parts."""
    assert estimate(path) == pytest.approx(stated(path), rel=0.1)


def test_the_course_page_states_the_minutes_of_the_lessons():
    page = (START.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (\d+) \|", page, re.MULTILINE)
    assert rows == [(str(int(path.name[:2])), str(stated(path))) for path in NOTEBOOKS]


@LESSONS
def test_prediction_comes_before_the_first_run(path):
    code = text_of(path, "code")
    first_prediction = next(i for i, source in enumerate(code) if "predict(" in source)
    first_run = next(i for i, source in enumerate(code) if RUN.search(source))
    assert first_prediction < first_run
    names = re.findall(r'predict\("([^"]+)"', "\n".join(code))
    assert names == re.findall(r'reveal\("([^"]+)"', "\n".join(code)), "each is revealed, in order"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_stored_output_answers_a_prediction(path):
    """From the question to ``reveal``, only what is compared, and so the same for all, is shown.

    Not even that where it is tagged as an answer: it is compared with what is stored elsewhere.
    """
    asked: set[str] = set()
    for cell in cells(path, "code"):
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        new = set(re.findall(r'^predict\("([^"]+)"', source, re.MULTILINE))
        if asked and not new:
            assert not cell["outputs"] or tags == ["nbval-check-output"], source
        if ANSWERS in tags:
            assert not cell["outputs"] and hidden(path.name[:2], cell["id"]), source
        asked = (asked | new) - set(re.findall(r'^reveal\("([^"]+)"', source, re.MULTILINE))
        if "reveal(" in source:
            assert not cell["outputs"], source
    assert not asked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_predicted_on_paper_is_not_shown_below_the_question(path):
    """Cells right below a question show nothing; a lab begins with what everybody knows."""
    question = False
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            question = "> **Predict" in source and "Predict, then try" not in source
        elif question and "predict(" not in source:
            assert not cell["outputs"], source
            question = "reveal(" not in source


@LESSONS
def test_choices_stand_in_the_text(path):
    from pipelab.lessons.chapters import chapter_of

    text = "\n".join(text_of(path, "markdown"))
    for name, prediction in chapter_of(path.name[:2]).predictions.items():
        for letter, choice in getattr(prediction, "choices", {}).items():
            assert f"- `{letter}`: {choice.text}" in text, f"{name} {letter}: {choice.text}"


@LESSONS
def test_one_lab_with_three_controls(path):
    from pipelab.widgets import lab

    code = "\n".join(text_of(path, "code"))
    assert len(re.findall(r"\b(?:TimelineLab|kitchen_lab)\(", code)) == 1
    assert "ipywidgets" not in code
    assert lab._SETTINGS[:3] == ("num_ranks", "num_microbatches", "schedule")


@LESSONS
def test_every_picture_has_a_table_twin(path):
    pictures = [
        output["data"]
        for cell in cells(path, "code")
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert all("The same as a table</summary>" in "".join(p["text/html"]) for p in pictures)


@LESSONS
def test_lesson_ends_with_reflection_summary_words_and_production(path):
    text = text_of(path, "markdown")[_reflection(path)]
    marks = ("**Think about it.**", "**In three lines**", "| new word |", "**Where production")
    places = [text.find(mark) for mark in marks]
    assert -1 not in places and places == sorted(places)
    summary = text[places[1] : places[2]]
    assert len(re.findall("^- ", summary, re.MULTILINE)) == 3


def _reflection(path: Path) -> int:
    """Which of the markdown cells ends the lesson: only optional parts and links follow it."""
    ids = [cell["id"] for cell in cells(path, "markdown")]
    place = ids.index("reflect")
    parts = text_of(path, "markdown")[place + 1 : -1]
    assert ids[-1] == "way-end" and (not parts or parts[0].startswith("## Optional"))
    assert not any(re.match(r"## (?!Optional)", part) for part in parts)
    return place


@LESSONS
def test_prose_comes_in_short_cells(path):
    texts = text_of(path, "markdown")
    del texts[_reflection(path)]
    for source in texts:
        assert len(source.splitlines()) <= 30
        assert len(source.split()) <= 260, source[:80]


@LESSONS
def test_exercises_have_dots_and_minutes(path):
    text = "\n".join(text_of(path, "markdown"))
    assert len(re.findall(r"^## .* · [●○]{3} · \d+ minutes$", text, re.MULTILINE)) == 2

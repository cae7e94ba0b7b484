"""How many minutes a lesson takes somebody who reads it for the first time: an estimate, by rule.

    what                                                              minutes
    prose, as by a reader whose second language is English            1 for 150 words
    a question that is answered before a run                          1
    a cell that runs something, with its output                       1
    a cell that only defines or imports, or compares a prediction     ½
    the lab, with the questions above it                              3, and their words
    an exercise                                                       as its heading says
    the reflection at the end                                         2

Without the optional parts, and without tables that are looked things up in. ``python -m
tests.lessons.minutes`` prints it for all lessons. Nobody but the authors was measured yet.
"""

import json
import re
from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
STATED = re.compile(r"\*About (\d+) minutes\.")
OPTIONAL = "## Optional"
_WORDS_A_MINUTE = 150
_QUESTION = re.compile(r"^> \*\*(?:And predict|Predict)(?!, then try)", re.MULTILINE)
_EXERCISE = re.compile(r"^## .* · [●○]{3} · (\d+) minutes$", re.MULTILINE)
_LAB = re.compile(r"^lab = ", re.MULTILINE)
_COUNTED_ELSEWHERE = re.compile(r"^(?:predict|check|progress)\(|NotImplementedError", re.MULTILINE)
_LOOKED_UP = ("way-top", "course", "way-end")  # ids of cells: links and contents


def estimate(path: Path) -> float:
    """Minutes of a learner's notebook up to its optional parts."""
    minutes = 0.0
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if source.startswith(OPTIONAL):
            break
        if cell["id"] not in _LOOKED_UP:
            minutes += _prose(source) if cell["cell_type"] == "markdown" else _code(cell, source)
    return minutes


def _prose(source: str) -> float:
    exercise = _EXERCISE.search(source)
    words = len(re.findall(r"\w+", re.sub(r"```.*?```", "", source, flags=re.DOTALL)))
    minutes = words / _WORDS_A_MINUTE + len(_QUESTION.findall(source))
    return minutes + (int(exercise[1]) if exercise else 0) + 2 * ("**Think about it.**" in source)


def _code(cell: dict, source: str) -> float:
    if _COUNTED_ELSEWHERE.search(source):
        return 0.0
    if _LAB.search(source):
        return 3.0
    hidden = "answers-a-prediction" in cell["metadata"].get("tags", [])
    runs = "reveal(" not in source and (cell["outputs"] or hidden)
    return 1.0 if runs else 0.5


def stated(path: Path) -> int:
    """Minutes as the lesson's first lines say."""
    first = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
    found = STATED.search("".join(first))
    assert found, path.name
    return int(found[1])


if __name__ == "__main__":
    for lesson in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        print(f"{lesson.name:40} {estimate(lesson):5.1f}")

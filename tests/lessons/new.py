"""A new lesson from the template: ``python -m tests.lessons.new 13 hide_the_messages``.

It writes the four files, names the chapter, and adds a row to the table of lessons in
``notebooks/README.md``. Then ``python -m tests.lessons.store 13`` makes the learner's notebook.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PLACES = {
    "99_template.ipynb": "notebooks/teacher/{number}_{name}.ipynb",
    "99_template.md": "notebooks/teacher/{number}_{name}.md",
    "ch99_template.py": "pipelab/lessons/chapters/ch{number}_{name}.py",
    "wrong_99.py": "tests/lessons/wrong_{number}.py",
}


def make(project: Path, number: str, name: str) -> list[Path]:
    """Write the files of a lesson into a clone. Raises SystemExit for a name that will not do."""
    if not re.fullmatch(r"\d\d", number) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SystemExit("give two digits and a name of small letters: 07 one_f_one_b")
    places = {
        file: project / text.format(number=number, name=name) for file, text in PLACES.items()
    }
    there = [*project.glob(f"notebooks/teacher/{number}_*"), *filter(Path.exists, places.values())]
    if there:
        raise SystemExit(f"lesson {number} is there already: {there[0]}")
    for file, place in places.items():
        text = (project / "notebooks" / "template" / file).read_text("utf-8")
        place.write_text(_numbered(text, number), "utf-8")
    _add_line(
        project / "pipelab" / "lessons" / "chapters" / "__init__.py",
        r'^    "\d\d": "ch\d\d_\w+",$',
        f'    "{number}": "ch{number}_{name}",',
    )
    title = name.replace("_", " ").capitalize()
    _add_line(
        project / "notebooks" / "README.md",
        r"^\| \d+ \| .* \|$",
        f"| {int(number)} | {title} | 30 | lesson 4 |",
    )
    return [*places.values()]


def _numbered(text: str, number: str) -> str:
    """The template's text: in sentences as 7, in names as 07."""
    return re.sub(r"(?i)(lesson )99", rf"\g<1>{int(number)}", text).replace("99", number)


def _add_line(file: Path, pattern: str, line: str) -> None:
    """Add a line to those like it, in order of their numbers."""
    text = file.read_text("utf-8")
    rows = re.findall(pattern, text, re.MULTILINE)
    ordered = sorted([*rows, line], key=lambda row: int(re.search(r"\d+", row)[0]))
    block = "\n".join(rows)
    assert block in text, f"the rows of {file} do not follow each other"
    file.write_text(text.replace(block, "\n".join(ordered)), "utf-8")


if __name__ == "__main__":
    for path in make(ROOT, *sys.argv[1:3]):
        print(path.relative_to(ROOT).as_posix())

"""Where a learner stands: what is done, what is left, and the course's own answers afterwards."""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pipelab
from pipelab.errors import LessonError
from pipelab.lessons import progress_file
from pipelab.lessons.chapters import FIRST_STEPS, exercise_names
from pipelab.lessons.prediction import Card
from pipelab.lessons.progress_report import left, passed


@dataclass(frozen=True)
class Solution:
    """The course's own answer to an exercise, which a notebook shows as code."""

    name: str
    code: str

    def __repr__(self) -> str:
        return self.code

    def _repr_html_(self) -> str:
        words = f"One answer to {escape(self.name)}; yours may be as good:"
        return f"<p>{words}</p><pre>{escape(self.code)}</pre>"


def progress(number: str) -> Card:
    """What of a lesson is done and what is left, of the whole course in a few words.

    Args:
        number: of the lesson, two digits.

    Raises:
        LessonError: there is no such lesson.
    """
    saved = progress_file.load()
    done = passed(saved)
    names = [] if number == FIRST_STEPS else exercise_names(number)
    parts = [_said(name, name in done) for name in names]
    own = [name for name in names if name in done]
    if own:
        parts.append(f'solution("{own[-1]}") shows one more way to do it')
    here = f"Lesson {int(number)}: {'; '.join(parts)}. " if parts else ""
    open_names = left(saved)
    everything = len(exercise_names())
    course = f"Of the course, {everything - len(open_names)} of {everything} exercises are passed"
    return Card(f"{here}{course}{f'; the next is {open_names[0]}' if open_names else ''}.")


def _said(name: str, is_passed: bool) -> str:
    return f"{name} is passed" if is_passed else f'{name} is not passed yet, hint("{name}") helps'


def solution(name: str) -> Solution:
    """The course's own answer to an exercise, once the learner's has passed.

    Raises:
        LessonError: there is no such exercise, it is not passed yet, or the course's answers were
            not installed.
    """
    if name not in (names := exercise_names()):
        raise LessonError(f"there is no exercise {name!r}: choose one of {', '.join(names)}")
    if name not in passed(progress_file.load()):
        raise LessonError(
            f'{name} is not passed yet, so there is nothing to compare. check("{name}", ...) '
            f'judges your function, hint("{name}") helps to write it'
        )
    folder = teachers_folder()
    path = next(folder.glob(f"{name[:2]}_*.ipynb"), None) if folder else None
    if path is None:
        raise LessonError(
            "the course's own answers are not on this machine: install pipelab-course again, or "
            "ask your teacher"
        )
    return Solution(name, _answer(path, name))


def teachers_folder() -> Path | None:
    """The folder of the teacher's notebooks: in this folder, beside the package, or in it."""
    package = Path(pipelab.__file__).parent
    for folder in (Path("notebooks"), package.parent / "notebooks", package):
        if any((folder / "teacher").glob("[0-9][0-9]_*.ipynb")):
            return folder / "teacher"
    return None


def _answer(path: Path, name: str) -> str:
    """The code of the cell above a check, without the lines around the solution."""
    from pipelab.lessons.edition import BEGIN, END, read  # loads nbformat

    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    call = re.compile(rf'^check\("{re.escape(name)}"', re.MULTILINE)
    place = next(i for i, source in enumerate(code) if call.search(source))
    source = next(source for source in reversed(code[: place + 1]) if BEGIN in source)
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))

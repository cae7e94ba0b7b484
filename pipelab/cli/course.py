"""The course: ``pipelab lab``, ``pipelab progress`` and ``pipelab edition``.

A lesson is a notebook named NN_name.ipynb. They are looked for in this order: in the folder
``notebooks`` right here; beside an editable install; in the package itself, from which they are
copied into ``pipelab-notebooks``, so that a learner's own work is never below site-packages.
"""

import argparse
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pipelab
from pipelab.cli.console import CommandError, say

COPY = Path("pipelab-notebooks")
_PATTERN = "[0-9][0-9]_*.ipynb"


def progress(arguments: argparse.Namespace) -> None:
    """Print the saved progress as Markdown."""
    from pipelab.lessons import progress_file

    say(progress_file.markdown(progress_file.load()))
    say(f"\nKept on this machine alone, in {progress_file.path()}")


def edition(arguments: argparse.Namespace) -> None:
    """Write an edition of the course. Raises LessonError if that is not possible."""
    from pipelab.lessons.edition import generate

    for path in generate(arguments.edition, home() / "teacher", Path(arguments.folder)):
        say(str(path))


def find(number: int) -> Path:
    """The notebook of a lesson. Raises CommandError with all lessons if there is none."""
    folder = home()
    lessons = sorted(folder.glob(_PATTERN))
    for path in lessons:
        if int(path.name[:2]) == number:
            return path.resolve()
    rows = [f"  {path.name[:2]}  {path.stem[3:].replace('_', ' ')}" for path in lessons]
    raise CommandError(
        "\n".join([f"there is no lesson {number:02d} in {folder}; take one of", *rows])
    )


def home() -> Path:
    """The folder of the lessons. Raises CommandError if they are nowhere."""
    package = Path(pipelab.__file__).parent
    here, clone = Path("notebooks"), package.parent / "notebooks"
    if _holds_lessons(here):
        return here
    if (clone.parent / "pyproject.toml").is_file() and _holds_lessons(clone):
        return clone
    packaged = files(pipelab) / "notebooks"
    if packaged.is_dir():
        try:
            _copy(packaged, COPY)
        except OSError as error:
            raise CommandError(
                f"cannot copy the lessons into {COPY.absolute()} ({error.strerror or error}): "
                f"go to a folder of your own and try again there"
            ) from None
    if not _holds_lessons(COPY):
        raise CommandError(
            f"no lessons: neither in ./{here}, nor in {clone}, nor in the package. Go to a clone's "
            f"folder, or install pipelab-course again"
        )
    return COPY


def _holds_lessons(folder: Path) -> bool:
    return any(folder.glob(_PATTERN))


def _copy(source: Traversable, target: Path) -> None:
    """Copy what is not there yet; whatever is there stays as it is."""
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            _copy(item, target / item.name)
        elif not (target / item.name).exists():
            (target / item.name).write_bytes(item.read_bytes())

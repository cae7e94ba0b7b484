"""``pipelab progress`` and ``pipelab edition``."""

from pathlib import Path

from pipelab.cli.lessons import home
from pipelab.cli.terminal import say


def progress() -> None:
    """Print the saved progress as Markdown."""
    from pipelab.lessons import progress_file

    say(progress_file.markdown(progress_file.load()))
    say(f"\nKept on this machine alone, in {progress_file.path()}")


def edition(name: str, folder: str) -> None:
    """Write an edition of the course. Raises LessonError if that cannot be."""
    from pipelab.lessons.edition import generate

    for path in generate(name, home() / "teacher", Path(folder)):
        say(str(path))

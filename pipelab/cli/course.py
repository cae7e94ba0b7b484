"""``pipelab progress`` and ``pipelab edition``."""

from pathlib import Path

from pipelab.cli.lessons import home
from pipelab.cli.terminal import say


def progress() -> None:
    """Print the learner's ledger as Markdown."""
    from pipelab.lessons import ledger
    from pipelab.lessons.report import markdown

    say(markdown(ledger.load()))
    say(f"\nKept on this machine alone, in {ledger.path()}")


def edition(name: str, folder: str) -> None:
    """Write an edition of the course. Raises LessonError if that cannot be."""
    from pipelab.lessons.edition import generate

    for path in generate(name, home() / "teacher", Path(folder)):
        say(str(path))

"""What all commands share: lines that are flushed at once, and one progress line."""

import io
import os
import shutil
import sys
import time

from pipelab.errors import PipelabError

_REDRAW = 0.05  # seconds between two states of a moving line: more often is flicker
_NARROWEST, _WIDEST = 40, 110  # columns; longer lines are hard to read


class CommandError(PipelabError):
    """A command cannot do what it was asked; the message says why, and what to do."""


def prepare_streams() -> None:
    """A terminal that lacks a sign gets a question mark, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str = "") -> None:
    """Print, and flush: a pipe or a log shows it at once too."""
    print(text, flush=True)


def moves() -> bool:
    """Whether stdout is a terminal on which a line can be drawn over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def width() -> int:
    """Columns to fill: the terminal's, 100 where there is none."""
    return max(_NARROWEST, min(shutil.get_terminal_size((100, 24)).columns, _WIDEST))


class ProgressLine:
    """One line that moves; where lines cannot move, a line of its own every ``every`` steps."""

    def __init__(self, total: int, every: int = 10):
        self.total = total
        self.every = every
        self.moves = moves()
        self.shown = 0.0
        self.length = 0

    def show(self, step: int, text: str) -> None:
        """Say where things stand after ``step`` of ``total`` steps; the last one always shows."""
        last = step == self.total
        if not self.moves:
            if last or step == 1 or step % self.every == 0:
                say(text)
            return
        if not last and time.monotonic() - self.shown < _REDRAW:
            return
        text = text[: width() - 1]
        print("\r" + text.ljust(self.length), end="\n" if last else "", flush=True)
        self.shown, self.length = time.monotonic(), len(text)

"""What commands share: lines that are flushed at once, a progress line, their folder, and Ctrl-C.

Ctrl-C at any moment gives one line and exit code 130, and leaves no process and no traceback. The
handler itself ends the program instead of raising KeyboardInterrupt: raised in the middle of the
import of an extension module, or in a finalizer, that exception is lost, or printed.
"""

import atexit
import io
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipelab.errors import PipelabError
from pipelab.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipelab.trace import Trace
    from pipelab.trace.readers.stream import Place

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PIXELS_PER_INCH = 160
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


def has_scrolled(text: str) -> bool:
    """Whether stdout is a terminal on which the first lines of this text are not seen any more."""
    return sys.stdout.isatty() and text.count("\n") + 2 > shutil.get_terminal_size().lines


class ProgressLine:
    """One line that moves; where lines cannot move, a new line every ten steps."""

    def __init__(self, total: int):
        self.total = total
        self.moves = moves()
        self.shown = 0.0
        self.length = 0

    def show(self, step: int, text: str) -> None:
        """Say where things stand after ``step`` of ``total`` steps; the last one always shows."""
        last = step == self.total
        if not self.moves:
            if last or step == 1 or step % 10 == 0:
                say(text)
            return
        if not last and time.monotonic() - self.shown < _REDRAW:
            return
        text = text[: width() - 1]
        print("\r" + text.ljust(self.length), end="\n" if last else "", flush=True)
        self.shown, self.length = time.monotonic(), len(text)


class ReadingLine:
    """A line on stderr that says how far large files have been read; silent for small ones."""

    PATIENCE = 1.0  # seconds of silence

    def __init__(self) -> None:
        self.moves = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
        self.begun = self.shown = time.monotonic()
        self.length = 0

    def show(self, place: "Place") -> None:
        """Say how much of which file is read; called for every part of it."""
        now = time.monotonic()
        if now - self.begun < self.PATIENCE or now - self.shown < (_REDRAW if self.moves else 5.0):
            return
        self.shown = now
        done = place.done / place.total if place.total else 1.0
        text = f"reading {place.path.name}: {100 * done:.0f} % of {place.total / 1e6:.0f} MB"
        text = text[: width() - 1]
        end = "" if self.moves else "\n"
        start = "\r" if self.moves else ""
        print(start + text.ljust(self.length), end=end, file=sys.stderr, flush=True)
        self.length = len(text)

    def end(self) -> None:
        """The line goes away."""
        if self.moves and self.length:
            print("\r" + " " * self.length + "\r", end="", file=sys.stderr, flush=True)


def leave_on_signals() -> None:
    """From now on, Ctrl-C, SIGTERM and the end of the terminal end this program cleanly.

    A signal that whoever started us has silenced (nohup, a shell's background job) stays so.
    """
    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    end_at_once()
    stopped_by(number)
    atexit._run_exitfuncs()  # pipelines end their ranks here, and the fork server is ended
    os._exit(128 + number)


def end_at_once() -> None:
    """From now on a signal ends the program at once: a second Ctrl-C does not wait."""
    for number in ENDINGS:
        signal.signal(number, lambda number, frame: os._exit(128 + number))


def stopped_by(number: int) -> None:
    """Say which signal ended the program; a signal handler may call this."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    line = f"Stopped by {name}.\n"
    with suppress(OSError):  # the terminal may be gone; and print() may be what was interrupted
        stderr = sys.stderr.fileno()
        os.write(stderr, ("\n" + line if os.isatty(stderr) else line).encode())


def import_engine() -> None:
    """Import torch and ``pipelab.engine``. Raises CommandError where torch cannot be loaded."""
    try:
        import pipelab.engine  # noqa: F401 - the slow part: Ctrl-C ends it
    except ImportError as error:
        raise CommandError(
            f"torch cannot be loaded ({error}): install it into this Python, {sys.executable}"
        ) from None


def writable(name: str, remedy: str = "choose another with --output FOLDER") -> Path:
    """The folder, made if it is not there, once a file in it could really be written.

    Raises:
        CommandError: no file can be written there; ``remedy`` is what to do then.
    """
    if not name:
        raise CommandError(f"the name of the folder is empty: {remedy}")
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"?")
    except FileExistsError:
        raise CommandError(f"{name} is a file, not a folder: {remedy}, or move it away") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CommandError(f"cannot write into the folder {name} ({reason}): {remedy}") from None
    return folder


def save(folder: Path, suffix: str, trace: "Trace", figure: "Figure") -> list[Path]:
    """Write trace, Perfetto file and picture. Earlier ones are replaced, links not followed."""
    picture = folder / f"timeline{suffix}.png"
    try:
        with replacing(picture) as file:
            figure.savefig(file, format="png", dpi=PIXELS_PER_INCH)
        return [
            picture,
            trace.save(folder / f"trace{suffix}.json"),
            trace.to_chrome(folder / f"trace{suffix}.perfetto.json"),
        ]
    except OSError as error:
        raise CommandError(
            f"cannot write {error.filename or folder} ({error.strerror or error}): make room, or "
            f"choose another folder with --output FOLDER"
        ) from None

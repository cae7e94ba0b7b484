"""Grade an answer in a new interpreter: what a notebook's cells changed does not count there.

A cell can replace functions of pipelab's and builtins, by mistake or not. The graded cells of the
nbgrader edition load this module anew. What it needs of the notebook is the answer, as bytes, which
only the answer's own process opens. To load PyTorch, in the interpreter and in the process that
ranks are forked from, is most of the work: so nbgrader's notebook starts the interpreter with its
first cell (``warm_up``), and it stays for all checks.

    the notebook             grade("01.1", answer)
                             a line, a Python literal: the exercise, the answer
    a new interpreter        python -m pipelab.lessons.grading
                             a line: whether it is passed, and the verdict as text

Both lines need no function of a library, such as json's, that a cell may have replaced.
"""

import os
import signal
import subprocess
import sys
from ast import literal_eval
from contextlib import suppress
from select import select
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from pipelab.lessons.original_python import OriginalPython

_SECONDS = 600.0  # for one check
_FIRST = 300.0  # seconds until the first check: the cells above it may take long
_IDLE = 30.0  # seconds without another check, after which the interpreter ends
_KEPT = "_pipelab_grader"  # in ``sys``, since this module is loaded anew for each check
_PASSED = b"passed"  # the first word of a verdict

Message = tuple[str, str, str, bytes]  # the exercise, and what ``_packed`` gives


def begin() -> None:
    """Start the interpreter, which loads what it needs meanwhile. Raises OSError."""
    if _KEPT in vars(sys):
        return
    grader = _Grader()
    import pipelab.lessons.answer_bytes  # noqa: F401 - to send answers takes this, as it is now

    grader.python = OriginalPython()
    vars(sys)[_KEPT] = grader
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell:
        grader.python.keep_between_cells(shell.events, lambda source: __name__ in source)


def grade(name: str, answer: object) -> None:
    """Print the verdict on an answer.

    Raises:
        AssertionError: it is not passed.
    """
    kept = sys.__dict__.get(_KEPT)
    undo = kept.python.undo if kept and kept.python.put_back() else None
    try:
        _grade(kept, name, answer)
    finally:
        if undo:
            undo()


def _grade(kept: "_Grader | None", name: str, answer: object) -> None:
    try:
        grader = kept or _Grader()
        message = name, *_packed(answer)  # it starts meanwhile
        verdict = grader.asked(message)
        if verdict is None and kept:  # it has ended since the last check
            grader = _Grader(kept.python)
            verdict = grader.asked(message)
    except OSError as error:  # no process, or no file
        raise AssertionError(f"{name} could not be graded: {error}") from None
    vars(sys)[_KEPT] = grader if verdict else None
    if verdict is None:
        raise AssertionError(f"{name} could not be graded:\n{grader.errors}")
    passed, _, said = verdict.partition(b" ")
    with suppress(Exception):  # a cell has closed or replaced what shows it: the grade stays
        sys.stdout.write(said.decode("unicode_escape"))
    if passed != _PASSED:
        raise AssertionError(f"{name} is not passed yet")


class _Grader:
    """The new interpreter. It ends when it is not asked for a while, and with the notebook."""

    def __init__(self, python: OriginalPython | None = None) -> None:
        command = [sys.executable, "-P", "-m", "pipelab.lessons.grading"]
        pipe = subprocess.PIPE
        self.python = python or OriginalPython()  # of this process, for later checks
        self.errors = ""  # the end of what it said of them, once it has ended
        self._errors = TemporaryFile()  # noqa: SIM115 - open as long as the interpreter runs
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors)
        except OSError:
            self._errors.close()
            raise
        self._to = cast(BinaryIO, self._process.stdin)
        self._from = cast(BinaryIO, self._process.stdout)

    def asked(self, message: Message) -> bytes | None:
        """Its verdict, a line; None if it has ended, or takes too long."""
        line = b""
        request = *message, [f"{folder}" for folder in sys.path]  # some notebooks add a Path
        try:
            with suppress(OSError):  # it has ended, or a cell has closed the file
                self._process.send_signal(signal.SIGCONT)  # an answer may have stopped it
                self._to.write(f"{request!a}\n".encode())
                self._to.flush()
                if select([self._from], [], [], _SECONDS)[0]:
                    line = self._from.readline()
        finally:
            if not line:  # no later check may read what this one did not
                self._end()
        return line or None

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._errors.seek(0)
            self.errors = self._errors.read().decode("utf-8", "replace")[-2000:]
        for stream in (self._to, self._from, self._errors):
            with suppress(OSError):  # what could not be sent
                stream.close()


def _packed(answer: object) -> tuple[str, str, bytes]:
    """The answer for the new interpreter: what kind of thing, words about it, and its bytes."""
    from pipelab.errors import LessonError
    from pipelab.lessons.answer_bytes import kind_name, pack

    if answer is None or answer is ...:
        return "nothing", "", b""
    if not callable(answer):
        return "other", kind_name(answer), b""
    try:
        packed = pack(answer)
    except LessonError as error:
        return "unsendable", f"{error}", b""
    return "answer", packed.__name__, packed.data


def _unpacked(kind: str, words: str, data: bytes) -> object:
    """What stands for the answer in the new interpreter."""
    from pipelab.lessons.answer_bytes import Packed

    match kind:
        case "answer":
            return Packed(data, words)
        case "unsendable":
            return _Unsendable(words)
        case "other":
            return type(words, (), {})()
        case _:
            return None


class _Unsendable:
    """An answer that could not be copied."""

    def __init__(self, why: str):
        self._why = why

    def __call__(self) -> object:
        raise TypeError(self._why)

    def __reduce__(self) -> tuple[object, ...]:
        from pipelab.errors import LessonError

        raise LessonError(self._why)


def main() -> None:
    """In the new interpreter: one check after another."""
    verdicts = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed is no verdict
    from pipelab.lessons import check, exercise  # noqa: F401 - the second one loads torch

    wait = _FIRST
    while select([0], [], [], wait)[0] and (line := sys.stdin.buffer.readline()):
        wait = _IDLE
        name, *packed, path = literal_eval(line.decode())
        sys.path += [folder for folder in path if folder not in sys.path]
        verdict = check(name, _unpacked(*packed))
        outcome = _PASSED if verdict.passed else b"not"
        verdicts.write(outcome + b" " + f"{verdict}\n".encode("unicode_escape") + b"\n")
        verdicts.flush()


if __name__ == "__main__":
    main()

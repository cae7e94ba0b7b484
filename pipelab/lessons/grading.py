"""Grade an answer in a new interpreter: what a notebook's cells changed does not count there.

A cell can replace functions of pipelab's and builtins, by mistake or not. The graded cells of the
nbgrader edition load this module anew. What it needs of the notebook is the answer, as bytes, which
only the answer's own process opens. To load PyTorch, in the interpreter and in the process that
ranks are forked from, is most of the work: so nbgrader's notebook starts the interpreter with its
first cell (``warm_up``), and it stays for all checks.

    the notebook             grade("01.1", answer)
                             a line of JSON: the exercise, the answer
    a new interpreter        python -m pipelab.lessons.grading
                             a line of JSON: the verdict as text, and whether it is passed
"""

import json
import os
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import suppress
from select import select
from tempfile import TemporaryFile
from typing import BinaryIO, cast

_SECONDS = 600.0  # for one check
_FIRST = 300.0  # seconds until the first check: the cells above it may take long
_IDLE = 30.0  # seconds without another check, after which the interpreter ends
_KEPT = "_pipelab_grader"  # in ``sys``, since this module is loaded anew for each check


def begin() -> None:
    """Start the interpreter, which loads what it needs meanwhile. Raises OSError."""
    if _KEPT not in vars(sys):
        vars(sys)[_KEPT] = _Grader()


def grade(name: str, answer: object) -> None:
    """Print the verdict on an answer.

    Raises:
        AssertionError: it is not passed.
    """
    kept = vars(sys).get(_KEPT)
    grader = kept or _Grader()
    message = _packed(answer) | {"exercise": name}  # it starts meanwhile
    verdict = grader.asked(message)
    if verdict is None and kept:  # it has ended since the last check
        grader = _Grader()
        verdict = grader.asked(message)
    vars(sys)[_KEPT] = grader if verdict else None
    if verdict is None:
        raise AssertionError(f"{name} could not be graded:\n{grader.errors}")
    sys.stdout.write(verdict["said"])
    if not verdict["passed"]:
        raise AssertionError(f"{name} is not passed yet")


class _Grader:
    """The new interpreter. It ends when it is not asked for a while, and with the notebook."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "pipelab.lessons.grading"]
        pipe = subprocess.PIPE
        self.errors = ""  # the end of what it said of them, once it has ended
        self._errors = TemporaryFile()  # noqa: SIM115 - open as long as the interpreter runs
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors)
        self._to = cast(BinaryIO, self._process.stdin)
        self._from = cast(BinaryIO, self._process.stdout)

    def asked(self, message: dict[str, str]) -> dict[str, str] | None:
        """Its verdict; None if it has ended, or takes too long."""
        line = b""
        try:
            with suppress(BrokenPipeError):
                self._to.write(json.dumps(message | {"path": sys.path}).encode() + b"\n")
                self._to.flush()
            if select([self._from], [], [], _SECONDS)[0]:
                line = self._from.readline()
        finally:
            if not line:  # no later check may read what this one did not
                self._end()
        return json.loads(line) if line else None

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        self.errors = self._errors.read().decode("utf-8", "replace")[-2000:]
        for stream in (self._to, self._from, self._errors):
            with suppress(BrokenPipeError):  # what could not be sent
                stream.close()


def _packed(answer: object) -> dict[str, str]:
    """The answer for the new interpreter: as bytes, or in words why there are none."""
    from pipelab.errors import LessonError
    from pipelab.lessons.answer_bytes import as_bytes

    if answer is None or answer is ...:
        return {}
    if not callable(answer):
        return {"type": type(answer).__name__}
    try:
        data = b64encode(as_bytes(answer)).decode()
    except LessonError as error:
        return {"error": str(error)}
    return {"data": data, "name": str(getattr(answer, "__name__", "answer"))}


def _unpacked(message: dict[str, str]) -> object:
    """What stands for the answer in the new interpreter."""
    from pipelab.lessons.answer_bytes import Packed

    if "data" in message:
        return Packed(b64decode(message["data"]), message["name"])
    if "error" in message:
        return _Unsendable(message["error"])
    return type(message["type"], (), {})() if "type" in message else None


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
    verdicts = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed is no verdict
    from pipelab.lessons import check, exercise  # noqa: F401 - the second one loads torch

    wait = _FIRST
    while select([0], [], [], wait)[0] and (line := sys.stdin.buffer.readline()):
        wait = _IDLE
        message = json.loads(line)
        sys.path += [folder for folder in message["path"] if folder not in sys.path]
        verdict = check(message["exercise"], _unpacked(message))
        json.dump({"said": f"{verdict}\n", "passed": verdict.passed}, verdicts)
        print(file=verdicts, flush=True)


if __name__ == "__main__":
    main()

"""Grade an answer in a new interpreter: what a notebook's cells changed does not count there.

A cell can replace functions of pipelab's and builtins, by mistake or not. The graded cells of the
nbgrader edition load this module anew. What it needs of the notebook is the answer, as bytes, which
only the answer's own process opens.

    the notebook             grade("01.1", answer)
    a new interpreter        python -m pipelab.lessons.grading 01.1
                             checks what it reads, prints the verdict; exit code 0: passed
"""

import json
import subprocess
import sys
from base64 import b64decode, b64encode

_SECONDS = 600.0
_NOT_PASSED = 3  # exit code


def grade(name: str, answer: object) -> None:
    """Print the verdict on an answer.

    Raises:
        AssertionError: it is not passed.
    """
    command = [sys.executable, "-P", "-m", "pipelab.lessons.grading", name]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:  # it starts meanwhile
        message = json.dumps(_packed(answer) | {"path": sys.path})
        said, errors = process.communicate(message.encode(), timeout=_SECONDS)
    finally:
        process.kill()
        process.wait()
    sys.stdout.write(said.decode("utf-8", "replace"))
    if process.returncode == _NOT_PASSED:
        raise AssertionError(f"{name} is not passed yet")
    if process.returncode != 0:
        raise AssertionError(f"{name} could not be graded:\n{errors.decode()[-2000:]}")


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


def main(name: str) -> int:
    """In the new interpreter; the exit code."""
    from pipelab.lessons import check

    message = json.loads(sys.stdin.buffer.read())
    sys.path += [folder for folder in message.pop("path") if folder not in sys.path]
    verdict = check(name, _unpacked(message))
    print(verdict)
    return 0 if verdict.passed else _NOT_PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

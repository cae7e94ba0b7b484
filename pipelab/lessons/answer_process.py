"""Run a learner's function in a fresh process, with a limit on what it may use.

An endless loop, an exit() or a crash ends that process alone. It is not trusted: what comes back is
read as plain data (``plain_data``), so that nothing of an answer runs in this process, and an
object which claims to be equal to everything cannot pass a check.

    this process                       the answer's (answer_calls)
    ------------                       ---------------------------
    the function, its arguments   ──▶  call it, case by case
    outcomes          ◀── results ───  plain data
    what is shown     ◀── prints ────  what it prints, from Python or from C
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from pipelab.engine.launch import fork_server
from pipelab.engine.launch.child import Child
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.errors import LaunchError
from pipelab.lessons import answer_calls
from pipelab.lessons.answer_bytes import arguments_as_bytes, pack
from pipelab.lessons.answer_calls import Function
from pipelab.lessons.frames import Frames
from pipelab.lessons.plain_data import decoded
from pipelab.lessons.prints import Prints

__all__ = ["NOT_TRIED", "Function", "Outcome", "call", "keep_prints"]

NOT_TRIED = "not tried, since the case before it did not finish"
_BUSY = 6  # times the seconds, where other programs leave the answer little of the cores
_LAST_READS = 16  # of what was printed
_MOST_PRINTS = 10_000_000  # bytes
_KILLED = "the process that ranks are forked from was killed"


class Outcome(NamedTuple):
    """What a call returned, or in words why it returned nothing."""

    value: object = None
    problem: str = ""


_prints: ContextVar[Prints | None] = ContextVar("prints", default=None)


@contextmanager
def keep_prints() -> Iterator[Prints]:
    """What answers print in this block, as far as it is worth showing."""
    kept = Prints()
    before = _prints.set(kept)
    try:
        yield kept
    finally:
        _prints.reset(before)


def call(
    function: Function, cases: Sequence[tuple[object, ...]], seconds: float = 10.0
) -> list[Outcome]:
    """The function's outcome for each case, the arguments of one call; all in one fresh process.

    ``seconds``: of computing, for all cases together. A case that had no time left has a problem,
    too. Each case has its own copy of its arguments.

    Raises:
        LaunchError: no process can be started.
        LessonError: the function uses what cannot be copied to another process.
    """
    work = pack(function).data, [arguments_as_bytes(arguments) for arguments in cases]
    outcomes = _attempt(work, cases, seconds)
    if outcomes and outcomes[-1].problem == _KILLED:
        outcomes = _attempt(work, cases, seconds)
    if len(outcomes) < len(cases):
        outcomes += [Outcome(None, NOT_TRIED)] * (len(cases) - len(outcomes))
    return outcomes


def _attempt(
    work: tuple[bytes, list[bytes]], cases: Sequence[tuple[object, ...]], seconds: float
) -> list[Outcome]:
    """Outcomes up to the first case that did not finish."""
    with ExitStack() as opened:
        with Uninterrupted():  # a process that nobody knows would not be ended
            results, its_results = map(opened.enter_context, fork_server.pipe())
            prints, its_prints = map(opened.enter_context, fork_server.pipe())
            child = _fork(its_results, its_prints, *work, seconds)
            opened.callback(fork_server.resume)  # last
            opened.callback(child.close)
            opened.callback(_end_session, child.pid)
            opened.callback(child.kill)
        its_results.close()
        its_prints.close()
        return _Reading(child, results, prints, cases, seconds).outcomes()


def _end_session(pid: int) -> None:
    """End what an answer has forked, also if it has ended itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _fork(*arguments: object) -> Child:
    """The process; from another fork server if the one of before was killed."""
    try:
        return fork_server.fork("pipelab answer", answer_calls.main, *arguments)
    except LaunchError:
        until = time.monotonic() + 1.0
        while fork_server.is_up() and time.monotonic() < until:
            time.sleep(0.02)
        return fork_server.fork("pipelab answer", answer_calls.main, *arguments)


class _Reading:
    """What a process sends, until all is there, or it ends, or its time is over."""

    def __init__(
        self,
        child: Child,
        results: Connection,
        prints: Connection,
        cases: Sequence[tuple[object, ...]],
        seconds: float,
    ):
        self._child = child
        self._results, self._prints = results.fileno(), prints.fileno()
        self._open = {self._results, self._prints}
        self._frames = Frames()
        self._number, self._seconds = len(cases), seconds
        self._printed = (_prints.get() or Prints()).of(cases)
        self._most_prints = _MOST_PRINTS
        self._found: list[Outcome] = []

    def outcomes(self) -> list[Outcome]:
        """Up to the first case that did not finish."""
        begin = time.monotonic()
        while len(self._found) < self._number:
            left = self._seconds * (_BUSY if _is_busy() else 1) - (time.monotonic() - begin)
            if left <= 0.0:
                return self._ended(self._too_long())
            try:
                self._read(min(left, 0.5))
            except EOFError:
                return self._ended(self._why_it_ended())
            except ValueError as error:
                return self._ended(str(error))
        return self._ended("")[: self._number]

    def _read(self, seconds: float) -> None:
        """Read what is there. Raises EOFError, or ValueError for what is no outcome."""
        ready = wait(self._open, seconds)
        if self._prints in ready:
            self._read_prints()
        if self._results in ready:
            data = _bytes(self._results)
            if not data:
                raise EOFError
            try:
                self._found += map(_outcome, self._frames.add(data))
            except ValueError as error:
                raise ValueError(f"its process sent what is no answer: {error}") from None

    def _read_prints(self) -> None:
        data = _bytes(self._prints)
        self._printed.add(data)
        self._most_prints -= len(data)
        if self._most_prints < 0:
            raise ValueError(f"it printed more than {_MOST_PRINTS:,} bytes, and was stopped")
        if not data:
            self._open.discard(self._prints)

    def _ended(self, problem: str) -> list[Outcome]:
        for _ in range(_LAST_READS):
            if self._prints in wait(self._open, 0.0):
                with suppress(ValueError):
                    self._read_prints()
        return [*self._found, Outcome(None, problem)]

    def _too_long(self) -> str:
        return f"it was still running after {self._seconds:g} s, and was stopped"

    def _why_it_ended(self) -> str:
        self._child.has_ended(1.0)
        if self._child.exit_code == -signal.SIGXCPU:
            return self._too_long()
        if self._child.exit_code == -signal.SIGKILL:
            return "its process was killed" if fork_server.is_up() else _KILLED
        return "its process ended: exit() or a crash"


def _bytes(handle: int) -> bytes:
    """What is there; nothing if the other end is closed."""
    try:
        return os.read(handle, 1 << 16)
    except ConnectionError:
        return b""


def _outcome(frame: bytes) -> Outcome:
    found = decoded(frame)
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], str):
        raise ValueError("no value with a problem")
    return Outcome(found[0], found[1][:2000])


def _is_busy() -> bool:
    """Whether more processes want to compute than there are cores."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)

"""The ranks that this process starts: ask them, collect their answers, and leave none behind.

Processes come from a fork server, which has torch loaded before it forks (see ``fork_server``):
four ranks are up in well under a tenth of a second.

After ``idle_timeout`` they end, as thirty notebooks may share a server. Their parameters are lost,
and the next call says so: new ranks, started silently with an earlier state, would hide it.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection

from pipelab.engine.failures.cause import cause, timed_out
from pipelab.engine.failures.deadline import Deadline
from pipelab.engine.failures.findings import Absent, Findings, State
from pipelab.engine.failures.sentences import unsendable
from pipelab.engine.launch.delivery import deliver
from pipelab.engine.launch.fork_server import refuse_within_ranks
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.processes import Processes, is_stopped
from pipelab.engine.protocol.commands import Done, PipeEnded, dumps, receive
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.engine.protocol.forks import PARENTS, forget_in_children
from pipelab.engine.protocol.progress import Begun
from pipelab.engine.rank.raised import failure_in
from pipelab.engine.transport.groups import START_TIMEOUT
from pipelab.errors import LaunchError, PipelineClosed, RankError

_SLACK = 0.5  # seconds: a rank's own timeout passes first, and its answer says more
_GRACE = 1.0  # seconds for the other ranks to say why, once one has lost its connection
_SHORT_GRACE = 0.3  # seconds after a timeout: a rank that hangs will say nothing
_LOOK = 1.0  # seconds between two looks at the ranks' progress


class LaunchedRanks:
    """The processes of one pipeline, all its replicas. ``ask`` is the only way to talk to them.

    Args:
        timeout: seconds that any wait may take.
        idle_timeout: seconds without a question after which the processes end; None: never.

    Raises:
        LaunchError: they did not start.
    """

    clock_error = 0.0  # seconds: they share one clock

    def __init__(
        self, num_ranks: int, replicas: int, timeout: float, idle_timeout: float | None = None
    ):
        refuse_within_ranks()
        self.timeout = timeout
        self.answer_timeout = max(timeout, START_TIMEOUT)  # until ``ready``
        self.lock = threading.RLock()  # held while ranks work; a second thread may close
        self.last_asked = time.monotonic()
        self.why_closed = ""
        self._is_closing = False
        self._given: deque[Sequence[object]] = deque()  # commands without their answers
        self._early = [deque[Done | Failure | None]() for _ in range(num_ranks)]  # not asked for
        with Uninterrupted():
            self._processes = Processes(num_ranks)
            self._end = weakref.finalize(self, self._processes.end)
        try:
            self._processes.start(num_ranks, replicas, timeout)
            self._given.append([None] * num_ranks)
            self._answers()
            _close_when_idle(self, idle_timeout)
            forget_in_children(self)
        except RankError as error:
            self.close()
            raise LaunchError(f"the ranks did not start: {error}") from None
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes, in rank order; empty once closed."""
        processes = () if self.is_closed else self._processes.all
        return tuple(process.pid for process in processes)

    def begun(self) -> tuple[Begun, ...]:
        """What each rank began last, in rank order; empty once closed."""
        return self._processes.progress.begun()

    def ready(self, meet_again: bool = False) -> None:
        """The stages are built: from now on ``timeout`` holds.

        ``meet_again``: ranks may have to connect to each other once more, for NCCL.
        """
        self.answer_timeout = self.timeout
        if not meet_again:
            self._processes.remove_folder()

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Give each rank its command, do something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late. All ranks are gone then.
        """
        with self._working():
            self._give(commands)
            if meanwhile is not None:
                meanwhile()
            return self._answers()

    def give(self, commands: Sequence[object]) -> None:
        """Give each rank its command, which it carries out after those before.

        Raises:
            RankError: a rank was too late to take it.
        """
        with self._working():
            self._give(commands)

    def answers(self) -> list[Done]:
        """The answers to the oldest commands that have been given. Raises RankError as ``ask``."""
        with self._working():
            return self._answers()

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self.lock:
            try:
                yield
                self.last_asked = time.monotonic()
            except BaseException as error:
                with Uninterrupted():
                    was_closed = self._is_closing and isinstance(error, (RankError, OSError))
                    if not was_closed:
                        self._processes.logs.replay()
                    self.close()
                if was_closed:
                    raise PipelineClosed("the pipeline was closed during its work") from None
                raise

    def _give(self, commands: Sequence[object]) -> None:
        deadline = Deadline(self.answer_timeout + _SLACK)

        def seconds_left() -> float:
            deadline.note(self.begun())
            return deadline.left()

        pipes, writers = self._processes.pipes, self._processes.writers
        self._given.append(commands)
        message, last = b"", None
        for rank, command in enumerate(commands):
            if command is not last:  # several may get the same
                message, last = _message(rank, command), command
            if not deliver(message, writers[rank], pipes, self._read_early, seconds_left):
                late = [rank for rank, early in enumerate(self._early) if not early]
                raise timed_out(self._findings(self._given[0], {}, late, set()))

    def _read_early(self, rank: int) -> bool:
        """Read an answer that nobody has asked for yet; whether more may come."""
        answer = _receive(self._processes.pipes[rank])
        self._early[rank].append(answer)
        return answer is not None

    def _answers(self) -> list[Done]:
        found = self._collect(self._given.popleft())
        if error := cause(found):
            raise error
        self._processes.logs.replay()
        return [answer for _, answer in sorted(found.answers.items()) if isinstance(answer, Done)]

    def _collect(self, commands: Sequence[object]) -> Findings:
        """Wait for all answers, or until it is known why there will be none."""
        answers: dict[int, Done | Failure] = {}
        waiting = {pipe: rank for rank, pipe in enumerate(self._processes.pipes)}
        ended: set[int] = set()
        deadline = Deadline(self.answer_timeout + _SLACK)
        deadline.note(self.begun())

        def take(pipe: Connection, answer: Done | Failure | None) -> None:
            rank = waiting.pop(pipe)
            if answer is None:
                ended.add(rank)
                return
            answers[rank] = answer
            if isinstance(answer, Failure):
                deadline.end_within(_grace(answer))

        for early, pipe in zip(self._early, self._processes.pipes, strict=True):
            if early:
                take(pipe, early.popleft())
        while waiting and not ended:
            ready = connection.wait(list(waiting), min(_LOOK, deadline.left()))
            if not ready:
                self._processes.logs.bound()
                deadline.note(self.begun())
                if deadline.is_over():
                    break
            for pipe in self._processes.pipes:
                if pipe in ready:
                    take(pipe, _receive(pipe))
        return self._findings(commands, answers, {*waiting.values(), *ended}, ended)

    def _findings(
        self,
        commands: Sequence[object],
        answers: dict[int, Done | Failure],
        missing: Iterable[int],
        ended: set[int],
    ) -> Findings:
        has_failed = any(isinstance(answer, Failure) for answer in answers.values())
        absent = {rank: self._absent(rank, rank in ended) for rank in missing}
        return Findings(
            commands,
            answers,
            absent,
            self.begun() if absent or has_failed else (),
            self.timeout if has_failed else self.answer_timeout,
        )

    def _absent(self, rank: int, has_ended: bool) -> Absent:
        process = self._processes.all[rank]
        if has_ended:
            process.has_ended(1.0)
            return Absent(State.ENDED, process.exit_code, self._processes.logs.fresh(rank))
        return Absent(State.STOPPED if is_stopped(process.pid) else State.ALIVE)

    @property
    def is_closed(self) -> bool:
        """Whether the ranks are gone."""
        return not self._end.alive

    def close(self, why: str = "") -> None:
        """End all processes and remove the private folder. Any thread may call it, twice too."""
        self._is_closing = True
        self._processes.close_lifeline()  # another thread may wait for the ranks' answers
        with self.lock:
            self.why_closed = self.why_closed or why
            self._end()

    def forget(self) -> None:
        """In a forked child: these ranks are its parent's."""
        self.lock = threading.RLock()  # another thread of the parent may hold the one of before
        if self._end.detach() is not None:
            self.why_closed = PARENTS
            self._processes.forget()


def _message(rank: int, command: object) -> bytes:
    try:
        return dumps(command)
    except Exception as error:  # whatever a learner's __reduce__ or a lock in a layer raises
        raise unsendable(rank, command, error) from error


def _receive(pipe: Connection) -> Done | Failure | None:
    """A rank's answer; None if it ended without one."""
    try:
        answer: Done | Failure = receive(pipe)
    except PipeEnded:
        return None
    except Exception as error:  # whatever a learner's class raises while it is unpickled
        return failure_in(None, error)
    return answer


def _grace(failure: Failure) -> float:
    """Seconds to wait for the cause of a failure, if it is elsewhere."""
    if not failure.is_consequence:
        return 0.0
    return _SHORT_GRACE if failure.kind is FailureKind.TIMED_OUT else _GRACE


def _close_when_idle(ranks: LaunchedRanks, seconds: float | None) -> None:
    """Close these ranks after so many seconds without a question; None: never."""
    if seconds is None:
        return
    gone = threading.Event()
    weakref.finalize(ranks, gone.set)
    thread = threading.Thread(
        target=_wait_until_idle,
        args=(weakref.ref(ranks), seconds, gone),
        name="pipelab idle",
        daemon=True,
    )
    thread.start()


def _wait_until_idle(
    reference: "weakref.ref[LaunchedRanks]", seconds: float, gone: threading.Event
) -> None:
    left = seconds
    while not gone.wait(min(left, 1.0)):
        ranks = reference()
        if ranks is None or ranks.is_closed:
            return
        left = ranks.last_asked + seconds - time.monotonic()
        if left <= 0.0 and ranks.lock.acquire(blocking=False):  # else they work right now
            try:
                if ranks.last_asked + seconds <= time.monotonic():
                    ranks.close(f"it was not used for {seconds:g} s (idle_timeout={seconds:g})")
                    return
            finally:
                ranks.lock.release()
        left = max(0.05, left)
        del ranks  # so that the pipeline can be collected when nothing else refers to it

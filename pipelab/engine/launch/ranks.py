"""Start the ranks of one pipeline, talk to them, and never leave one behind.

Processes come from Python's fork server, which has torch loaded before it forks (see
``fork_server``): four ranks are up in well under a tenth of a second.
"""

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from pipelab.engine.failures.stalled import Late, timed_out
from pipelab.engine.failures.words import died, doing, failed, unsendable
from pipelab.engine.launch.fork_server import refuse_within_ranks
from pipelab.engine.launch.idle_timeout import watch_idle
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.processes import Processes
from pipelab.engine.protocol.commands import Done, Failed, dumps, receive
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.transport.groups import PATIENCE
from pipelab.errors import LaunchError, PipelineClosed, RankError

_GRACE = 1.0  # seconds for the other ranks to say their last words, so that the cause is found


class Ranks:
    """The processes of one pipeline, all its replicas. ``ask`` is the only way to talk to them.

    Args:
        timeout: seconds that any wait may take.
        idle_timeout: seconds without a question after which the processes end; None: never.
    """

    clock_error = 0.0  # seconds: they share one clock

    def __init__(
        self, num_ranks: int, replicas: int, timeout: float, idle_timeout: float | None = None
    ):
        refuse_within_ranks()
        self.timeout = timeout
        self.patience = max(timeout, PATIENCE)  # for the next answer; ``ready`` ends it
        self.lock = threading.RLock()  # held while ranks work; a second thread may close
        self.last_asked = time.monotonic()
        self.why_closed = ""
        self._closing = False
        with Uninterrupted():
            self._processes = Processes(num_ranks)
            self._end = weakref.finalize(self, self._processes.end)
        try:
            self._processes.start(num_ranks, replicas, timeout)
            self.answers([None] * num_ranks)
            watch_idle(self, idle_timeout)
        except RankError as error:
            self.close()
            raise LaunchError(f"the ranks did not come up: {error}") from None
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[ForkServerProcess]:
        """In rank order."""
        return self._processes.all

    def ready(self, meet_again: bool = False) -> None:
        """The stages are built: from now on ``timeout`` holds.

        ``meet_again``: ranks may need their meeting point once more, for NCCL.
        """
        self.patience = self.timeout
        if not meet_again:
            self._processes.forget_folder()

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Give each rank its command, do something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late. All ranks are gone then.
        """
        with self.lock:
            try:
                for rank, command in enumerate(commands):
                    self._send(rank, command)
                if meanwhile is not None:
                    meanwhile()
                answers = self.answers(commands)
                self._processes.logs.replay()
                self.last_asked = time.monotonic()
                return answers
            except BaseException as error:
                with Uninterrupted():
                    stopped = self._closing and isinstance(error, (RankError, OSError))
                    if not stopped:
                        self._processes.logs.replay()
                    self.close()
                if stopped:
                    raise PipelineClosed("the pipeline was closed during its work") from None
                raise

    def _send(self, rank: int, command: object) -> None:
        try:
            message = dumps(command)
        except Exception as error:  # whatever a learner's __reduce__ or a lock in a layer raises
            raise unsendable(rank, command, error) from error
        try:
            self._processes.pipes[rank].send_bytes(message)
        except OSError:
            if self._closing:
                raise
            # a dead rank is found, and named, while we wait for its answer

    def answers(self, commands: Sequence[object]) -> list[Done]:
        """Wait for each rank's answer to its command."""
        answers: dict[int, Done] = {}
        waiting = {pipe: rank for rank, pipe in enumerate(self._processes.pipes)}
        watch = _Watch(self._processes, self.patience)
        while waiting:
            ready = connection.wait(list(waiting), timeout=watch.left())
            if not ready and watch.is_over():
                raise self._timed_out(waiting, answers, self.patience)
            for pipe in ready:
                assert isinstance(pipe, Connection)
                rank = waiting.pop(pipe)
                answer = self._receive(pipe)
                if not isinstance(answer, Done):
                    raise self._cause(rank, answer, waiting, commands, answers)
                answers[rank] = answer
        return [answers[rank] for rank in range(len(commands))]

    def _receive(self, pipe: Connection) -> Done | Failed | None:
        """A rank's answer; None if it died without one."""
        try:
            answer: Done | Failed = receive(pipe)
        except (EOFError, OSError):
            return None
        return answer

    def _cause(
        self, rank: int, answer: Failed | None, waiting: dict[Connection, int],
        commands: Sequence[object], answers: dict[int, Done],
    ) -> RankError:  # fmt: skip
        """The error to raise: the first cause, not a neighbour's complaint about it."""
        is_late = answer is not None and "Timed out" in answer.summary  # who hangs will not speak
        until = time.monotonic() + (0.3 * _GRACE if is_late else _GRACE)
        while answer is not None and answer.echo and waiting and time.monotonic() < until:
            for pipe in connection.wait(list(waiting), timeout=0.1):
                assert isinstance(pipe, Connection)
                other = waiting.pop(pipe)
                report = self._receive(pipe)
                if isinstance(report, Done):
                    answers[other] = report
                elif report is None or not report.echo:
                    rank, answer = other, report
                    break
        if answer is None:
            return died(rank, self.processes[rank], self._processes.progress, self._processes.logs)
        if answer.echo:  # nobody failed: somebody neither answers nor sends
            return self._timed_out(waiting, answers, self.timeout)
        return failed(rank, answer, doing(commands[rank]))

    def _timed_out(
        self, waiting: dict[Connection, int], answers: dict[int, Done], timeout: float
    ) -> RankError:
        late = Late(
            [process.pid or 0 for process in self.processes],
            self._processes.progress,
            sorted(waiting.values()),
            sorted(answers),
        )
        return timed_out(late, timeout)

    @property
    def progress(self) -> Progress:
        """Where each rank is right now."""
        return self._processes.progress

    @property
    def is_closed(self) -> bool:
        """Whether the ranks are gone."""
        return not self._end.alive

    def close(self, why: str = "") -> None:
        """End all processes and remove the private folder. Any thread may call it, twice too."""
        self._closing = True
        self._processes.cut()  # another thread may wait for the ranks' answers
        with self.lock:
            self.why_closed = self.why_closed or why
            self._end()


class _Watch:
    """A deadline that moves while any rank makes progress: ``timeout`` is for one wait."""

    def __init__(self, processes: Processes, timeout: float):
        self.processes, self.timeout = processes, timeout
        self.seen: list[int] = []
        self.is_over()

    def left(self) -> float:
        """Seconds to wait before the next look."""
        return min(1.0, max(0.01, self.deadline - time.monotonic()))

    def is_over(self) -> bool:
        """Whether no rank began anything for ``timeout`` seconds, and half a second of grace."""
        self.processes.logs.bound()
        progress = self.processes.progress
        now = [progress.read(rank)[0] for rank in range(len(self.processes.all))]
        if now != self.seen:
            self.seen, self.deadline = now, time.monotonic() + self.timeout + 0.5
        return time.monotonic() > self.deadline

"""Start the ranks of one pipeline, talk to them, and never leave one behind.

Processes come from Python's fork server, which has torch loaded before it forks (see
``fork_server``): four ranks are up in well under a tenth of a second.
"""

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, spawn
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

import torch

from pipelab.engine import fork_server
from pipelab.engine import rank as rank_process
from pipelab.engine.commands import Done, Failed, receive, send
from pipelab.engine.fork_server import CONTEXT
from pipelab.engine.mesh import PATIENCE
from pipelab.engine.progress import Progress
from pipelab.engine.report import LogReader, died, failed, timed_out
from pipelab.errors import LaunchError, PipelineClosed, RankError

_GRACE = 1.0  # seconds for the other ranks to say their last words, so that the cause is found
_START_LOCK = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from running the learner's script again in each rank.

    It would re-import ``__main__`` by its file; a script without a main guard would then launch
    itself. Our ranks need no ``__main__``: what is defined there reaches them by value.
    """
    us, original = threading.get_ident(), spawn.get_preparation_data

    def preparation(name: str) -> dict[str, object]:
        data: dict[str, object] = original(name)
        if threading.get_ident() == us:
            data = {k: v for k, v in data.items() if not k.startswith("init_main")}
        return data

    with _START_LOCK, mock.patch.object(spawn, "get_preparation_data", preparation):
        yield


class Ranks:
    """The processes of one pipeline, all its replicas. ``ask`` is the only way to talk to them."""

    clock_error = 0.0  # seconds: they share one clock

    def __init__(self, num_ranks: int, replicas: int, timeout: float):
        fork_server.start()
        self.timeout = timeout
        self.patience = max(timeout, PATIENCE)  # for the next answer; ``ready`` ends it
        self.processes: list[ForkServerProcess] = []
        self.pipes: list[Connection] = []
        self.folder = Path(tempfile.mkdtemp(prefix="pipelab-"))  # mode 0700
        self.progress = Progress(self.folder, num_ranks)
        self.logs = LogReader(self.folder, num_ranks)
        self._lock = threading.RLock()  # held while ranks work; a second thread may close
        self._closing = False
        self._end = weakref.finalize(self, _end, self.processes, self.pipes, self.folder)
        try:
            self._start(num_ranks, replicas)
            self.answers(range(num_ranks))
        except RankError as error:
            raise LaunchError(f"the ranks did not come up: {error}") from None
        except BaseException:
            self.close()
            raise

    def _start(self, num_ranks: int, replicas: int) -> None:
        threads = threads_per_rank(num_ranks)
        for rank in range(num_ranks):
            ours, theirs = CONTEXT.Pipe()
            args = (rank, num_ranks, replicas, theirs, self.folder, self.timeout, threads)
            process = CONTEXT.Process(
                target=rank_process.main, args=args, name=f"pipelab rank {rank}", daemon=True
            )
            self.pipes.append(ours)
            with _without_main():
                process.start()
            self.processes.append(process)
            theirs.close()

    def ready(self) -> None:
        """The stages are built: from now on ``timeout`` holds."""
        self.patience = self.timeout

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Give each rank its command, do something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late. All ranks are gone then.
        """
        with self._lock:
            try:
                for pipe, command in zip(self.pipes, commands, strict=True):
                    with suppress(OSError):  # a dead rank is found, and named, while we wait
                        send(pipe, command)
                if meanwhile is not None:
                    meanwhile()
                answers = self.answers(range(len(self.pipes)))
                self.logs.replay()
                return answers
            except BaseException as error:
                self.logs.replay()
                stopped = self._closing and isinstance(error, RankError)
                self.close()
                if stopped:
                    raise PipelineClosed("the pipeline was closed during its work") from None
                raise

    def answers(self, ranks: Sequence[int]) -> list[Done]:
        """Wait for one answer from each of these ranks."""
        answers: dict[int, Done] = {}
        waiting = {self.pipes[rank]: rank for rank in ranks}
        watch = _Watch(self.progress, ranks, self.patience)
        while waiting:
            ready = connection.wait(list(waiting), timeout=watch.left())
            if not ready and watch.is_over():
                raise timed_out(self.progress, sorted(waiting.values()), self.patience)
            for pipe in ready:
                assert isinstance(pipe, Connection)
                rank = waiting.pop(pipe)
                answer = self._receive(rank)
                if not isinstance(answer, Done):
                    raise self._cause(rank, answer, waiting)
                answers[rank] = answer
        return [answers[rank] for rank in ranks]

    def _receive(self, rank: int) -> Done | Failed | None:
        """A rank's answer; None if it died without one."""
        try:
            answer: Done | Failed = receive(self.pipes[rank])
        except (EOFError, OSError):
            return None
        return answer

    def _cause(self, rank: int, answer: Failed | None, waiting: dict[Connection, int]) -> RankError:
        """The error to raise: the first cause, not a neighbour's complaint about it."""
        until = time.monotonic() + _GRACE
        reports: dict[int, Failed | None] = {rank: answer}
        while answer is not None and answer.echo and waiting and time.monotonic() < until:
            for pipe in connection.wait(list(waiting), timeout=0.1):
                assert isinstance(pipe, Connection)
                other = waiting.pop(pipe)
                report = self._receive(other)
                if isinstance(report, Done):
                    continue
                reports[other] = report
                if report is None or not report.echo:
                    rank, answer, until = other, report, 0.0
        if answer is None:
            return died(rank, self.processes[rank], self.progress, self.logs)
        if answer.echo and waiting:  # nobody failed: somebody neither answers nor sends
            return timed_out(self.progress, sorted(waiting.values()), self.timeout)
        return failed(rank, answer)

    @property
    def is_closed(self) -> bool:
        """Whether the ranks are gone."""
        return not self._end.alive

    def close(self) -> None:
        """End all processes and remove the private folder. Any thread may call it, twice too."""
        self._closing = True
        if not self._lock.acquire(blocking=False):  # another thread waits for the ranks' answers
            for process in self.processes:
                process.kill()
            self._lock.acquire()
        try:
            self._end()
        finally:
            self._lock.release()


class _Watch:
    """A deadline that moves while any rank makes progress: ``timeout`` is for one wait."""

    def __init__(self, progress: Progress, ranks: Sequence[int], timeout: float):
        self.progress, self.ranks, self.timeout = progress, ranks, timeout
        self.seen: list[int] = []
        self.is_over()

    def left(self) -> float:
        """Seconds to wait before the next look."""
        return min(1.0, max(0.01, self.deadline - time.monotonic()))

    def is_over(self) -> bool:
        """Whether no rank began anything for ``timeout`` seconds, and half a second of grace."""
        now = [self.progress.read(rank)[0] for rank in self.ranks]
        if now != self.seen:
            self.seen, self.deadline = now, time.monotonic() + self.timeout + 0.5
        return time.monotonic() > self.deadline


def threads_per_rank(num_ranks: int) -> int:
    """Threads for torch in each rank: this process's own number, shared out, at least one.

    More threads than cores would spin for each other: a tiny model gets ten times slower. And the
    number matters to the last bit: a matrix product may add up differently with each.
    """
    return max(1, torch.get_num_threads() // num_ranks)


def _end(processes: list[ForkServerProcess], pipes: list[Connection], folder: Path) -> None:
    """Close the pipes, on which idle ranks leave by themselves; kill those that do not."""
    for pipe in pipes:
        pipe.close()
    until = time.monotonic() + 0.2
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
        process.join()
    shutil.rmtree(folder, ignore_errors=True)

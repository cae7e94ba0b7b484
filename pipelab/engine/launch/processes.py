"""The processes of one pipeline's ranks: how they start, and how they end in every case.

All hold the reading end of one pipe, the *lifeline*. They end at once when its other end is
closed: by ``Processes.end``, or by the system when the parent dies, whatever they are doing and
even if their start was interrupted. Their folder is removed as soon as they are connected, so that
nothing is left on the disk, however they end.
"""

import socket
import threading
import time
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from pipelab.engine.launch import fork_server, rank_process
from pipelab.engine.launch.child import Child
from pipelab.engine.launch.delivery import writer_of
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.leftovers import PrivateFolder
from pipelab.engine.launch.refused import refused
from pipelab.engine.protocol import process_settings
from pipelab.engine.protocol.logs import LogReader
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.transport.shared_memory import SharedFiles

_EXIT_TIME = 0.2  # seconds for ranks to end by themselves
_KILL_TIME = 5.0  # seconds for killed ranks to be gone: a busy system is slow


class Processes:
    """The ranks' processes, the pipes to them, and what they share.

    Raises:
        LaunchError: the system gives no files or no room for them; nothing is left then.
    """

    def __init__(self, num_ranks: int):
        self.all: list[Child] = []
        self.pipes: list[Connection] = []
        self.writers: list[socket.socket] = []  # of the same pipes
        self._closing = threading.RLock()  # two threads would close the pipe's file twice
        with ExitStack() as opened:
            try:
                self._open(num_ranks, opened)
            except OSError as error:
                raise refused("the ranks did not start", error) from None
            self._opened = opened.pop_all()

    def _open(self, num_ranks: int, opened: ExitStack) -> None:
        self._folder = PrivateFolder()
        self.folder = self._folder.path
        opened.callback(self.remove_folder)
        opened.callback(self._folder.close)
        self.progress = Progress(self.folder, num_ranks)
        opened.callback(self.progress.close)
        self.logs = LogReader(self.folder, num_ranks)
        opened.callback(self.logs.close)
        self._shared = SharedFiles(num_ranks)
        opened.callback(self._shared.close)
        self._read_end, self._lifeline = Pipe(duplex=False)
        opened.callback(self._read_end.close)
        opened.callback(self._lifeline.close)

    def start(self, num_ranks: int, replicas: int, timeout: float) -> None:
        """Fork all ranks; they begin to connect to each other."""
        fork_server.wait_until_up()
        threads = threads_per_rank(num_ranks)
        settings = process_settings.current()  # as they are now: the server has its start's
        for rank in range(num_ranks):
            with Uninterrupted(), self._pipe() as theirs:  # a rank that nobody knows would stay
                self.all.append(fork_server.fork(
                    f"pipelab rank {rank}", rank_process.main,
                    rank, num_ranks, replicas, theirs, self._read_end, self._shared.of_rank(rank),
                    self.folder, timeout, threads, settings,
                ))  # fmt: skip
        with Uninterrupted():
            self._shared.close()

    def _pipe(self) -> Connection:
        """The rank's end of a new pipe; ours is kept."""
        ours, theirs = fork_server.pipe()
        self.pipes.append(ours)
        self.writers.append(writer_of(ours))
        return theirs

    @property
    def _ends(self) -> list[Connection | socket.socket]:
        return [*self.pipes, *self.writers]

    def remove_folder(self) -> None:
        """Remove the folder: the ranks are connected, and hold open what they still need."""
        self._folder.remove()

    def close_lifeline(self) -> None:
        """Make all ranks end, whatever they do."""
        with self._closing:
            with suppress(OSError):  # closed already
                self._lifeline.send_bytes(b"end")  # a process may hold a copy of it
            self._lifeline.close()

    def end(self) -> None:
        """Make all ranks end, kill those that do not, and close all that is open."""
        with Uninterrupted():
            self.close_lifeline()
            for end in self._ends:
                end.close()
            until = time.monotonic() + _EXIT_TIME
            for child in self.all:
                if not child.has_ended(max(0.0, until - time.monotonic())):
                    child.kill()
            until = time.monotonic() + _KILL_TIME
            for child in self.all:
                child.has_ended(max(0.0, until - time.monotonic()))
                child.close()
            self._opened.close()

    def forget(self) -> None:
        """In a forked child: close the copies of pipes and files, and end nothing."""
        for end in [*self._ends, self._read_end, self._lifeline]:
            end.close()
        for child in self.all:
            child.close()
        self.progress.close()
        self.logs.close()
        self._folder.close()
        self._shared.close()


def threads_per_rank(num_ranks: int) -> int:
    """Threads for torch in each rank: this process's number, divided among them, at least one.

    With more threads than cores they would spin while they wait for each other: a tiny model gets
    ten times slower. And the number changes the last bits: a matrix product may be summed in
    another order with each.
    """
    return max(1, torch.get_num_threads() // num_ranks)


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger holds a process (Linux; elsewhere nobody can say)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"

"""The processes of one pipeline's ranks: how they start, and how they end in every case.

All hold the reading end of one pipe, the *lifeline*. They end at once when its other end is
closed: by ``Processes.end``, or by the system when the parent dies, whatever they are doing and
even if their start was interrupted. Their folder is removed as soon as they are connected, so that
nothing is left on the disk, however they end.
"""

import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import spawn
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from pipelab.engine.launch import fork_server, rank_process
from pipelab.engine.launch.fork_server import CONTEXT
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.protocol import process_settings
from pipelab.engine.protocol.logs import LogReader
from pipelab.engine.protocol.progress import Progress

_OURS = "pipelab "  # how the names of all our processes begin
_EXIT_TIME = 0.2  # seconds for ranks to end by themselves
_KILL_TIME = 5.0  # seconds for killed ranks to be gone: a busy system is slow
_preparation_data = spawn.get_preparation_data


def _preparation(name: str) -> dict[str, object]:
    """Keep multiprocessing from running the learner's script again in each rank.

    It would re-import ``__main__`` by its file; a script without a main guard would then launch
    itself. Our ranks need no ``__main__``: what is defined there reaches them by value.
    """
    data: dict[str, object] = _preparation_data(name)
    if name.startswith(_OURS):
        data = {k: v for k, v in data.items() if not k.startswith("init_main")}
    return data


# Set once: a patch around each start could be left in place by a Ctrl-C.
spawn.get_preparation_data = _preparation


class Processes:
    """The ranks' processes, the pipes to them, and what they share."""

    def __init__(self, num_ranks: int):
        self.all: list[ForkServerProcess] = []
        self.pipes: list[Connection] = []
        self.folder = Path(tempfile.mkdtemp(prefix=fork_server.prefix(os.getpid())))  # mode 0700
        self.progress = Progress(self.folder, num_ranks)
        self.logs = LogReader(self.folder, num_ranks)
        self._read_end, self._lifeline = CONTEXT.Pipe(duplex=False)
        self._closing = threading.RLock()  # two threads would close the pipe's file twice

    def start(self, num_ranks: int, replicas: int, timeout: float) -> None:
        """Fork all ranks; they begin to connect to each other."""
        fork_server.start()
        fork_server.wait_until_up()
        threads = threads_per_rank(num_ranks)
        own_settings = (
            process_settings.current()
        )  # as they are now: the server has those of its start
        for rank in range(num_ranks):
            with Uninterrupted():  # half a request would end Python's server
                ours, theirs = CONTEXT.Pipe()
                self.pipes.append(ours)
                process = CONTEXT.Process(
                    target=rank_process.main,
                    args=(rank, num_ranks, replicas, theirs, self._read_end, self.folder,
                          timeout, threads, own_settings),
                    name=f"{_OURS}rank {rank}",
                    daemon=True,
                )  # fmt: skip
                self.all.append(process)
                try:
                    process.start()
                except (EOFError, ConnectionError) as error:
                    raise fork_server.ended(error) from error
                theirs.close()

    def remove_folder(self) -> None:
        """Remove the folder: the ranks are connected, and hold open what they still need."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close_lifeline(self) -> None:
        """Make all ranks end, whatever they do."""
        with self._closing:
            with suppress(OSError):  # closed already
                self._lifeline.send_bytes(b"end")  # a child that the learner forked may hold it
            self._lifeline.close()

    def end(self) -> None:
        """Make all ranks end, kill those that do not, and close all that is open."""
        with Uninterrupted():
            self.close_lifeline()
            for pipe in self.pipes:
                pipe.close()
            until = time.monotonic() + _EXIT_TIME
            started = [process for process in self.all if process.pid is not None]
            for process in started:
                process.join(max(0.0, until - time.monotonic()))
                if process.is_alive():
                    process.kill()
            until = time.monotonic() + _KILL_TIME
            for process in started:
                process.join(max(0.0, until - time.monotonic()))
                with suppress(ValueError):  # still running: Python closes it at the next launch
                    process.close()
            self._read_end.close()
            self.progress.close()
            self.logs.close()
            self.remove_folder()


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

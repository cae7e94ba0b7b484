"""The processes of one pipeline's ranks: how they start, and how they end in every case.

All hold the reading end of one pipe, the *lifeline*. They end at once when its other end is
closed: by ``Processes.end``, or by the system when the parent dies, whatever they are doing and
even if their start was cut short. Their folder is removed as soon as they have met, so that
nothing is left on the disk, however they die.
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
from pipelab.engine.protocol.device import gpu_variables
from pipelab.engine.protocol.logs import LogReader
from pipelab.engine.protocol.progress import Progress

_OURS = "pipelab "  # how the names of all our processes begin
_FAREWELL = 0.2  # seconds for ranks to end by themselves
_DEATH = 5.0  # seconds for all that were killed to be gone: a busy system takes its time
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


# Once and for good: what came and went with each start could be left half done by a Ctrl-C.
spawn.get_preparation_data = _preparation


class Processes:
    """The ranks' processes, the pipes to them, and what they share."""

    def __init__(self, num_ranks: int):
        self.all: list[ForkServerProcess] = []
        self.pipes: list[Connection] = []
        self.folder = Path(tempfile.mkdtemp(prefix=fork_server.prefix(os.getpid())))  # mode 0700
        self.progress = Progress(self.folder, num_ranks)
        self.logs = LogReader(self.folder, num_ranks)
        self._their_line, self._lifeline = CONTEXT.Pipe(duplex=False)
        self._cutting = threading.RLock()  # two threads would close the line's file twice

    def start(self, num_ranks: int, replicas: int, timeout: float) -> None:
        """Fork all ranks; they begin to look for each other."""
        fork_server.start()
        fork_server.wait_until_up()
        threads = threads_per_rank(num_ranks)
        variables = gpu_variables()  # as they are now: the server has those of its own start
        for rank in range(num_ranks):
            with Uninterrupted():  # half a request would be the end of Python's server
                ours, theirs = CONTEXT.Pipe()
                self.pipes.append(ours)
                process = CONTEXT.Process(
                    target=rank_process.main,
                    args=(rank, num_ranks, replicas, theirs, self._their_line, self.folder,
                          timeout, threads, variables),
                    name=f"{_OURS}rank {rank}",
                    daemon=True,
                )  # fmt: skip
                self.all.append(process)
                try:
                    process.start()
                except (EOFError, ConnectionError) as error:
                    raise fork_server.ended(error) from error
                theirs.close()

    def forget_folder(self) -> None:
        """Remove the folder: the ranks have met, and hold open what they still need."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def cut(self) -> None:
        """Let all ranks end, whatever they do."""
        with self._cutting:
            with suppress(OSError):  # cut already
                self._lifeline.send_bytes(b"end")  # a child that the learner forked may hold it
            self._lifeline.close()

    def end(self) -> None:
        """Let all ranks end, kill those that do not, and close all that is open."""
        with Uninterrupted():
            self.cut()
            for pipe in self.pipes:
                pipe.close()
            until = time.monotonic() + _FAREWELL
            started = [process for process in self.all if process.pid is not None]
            for process in started:
                process.join(max(0.0, until - time.monotonic()))
                if process.is_alive():
                    process.kill()
            until = time.monotonic() + _DEATH
            for process in started:
                process.join(max(0.0, until - time.monotonic()))
                with suppress(ValueError):  # not even now: Python closes it at the next launch
                    process.close()
            self._their_line.close()
            self.progress.close()
            self.logs.close()
            self.forget_folder()


def threads_per_rank(num_ranks: int) -> int:
    """Threads for torch in each rank: this process's own number, shared out, at least one.

    More threads than cores would spin for each other: a tiny model gets ten times slower. And the
    number matters to the last bit: a matrix product may add up differently with each.
    """
    return max(1, torch.get_num_threads() // num_ranks)

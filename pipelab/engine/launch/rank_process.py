"""A rank's process: connect to the others, then answer the parent's commands until it ends.

A rank never writes to the parent's output: what it prints goes to a file, one for each rank, which
the parent replays in rank order. It ends with its parent, whatever happens to the parent.
"""

import os
import shutil
import sys
import threading
from contextlib import suppress
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import NoReturn

import torch

from pipelab.engine.launch.freed_memory import keep_freed_memory
from pipelab.engine.protocol.commands import Build, Done, PipeEnded, receive, send
from pipelab.engine.protocol.process_settings import Settings, take_over
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.opening import open_session
from pipelab.engine.rank.raised import failure_of
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import Session
from pipelab.engine.transport import groups
from pipelab.engine.transport.shared_memory import Shared

_ENDING = threading.Lock()


def main(
    rank: int, num_ranks: int, replicas: int, pipe: Connection, lifeline: Connection,
    shared: Shared | None, folder: Path, timeout: float, threads: int, settings: Settings,
) -> NoReturn:  # fmt: skip
    """Be rank ``rank`` of ``num_ranks``, replicas included: the target of the process."""
    try:
        _print_to(folder / f"rank-{rank}.log")
    except FileNotFoundError:
        os._exit(0)  # the pipeline was closed before this rank had started
    threading.Thread(target=_end_with_parent, args=(lifeline, folder), daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    affinity = Affinity(rank, num_ranks, threads)
    affinity.bind()
    recorder = Recorder(rank, Progress(folder, num_ranks))
    try:
        take_over(settings)
        send(pipe, Done())
        session: Session | None = None
        while True:
            command = receive(pipe)
            if isinstance(command, Build):
                joined = None
                if replicas > 1 or not command.options.place.is_shared:
                    joined = groups.join(folder, rank, num_ranks, replicas)
                session = open_session(recorder, joined, affinity, command, timeout, shared)
                answer = Done()
            else:
                assert session is not None, "the first command is Build"
                answer = session.answer(command)
                if session.is_paced and not pipe.poll():
                    session.settle()
            _flush()
            send(pipe, answer)
    except PipeEnded:
        _exit(0)  # the parent has closed the pipeline
    except BaseException as error:  # SystemExit from a learner's code included
        _flush()
        with suppress(PipeEnded):
            send(pipe, failure_of(recorder, error))
        _exit(1)


def _print_to(path: Path) -> None:
    """Send all that this process prints, from Python or from C, to a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _end_with_parent(lifeline: Connection, folder: Path) -> None:
    """Wait for the pipeline's end or the parent's death, and end at once."""
    wait([lifeline])
    shutil.rmtree(folder, ignore_errors=True)
    _exit(1)


def _exit(code: int) -> NoReturn:
    """End at once, but remove the named semaphores that this process has made.

    A progress bar of tqdm's has one, and torch.compile shows some. Python would say at the parent's
    exit that they were leaked.
    """
    with _ENDING:  # the other thread may be at it
        for finalizer in [*util._finalizer_registry.values()]:  # type: ignore[attr-defined]
            if finalizer._callback is SemLock._cleanup:  # type: ignore[attr-defined]
                finalizer()
        os._exit(code)

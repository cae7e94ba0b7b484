"""The life of a rank's process: join the others, then answer the parent's commands until it ends.

A rank never writes to the parent's output: what it prints goes to a file of its own, which the
parent replays in rank order. It ends with its parent, whatever happens to the parent.
"""

import os
import shutil
import sys
import threading
import traceback
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import torch

from pipelab.action import Kind
from pipelab.engine import mesh
from pipelab.engine.commands import Build, Done, Failed, Fetch, Run, Use, receive, send
from pipelab.engine.p2p import MessageError, Messages
from pipelab.engine.progress import Progress
from pipelab.engine.recorder import Recorder
from pipelab.engine.worker import Worker


def main(
    rank: int, num_ranks: int, pipe: Connection, folder: Path, timeout: float, threads: int
) -> NoReturn:
    """Be rank ``rank``: the target of the process. Never returns."""
    _print_to(folder / f"rank-{rank}.log")
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    torch.set_num_threads(threads)
    if threads == 1:
        _stay_on_a_core(rank, num_ranks)
    recorder = Recorder(rank, Progress(folder, num_ranks))
    try:
        group = mesh.join(folder, rank, num_ranks)
        send(pipe, Done())
        worker: Worker | None = None
        while True:
            command = receive(pipe)
            if isinstance(command, Build):
                messages = Messages(group, command.num_stages, timeout)
                worker, answer = Worker(recorder, messages, command), Done()
            else:
                assert worker is not None, "the first command is Build"
                answer = _answer(worker, command)
            _flush()
            send(pipe, answer)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent has closed the pipeline
    except BaseException as error:  # SystemExit from a learner's code included
        _flush()
        send(pipe, _last_words(recorder, error))
        os._exit(1)


def _answer(worker: Worker, command: object) -> Done:
    match command:
        case Use():
            worker.use(command)
            return Done()
        case Run():
            return worker.take(command)
        case Fetch(what=what):
            return Done(tensors=worker.tensors(what))
        case _:
            raise TypeError(f"unknown command {type(command).__name__}")


def _last_words(recorder: Recorder, error: BaseException) -> Failed:
    """What went wrong, where, with the traceback as this rank saw it."""
    action = recorder.action
    token = None
    if action is not None:
        token = f"the wait before {action.stage}" if action.kind is Kind.WAIT else action.token
    return Failed(
        action=token,
        summary=f"{type(error).__name__}: {error}".rstrip(": "),
        details="".join(traceback.format_exception(error)),
        echo=isinstance(error, MessageError),
    )


def _print_to(path: Path) -> None:
    """Send all that this process prints, from Python or from C, to a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _stay_on_a_core(rank: int, num_ranks: int) -> None:
    """Where ranks fill or outnumber the cores, keep each of them, messages too, on one core.

    The system would move them about, and two ranks that share a core by chance while another core
    rests are what a small step spends most of its time on. (Linux only; elsewhere it goes on.)
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if num_ranks >= len(cores):
            os.sched_setaffinity(0, {cores[rank % len(cores)]})


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _end_with_parent(folder: Path) -> None:
    """Wait for the parent's death, which no signal announces, and follow it at once."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)

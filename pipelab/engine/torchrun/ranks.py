"""The ranks that torchrun has started: each process runs the script, and *is* one rank.

The same face as ``launch.Ranks``, on one machine or several. Every process holds the commands for
all ranks, since each ran the same script on the same data. It answers its own, so no batch is sent
anywhere, and then all exchange their answers. Loss, gradients and trace are the same everywhere,
so that no script takes a turn on one rank that it does not take on the others.

    script ─▶ Pipeline.step ─▶ own command ─▶ Session ─▶ own answer ─▶ Board ─▶ all answers
"""

import copy
import itertools
import os
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import torch
import torch.distributed as dist

from pipelab.engine.protocol.commands import Build, Done, Failed, Run, dumps
from pipelab.engine.protocol.host import LOOPBACK, address_towards, is_loopback, machine
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.opening import open_session
from pipelab.engine.rank.recorder import Recorder, shifted
from pipelab.engine.rank.session import Session, last_words
from pipelab.engine.torchrun.clocks import Clock, measure
from pipelab.engine.torchrun.fingerprint import fingerprint
from pipelab.engine.torchrun.sockets import Wires
from pipelab.engine.torchrun.store import Board, Note, Round
from pipelab.engine.torchrun.verdict import verdict
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import MessageError
from pipelab.errors import LaunchError
from pipelab.partition.tree import Flat

_LARGE = 1 << 16  # bytes: answers beyond go from rank to rank, not through the store
_REMEASURE = 2.0  # seconds after which clocks are compared again, before the next batch
_number = itertools.count()  # of the pipeline: the script opens the same ones on every rank


class Member(NamedTuple):
    """One rank's process, as it introduces itself."""

    pid: int
    machine: str
    address: str  # from which it reaches rank 0's machine


class TorchrunRanks:
    """This process as one of torchrun's ranks; ``ask`` does its part of each call."""

    def __init__(self, num_ranks: int, replicas: int, timeout: float):
        self.rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if size != num_ranks:
            raise LaunchError(_wrong_size(size, num_ranks, replicas))
        self.num_ranks, self.timeout = num_ranks, timeout
        self.patience = max(timeout, groups.PATIENCE)  # for the next answer; ``ready`` ends it
        self.clock, self.clock_error = Clock(), 0.0
        self.why_closed = ""
        self.compared = self.last_note = 0.0  # on rank 0's clock, so that all ranks decide alike
        self.session: Session | None = None
        with tempfile.TemporaryDirectory(prefix="pipelab-") as folder:
            progress = Progress(Path(folder), num_ranks)  # the mapped page outlives its file
        self.progress = progress  # of this rank alone
        self.recorder = Recorder(self.rank, progress)
        wires = self.wires = Wires()
        board = self.board = Board(self.rank, num_ranks, partial(progress.read, self.rank))
        self._end = weakref.finalize(self, _end, board, wires)
        try:
            board.open(f"pipelab {next(_number)}")
            me = Member(os.getpid(), machine(), address_towards(os.environ["MASTER_ADDR"]))
            self.processes: list[Member] = board.share(me)
            with wires.collect():
                address = _address(self.processes, self.rank)
                self.groups = groups.meet(board.store, self.rank, num_ranks, replicas, address)
        except (RuntimeError, OSError) as error:
            self.close()
            raise LaunchError(_not_met(self.rank, num_ranks, error)) from None
        self.one_clock = len({member.machine for member in self.processes}) == 1

    def ready(self, meet_again: bool = False) -> None:
        """The stages are built: from now on ``timeout`` holds."""
        self.patience = self.timeout

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Do this rank's command, then something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late; every rank raises the same.
        """
        asked, failure = fingerprint(commands), None
        answer: Done | Failed
        try:
            answer = self._answer(commands[self.rank])
            if meanwhile is not None:
                meanwhile()
        except BaseException as error:  # SystemExit from a learner's code included
            failure, answer = error, last_words(self.recorder, error)
        try:
            return self._exchange(answer, asked)
        except BaseException as error:
            self.close()
            if isinstance(failure, KeyboardInterrupt):
                raise failure from None
            own = isinstance(answer, Failed) and not answer.echo  # a complaint would bury the cause
            raise error from (failure if own else None)

    def _answer(self, command: object) -> Done:
        if isinstance(command, Build):
            build = copy.deepcopy(command)  # the script's own model stays as it is
            affinity = Affinity(self.rank, self.num_ranks, threads=0)  # leaves the script's alone
            self.session = open_session(self.recorder, self.groups, affinity, build, self.timeout)
            return Done()
        assert self.session is not None, "the first command is Build"
        if isinstance(command, Run):
            self._compare_clocks()
            command = replace(command, inputs=_own(command.inputs), targets=_own(command.targets))
        device = self.session.device
        gpus = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            # dropout seeds differ from rank to rank; what the script draws next must not
            answer = self.session.answer(command)
        offset = self.clock.offset
        events = [shifted(row, offset) for row in answer.events]
        seen = [(*row[:3], row[3] + offset, row[4] + offset) for row in answer.seen]
        return replace(answer, events=events, seen=seen)

    def _compare_clocks(self) -> None:
        """Measure the clocks anew where they differ and the last time is long ago."""
        if self.one_clock or (self.compared and self.last_note - self.compared < _REMEASURE):
            return
        self.compared = self.last_note
        try:
            self.clock = measure(self.groups.everyone, self.rank, self.num_ranks, self.timeout)
        except RuntimeError as error:
            raise MessageError(f"the clocks were not compared: {error}", 0) from None
        assert self.session is not None
        self.session.messages.clock_offset = self.clock.offset

    def _exchange(self, answer: Done | Failed, asked: tuple[str, int]) -> list[Done]:
        """All answers; those of this rank have gone to all others."""
        message = dumps(answer)
        if isinstance(answer, Failed):
            self.wires.cut()
        short = answer if len(message) <= _LARGE or isinstance(answer, Failed) else len(message)
        self.board.pin(Note(short, asked, time.monotonic(), self.clock.error_now()))
        found = self.board.read(self.patience)
        problem = verdict(found, self.patience)
        if problem is not None:
            raise problem
        self.last_note = found.notes[0].now
        self.clock_error = max(note.clock_error for note in found.notes.values())
        try:
            return [self._take(rank, found, message) for rank in range(self.num_ranks)]
        except RuntimeError as error:  # a rank went away while it sent its answer
            lost = MessageError(f"an answer did not come: {error}", self.rank)
            return self._exchange(last_words(self.recorder, lost), asked)

    def _take(self, rank: int, found: Round, message: bytes) -> Done:
        """The answer of one rank; a large one is sent now. Copies, on every rank alike."""
        answer = found.notes[rank].answer
        assert not isinstance(answer, Failed)
        if isinstance(answer, Done):
            return answer
        own = rank == self.rank
        buffer = bytearray(message) if own else bytearray(answer)
        options = dist.BroadcastOptions()
        options.rootRank, options.timeout = rank, timedelta(seconds=self.timeout)
        tensor = torch.frombuffer(buffer, dtype=torch.uint8)
        self.groups.everyone.broadcast([tensor], options).wait()
        received: Done = cloudpickle.loads(buffer)
        return received

    @property
    def is_closed(self) -> bool:
        """Whether this rank takes part no more."""
        return not self._end.alive

    def close(self) -> None:
        """Leave the others, who hear why; the process stays, it is the script's."""
        self._end()
        session, self.session = self.session, None
        if session is not None:
            with suppress(RuntimeError):  # CUDA's own: what led here is the cause
                session.close()


def _end(board: Board, wires: Wires) -> None:
    error = sys.exception()
    board.leave(f"{type(error).__name__}: {error}" if error else "it came to its end")
    wires.cut()


def _own(batch: Flat | None) -> Flat | None:
    """Copies, since a layer that works in place must not change the script's batch."""
    return None if batch is None else batch.map(lambda tensor: tensor.detach().clone())


def _address(members: Sequence[Member], rank: int) -> str | None:
    """The address of this machine that the other ranks reach; None if the user has chosen one."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return None
    if len({member.machine for member in members}) == 1:
        return LOOPBACK
    own = members[rank]
    if is_loopback(own.address):  # rank 0's machine under its own name: look outwards instead
        outside = [m.address for m in members if m.machine != own.machine]
        own = own._replace(address=address_towards(outside[0]))
    if is_loopback(own.address):
        raise OSError(
            f"the machines meet at {os.environ['MASTER_ADDR']}, which is loopback here: give "
            f"torchrun an address that all reach, or set GLOO_SOCKET_IFNAME"
        )
    return own.address


def _wrong_size(size: int, num_ranks: int, replicas: int) -> str:
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    per_node, rest = divmod(num_ranks, nodes)
    number = f"--nproc-per-node {num_ranks}" if rest else f"--nproc-per-node {per_node}"
    where = f"--nnodes {nodes} " if nodes > 1 and not rest else ""
    copies = f"{num_ranks // replicas} ranks x {replicas} replicas" if replicas > 1 else "its ranks"
    return (
        f"torchrun started {size} processes, but {copies} take {num_ranks}: one process is one "
        f"rank. Run\n  torchrun {where}{number} script.py\n"
        f"or set PIPELAB_TORCHRUN=0, and each process starts ranks of its own."
    )


def _not_met(rank: int, num_ranks: int, error: Exception) -> str:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"rank {rank} did not meet the other ranks ({num_ranks} in all) through torchrun's store "
        f"at {address}: {error}"
    )

"""The ranks that torchrun has started: each process runs the script, and *is* one rank.

On one machine or several. Every process holds the commands for all ranks, since each ran the same
script on the same data. It answers its own, so no batch is sent anywhere, and then all exchange
their answers. Loss, gradients and trace are the same everywhere, so that the script takes the same
branches on all ranks.

    script ─▶ Pipeline.step ─▶ own command ─▶ Session ─▶ own answer ─▶ AnswerStore ─▶ all answers
"""

import itertools
import os
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import cloudpickle
import torch
import torch.distributed as dist

from pipelab.engine.failures.cause import cause
from pipelab.engine.failures.findings import Findings
from pipelab.engine.protocol.commands import Build, Done, Run, dumps
from pipelab.engine.protocol.copies import copied
from pipelab.engine.protocol.failure import Failure
from pipelab.engine.protocol.forks import PARENTS, forget_in_children
from pipelab.engine.protocol.progress import Begun, Progress
from pipelab.engine.rank.affinity import Affinity
from pipelab.engine.rank.opening import open_session
from pipelab.engine.rank.raised import failure_of
from pipelab.engine.rank.recorder import Recorder, shifted
from pipelab.engine.rank.session import Session
from pipelab.engine.torchrun.clocks import Clock, measure
from pipelab.engine.torchrun.fingerprint import Fingerprint, difference, fingerprint
from pipelab.engine.torchrun.members import Member, address_of, this_process
from pipelab.engine.torchrun.sockets import Sockets, listening
from pipelab.engine.torchrun.store import Answer, Answers, AnswerStore
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import MessageError
from pipelab.errors import LaunchError, RankError
from pipelab.partition.tree import Flat

_LARGE = 1 << 16  # bytes: larger answers go from rank to rank, not through the store
_REMEASURE = 2.0  # seconds after which clocks are compared again, before the next batch
_number = itertools.count()  # of the pipeline: the script opens the same ones on every rank


@dataclass
class _Given:
    """Commands for all ranks, and this rank's answer, pickled."""

    commands: Sequence[object]
    asked: Fingerprint
    answer: bytes = b""

    def keep(self, answer: Done) -> None:
        """Pickle the answer."""
        self.answer = dumps(answer)


class TorchrunRanks:
    """This process as one of torchrun's ranks; ``ask`` does its part of each call.

    Args:
        timeout: seconds that any wait may take.

    Raises:
        LaunchError: torchrun started another number of ranks, or they do not connect.
    """

    why_closed = ""

    def __init__(self, num_ranks: int, replicas: int, timeout: float):
        self.rank = int(os.environ["RANK"])
        size = int(os.environ["WORLD_SIZE"])
        if size != num_ranks:
            raise LaunchError(_wrong_size(size, num_ranks, replicas))
        self.num_ranks = num_ranks
        self.timeout = timeout
        self.answer_timeout = max(timeout, groups.START_TIMEOUT)  # until ``ready``
        self.clock = Clock()
        self.clock_error = 0.0
        self.compared = self.last_answer = 0.0  # on rank 0's clock: all ranks decide alike
        self.session: Session | None = None
        self._given: deque[_Given] = deque()  # commands whose answers nobody has asked for
        self._failed: BaseException | None = None
        self._failure: Failure
        with tempfile.TemporaryDirectory(prefix=f"pipelab-{os.getpid()}-") as folder:
            self._progress = Progress(Path(folder), num_ranks)  # the memory outlives its file
        self.recorder = Recorder(self.rank, self._progress)
        self.sockets = Sockets()
        self.store = AnswerStore(self.rank, num_ranks, partial(self._progress.read, self.rank))
        self._end = weakref.finalize(self, _end, self.store, self.sockets)
        try:
            self.members, self.groups = self._connect(replicas)
            forget_in_children(self)
        except (RuntimeError, OSError) as error:
            self.close()
            raise LaunchError(_not_connected(self.rank, num_ranks, error)) from None
        self.one_clock = len({member.machine for member in self.members}) == 1

    def _connect(self, replicas: int) -> tuple[list[Member], groups.Groups]:
        self.store.open(f"pipelab {next(_number)}")
        members: list[Member] = self.store.share("process", this_process())
        with listening() as ports:
            devices = groups.devices(self.num_ranks, replicas, address_of(members, self.rank))
        addresses = self.store.share("addresses", ports)
        found = groups.meet(self.store.store, self.rank, self.num_ranks, replicas, own=devices)
        self.sockets.collect([address for some in addresses for address in some])
        return members, found

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of all ranks, each as its own machine numbers it; empty once closed."""
        return () if self.is_closed else tuple(member.pid for member in self.members)

    def begun(self) -> tuple[Begun, ...]:
        """What this rank began last; nothing is known of the others."""
        return self._progress.begun()

    def ready(self, meet_again: bool = False) -> None:
        """The stages are built: from now on ``timeout`` holds."""
        self.answer_timeout = self.timeout

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Do this rank's command, then something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late; every rank raises the same.
        """
        self.give(commands)
        if meanwhile is not None and self._failed is None:
            self._noting_failure(meanwhile)
        return self.answers()

    def give(self, commands: Sequence[object]) -> None:
        """Do this rank's command now; what goes wrong is raised when the answers are asked for."""
        given = _Given(commands, fingerprint(commands))
        self._given.append(given)
        if self._failed is None:
            self._noting_failure(lambda: given.keep(self._answer(commands[self.rank])))

    def _noting_failure(self, work: Callable[[], None]) -> None:
        """Do something; if it fails, the others must know before they wait for this rank."""
        try:
            work()
        except BaseException as error:  # SystemExit from a learner's code included
            self._failed = error
            self._failure = failure_of(self.recorder, error)
            self.sockets.close()

    def answers(self) -> list[Done]:
        """The answers to the oldest commands that have been given. Raises RankError as ``ask``.

        If a later command failed here, its failure is the answer: what the others wait for in it
        will not come.
        """
        given = self._given.popleft()
        raised = self._failed
        answer: bytes | Failure = given.answer if raised is None else self._failure
        try:
            if self.session is not None and not self._given:
                self.session.settle()
            answers = self._exchange(given.commands, answer, given.asked)
            return [cloudpickle.loads(answer) for answer in answers]
        except BaseException as error:
            self.close()
            if isinstance(raised, KeyboardInterrupt):
                raise raised from None
            # a lost connection is no cause: shown first, it would hide the one that is
            own = isinstance(answer, Failure) and not answer.is_consequence
            raise error from (raised if own else None)

    def _answer(self, command: object) -> Done:
        if isinstance(command, Build):
            build = copied(
                command, command.stages.values()
            )  # the script's own model stays as it is
            affinity = Affinity(
                self.rank, self.num_ranks, threads=0
            )  # the script's process moves freely
            self.session = open_session(self.recorder, self.groups, affinity, build, self.timeout)
            return Done()
        assert self.session is not None, "the first command is Build"
        if isinstance(command, Run):
            self._compare_clocks()
            command = replace(command, inputs=_copy(command.inputs), targets=_copy(command.targets))
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
        """Measure the clocks again where they differ and the last time is long ago."""
        if self.one_clock or (self.compared and self.last_answer - self.compared < _REMEASURE):
            return
        self.compared = self.last_answer
        try:
            self.clock = measure(self.groups.everyone, self.rank, self.num_ranks, self.timeout)
        except RuntimeError as error:
            raise MessageError(f"the clocks were not compared: {error}", 0) from None
        assert self.session is not None
        self.session.messages.clock_offset = self.clock.offset

    def _exchange(
        self, commands: Sequence[object], answer: bytes | Failure, asked: Fingerprint
    ) -> list[bytes | bytearray]:
        """All answers, pickled; this rank's has been sent to all others."""
        if isinstance(answer, Failure):
            self.sockets.close()
        is_large = isinstance(answer, bytes) and len(answer) > _LARGE
        content = len(answer) if isinstance(answer, bytes) and is_large else answer
        self.store.publish(Answer(content, asked, time.monotonic(), self.clock.error_now()))
        answers = self.store.collect(self.answer_timeout)
        if error := self._error(commands, answers):
            raise error
        self.last_answer = answers.found[0].now
        self.clock_error = max(found.clock_error for found in answers.found.values())
        try:
            return [self._receive(rank, answers, answer) for rank in range(self.num_ranks)]
        except RuntimeError as error:  # a rank went away while it sent its answer
            lost = MessageError(f"an answer did not come: {error}", self.rank)
            return self._exchange(commands, failure_of(self.recorder, lost), asked)

    def _error(self, commands: Sequence[object], answers: Answers) -> RankError | None:
        """Why the call failed; the same on all ranks."""
        other = difference({rank: answer.asked for rank, answer in answers.found.items()})
        contents = {rank: answer.content for rank, answer in answers.found.items()}
        found = Findings(
            commands,
            {rank: c if isinstance(c, Failure) else Done() for rank, c in contents.items()},
            answers.absent,
            answers.begun,
            self.answer_timeout,
            runs_script=True,
        )
        return other or cause(found)

    def _receive(self, rank: int, answers: Answers, own: bytes | Failure) -> bytes | bytearray:
        """The answer of one rank; a large one is sent now."""
        content = answers.found[rank].content
        assert not isinstance(content, Failure) and isinstance(own, bytes)
        if isinstance(content, bytes):
            return content
        buffer = bytearray(own) if rank == self.rank else bytearray(content)
        options = dist.BroadcastOptions()
        options.rootRank, options.timeout = rank, timedelta(seconds=self.timeout)
        tensor = torch.frombuffer(buffer, dtype=torch.uint8)
        self.groups.everyone.broadcast([tensor], options).wait()
        return buffer

    @property
    def is_closed(self) -> bool:
        """Whether this rank has left the others."""
        return not self._end.alive

    def close(self) -> None:
        """Leave the others, who learn why; the process stays, since it is the script's."""
        self._end()
        session = self.session
        self.session = None
        if session is not None:
            with suppress(RuntimeError):  # CUDA's own: the error that led here is the cause
                session.close()

    def forget(self) -> None:
        """In a forked child: the rank is its parent."""
        if self._end.detach() is not None:
            self.session = None
            self.why_closed = PARENTS
            self.sockets.forget()


def _end(store: AnswerStore, sockets: Sockets) -> None:
    error = sys.exception()
    store.close(f"{type(error).__name__}: {error}" if error else "it came to its end")
    sockets.close()


def _copy(batch: Flat | None) -> Flat | None:
    """Copies, since a layer that works in place must not change the script's batch."""
    return None if batch is None else batch.map(lambda tensor: tensor.detach().clone())


def _wrong_size(size: int, num_ranks: int, replicas: int) -> str:
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    per_node, rest = divmod(num_ranks, nodes)
    number = f"--nproc-per-node {num_ranks}" if rest else f"--nproc-per-node {per_node}"
    where = f"--nnodes {nodes} " if nodes > 1 and not rest else ""
    copies = f"{num_ranks // replicas} ranks x {replicas} replicas" if replicas > 1 else "its ranks"
    return (
        f"torchrun started {size} processes, but {copies} take {num_ranks}: one process is one "
        f"rank. Run\n  torchrun {where}{number} script.py\n"
        f"or set PIPELAB_TORCHRUN=0, and each process starts its own ranks."
    )


def _not_connected(rank: int, num_ranks: int, error: Exception) -> str:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"rank {rank} did not connect to the other ranks ({num_ranks} in all) through torchrun's "
        f"store at {address}: {error}"
    )

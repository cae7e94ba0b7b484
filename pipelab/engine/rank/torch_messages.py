"""Messages of torch.distributed.pipelining as events: SEND, RECV, and WAIT for what comes."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import torch.distributed as dist

from pipelab.action import Action, Kind
from pipelab.engine.rank.pace import Pace
from pipelab.engine.rank.recorder import Recorder, waiting_for
from pipelab.engine.rank.stage import Stage
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import MessageError

Start = Callable[[list[dist.P2POp], str | None], list[dist.Work]]


class Books(Protocol):
    """What a ``Worker`` keeps for all who compute on its rank."""

    recorder: Recorder
    pace: Pace
    stages: dict[int, Stage]
    last_stage: int

    def note(self, action: Action, bytes: int, peer: int | None = None) -> None:
        """Tell the recorder, and the ledger, what an action found out about itself."""

    def keep_busy(self, action: Action) -> None:
        """When paced: stay in the action until it is due."""

    def new_gradient_bytes(self, stage: Stage) -> int:
        """Bytes of gradients that the first backward of a stage brings into being."""


class _Works(list[dist.Work]):
    """Sends or receives under way, and what they are."""

    def __init__(self, works: list[dist.Work], action: Action, peer: int):
        super().__init__(works)
        self.action, self.peer = action, peer


class Messages:
    """In the place of two functions of torch's: messages become events, waits for them too."""

    def __init__(self, books: Books, start: Start, timeout: timedelta):
        self.books, self.torchs, self.timeout = books, start, timeout
        self.next: Action | None = None

    def start(self, p2p_ops: list[dist.P2POp], desc: str | None = None) -> list[dist.Work]:
        """SEND or RECV: what torch does, as an event. ``next`` says what it is."""
        action, self.next = self.next, None
        if action is None or not p2p_ops:
            return self.torchs(p2p_ops, desc)
        peer, size = p2p_ops[0].peer, sum(x.tensor.nbytes for x in p2p_ops)
        with self.books.recorder.record(action):
            try:
                works = self.torchs(p2p_ops, desc)
            except RuntimeError as error:
                raise _failed(action, peer, error) from None
            self.books.note(action, size, peer)
        return _Works(works, action, peer)

    def wait(self, work: list[dist.Work]) -> None:
        """WAIT, if it is for a message to come. At the end of a step, torch waits for its sends."""
        if not isinstance(work, _Works) or work.action.kind in (Kind.SEND_F, Kind.SEND_B):
            self._finish(work)
            return
        with self.books.recorder.record(waiting_for(work.action)):
            self._finish(work)
            # torch's messages bear no stamp: they cost a paced rank the time that they took
            self.books.pace.wait_until(time.monotonic())
            self.books.recorder.note(peer=work.peer)

    def _finish(self, works: list[dist.Work]) -> None:
        try:
            for work in works:
                groups.wait(work, self.timeout.total_seconds())
        except RuntimeError as error:
            if isinstance(works, _Works):
                raise _failed(works.action, works.peer, error) from None
            raise


def _failed(action: Action, peer: int, error: RuntimeError) -> MessageError:
    text = f"{action.token}: the message with rank {peer} failed: {error}"
    return MessageError(text, peer, isinstance(error, groups.TimedOut))

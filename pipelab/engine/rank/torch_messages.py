"""Messages of torch.distributed.pipelining as events: SEND, RECV, and WAIT for what comes."""

import time
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

from pipelab.action import SENDS, Action
from pipelab.engine.rank.recorder import waiting_for
from pipelab.engine.rank.worker import Worker
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import MessageError

Start = Callable[[list[dist.P2POp], str | None], list[dist.Work]]


class _Works(list[dist.Work]):
    """Pending sends or receives, and what they are."""

    def __init__(self, works: list[dist.Work], action: Action, peer: int):
        super().__init__(works)
        self.action, self.peer = action, peer


class Messages:
    """Replaces two functions of torch: messages become events, and so do the waits for them."""

    def __init__(self, worker: Worker, start: Start, timeout: timedelta):
        self.worker = worker
        self.torch_start = start
        self.timeout = timeout
        self.next: Action | None = None

    def start(self, p2p_ops: list[dist.P2POp], desc: str | None = None) -> list[dist.Work]:
        """SEND or RECV: what torch does, as an event. ``next`` says what it is."""
        action, self.next = self.next, None
        if action is None or not p2p_ops:
            return self.torch_start(p2p_ops, desc)
        peer, size = p2p_ops[0].peer, sum(x.tensor.nbytes for x in p2p_ops)
        with self.worker.recorder.record(action):
            try:
                works = self.torch_start(p2p_ops, desc)
            except RuntimeError as error:
                raise _failed(action, peer, error) from None
            self.worker.recorder.report(size, peer)
        return _Works(works, action, peer)

    def wait(self, work: list[dist.Work]) -> None:
        """WAIT, if it is for a message to come. At the end of a step, torch waits for its sends."""
        if not isinstance(work, _Works) or work.action.kind in SENDS:
            self._finish(work)
            return
        with self.worker.recorder.record(waiting_for(work.action)):
            self._finish(work)
            # torch's messages carry no stamp: they cost a paced rank the time that they took
            self.worker.pace.wait_until(time.monotonic())
            self.worker.recorder.report(0, work.peer)

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

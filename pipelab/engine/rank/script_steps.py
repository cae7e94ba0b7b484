"""What a script's own torch.distributed.pipelining schedule does, action by action, as events.

    schedule.step ─▶ stage.get_fwd_recv_ops    which message comes next
                     _batch_p2p                RECV, SEND: it is started
                     _wait_batch_p2p           WAIT: until what was received is there
                     stage.forward_one_chunk   F, with the loss that the schedule computes after it
                     stage.backward_one_chunk  B, or I;  backward_weight_one_chunk  W

The functions are replaced on this schedule and its stages, and of the module's two that start and
wait, while it is recorded; the model is not touched. Torch's private names: as in torch_worker.py.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.distributed as dist
from torch.distributed.pipelining import schedules

from pipelab.action import RECEIVES, Kind
from pipelab.engine.protocol.device import DeviceClock, Moment, clock_of
from pipelab.trace import Event

_OPS = {
    "get_fwd_recv_ops": Kind.RECV_F,
    "get_fwd_send_ops": Kind.SEND_F,
    "get_bwd_recv_ops": Kind.RECV_B,
    "get_bwd_send_ops": Kind.SEND_B,
}
_CALLS = {
    "forward_one_chunk": Kind.F,
    "backward_one_chunk": Kind.B,
    "backward_weight_one_chunk": Kind.W,
}
_FULL_BACKWARD = 2  # its place among the arguments of backward_one_chunk


_Made = tuple[Kind, int, int]  # what is sent or received: kind, stage, microbatch
_Row = tuple[Kind, int, int, Moment, Moment, int, int | None]
"""That or a computation with its start, end, bytes and peer; times are marks of the clock."""


class _Works(list[Any]):
    """What torch waits for, and what is received by it, each with the rank that sends it."""

    received: list[tuple[_Made, int]]


class ScriptSteps:
    """One rank's events of every step that its schedule runs while it is attached.

    Attributes:
        rank: its place in the pipeline.
    """

    def __init__(self, schedule: Any):
        self.schedule = schedule
        self.stages = list(getattr(schedule, "_stages", None) or [schedule._stage])
        self.rank = int(self.stages[0].group_rank)
        self.clock = clock_of(self.stages[0].device)
        self.rows: list[_Row] = []
        self.messages: dict[int, tuple[_Made, Any]] = {}  # by the id of the operation, kept for it
        self._done: list[tuple[DeviceClock, list[_Row]]] = []

    @property
    def steps(self) -> list[list[Event]]:
        """For each step its events, in seconds of ``time.monotonic``; rank as in the pipeline.

        Made here and not within the step, which must not wait for it.
        """
        return [self._events(rows, clock) for clock, rows in self._done]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within, steps are recorded; at its end all is as it was."""
        with ExitStack() as stack:
            for stage in self.stages:
                for name, kind in _CALLS.items():
                    _replace(stack, stage, name, self._timed(stage, kind, getattr(stage, name)))
                for name, kind in _OPS.items():
                    _replace(stack, stage, name, self._noted(stage, kind, getattr(stage, name)))
            if any(stage.is_last for stage in self.stages):
                loss = self.schedule._maybe_compute_loss
                _replace(stack, self.schedule, "_maybe_compute_loss", self._with_loss(loss))
            _replace(stack, self.schedule, "step", self._whole(self.schedule.step))
            _replace(stack, schedules, "_batch_p2p", self._started(schedules._batch_p2p))
            _replace(stack, schedules, "_wait_batch_p2p", self._waited(schedules._wait_batch_p2p))
            yield

    def _whole(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.rows, self.messages = [], {}
            self.clock = clock_of(self.stages[0].device)  # of this step: it counts from here on
            result = step(*args, **kwargs)
            self.clock.finish()
            self._done.append((self.clock, self.rows))
            return result

        return run

    def _events(self, rows: list[_Row], clock: DeviceClock) -> list[Event]:
        """One for each action: a message of several tensors has a row for each."""
        found: dict[object, Event] = {}
        for kind, stage, microbatch, start, end, size, peer in rows:
            key = kind, stage, microbatch, start
            if key in found:
                found[key] = found[key]._replace(bytes=found[key].bytes + size)
                continue
            times = clock.seconds(start), clock.seconds(end)
            found[key] = Event(self.rank, kind, stage, microbatch, *times, size, peer)
        return [*found.values()]

    # What follows runs within the step, twice or more for each action: it does little, and leaves
    # the rest to _events.

    def _timed(self, stage: Any, kind: Kind, call: Callable[..., Any]) -> Callable[..., Any]:
        number = stage.stage_index

        def run(microbatch: int, *args: Any, **kwargs: Any) -> Any:
            start = self.clock.now()
            result = call(microbatch, *args, **kwargs)
            end = self.clock.now()
            done = kind
            if kind is Kind.B and not (
                args[1] if len(args) >= _FULL_BACKWARD else kwargs.get("full_backward", True)
            ):
                done = Kind.I
            self.rows.append((done, number, microbatch, start, end, 0, None))
            return result

        return run

    def _noted(self, stage: Any, kind: Kind, call: Callable[..., Any]) -> Callable[..., Any]:
        number = stage.stage_index

        def run(microbatch: int, *args: Any, **kwargs: Any) -> Any:
            ops = call(microbatch, *args, **kwargs)
            for op in ops:
                self.messages[id(op)] = (kind, number, microbatch), op
            return ops

        return run

    def _with_loss(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            stage = args[0] if args else kwargs["stage"]
            if stage.is_last and self.rows and self.rows[-1][0] is Kind.F:
                row = self.rows[-1]
                self.rows[-1] = (*row[:4], self.clock.now(), *row[5:])
            return result

        return run

    def _started(self, start_all: Callable[..., Any]) -> Callable[..., Any]:
        def run(p2p_ops: list[Any], *args: Any, **kwargs: Any) -> Any:
            if not p2p_ops:
                return start_all(p2p_ops, *args, **kwargs)
            start = self.clock.now()
            works = start_all(p2p_ops, *args, **kwargs)
            end = self.clock.now()
            received = []
            for op in p2p_ops:
                known = self.messages.pop(id(op), None)
                if known is not None:
                    made, peer = known[0], _peer(op)
                    self.rows.append((*made, start, end, op.tensor.nbytes, peer))
                    if made[0] in RECEIVES:
                        received.append((made, peer))
            if not received:
                return works
            works = _Works(works)
            works.received = received
            return works

        return run

    def _waited(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        def run(work: Any) -> None:
            if not isinstance(work, _Works):
                wait(work)
                return
            start = self.clock.now()
            wait(work)
            end = self.clock.now()
            for (_, stage, microbatch), peer in work.received:
                self.rows.append((Kind.WAIT, stage, microbatch, start, end, 0, peer))

        return run


def _peer(op: Any) -> int:
    """The other rank, as the pipeline's group counts."""
    peer = getattr(op, "group_peer", None)  # older ones of torch's have the whole job's alone
    return dist.get_group_rank(op.group or _everyone(), op.peer) if peer is None else int(peer)


def _everyone() -> dist.ProcessGroup:
    return dist.distributed_c10d._get_default_group()


def _replace(stack: ExitStack, owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Put ``new`` in the place of a method or function until the stack is closed."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, new)
    if before is missing:
        stack.callback(delattr, owner, name)
    else:
        stack.callback(setattr, owner, name, before)

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
from typing import Any, NamedTuple

import torch.distributed as dist
from torch.distributed.pipelining import schedules

from pipelab.action import RECEIVES, Action, Kind
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


class _Mark(NamedTuple):
    """An event whose times are still marks of the device's clock."""

    action: Action
    start: Moment
    end: Moment
    bytes: int = 0
    peer: int | None = None


class _Message(NamedTuple):
    """What one operation sends or receives; the operation is kept, since its id is its name."""

    action: Action
    op: Any


class _Works(list[Any]):
    """What torch waits for, and what it is."""

    def __init__(self, works: list[Any], messages: list[_Message]):
        super().__init__(works)
        self.messages = messages


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
        self.marks: list[_Mark] = []
        self._done: list[tuple[DeviceClock, list[_Mark]]] = []
        self.messages: dict[int, _Message] = {}

    @property
    def steps(self) -> list[list[Event]]:
        """For each step its events, in seconds of ``time.monotonic``; rank as in the pipeline.

        Made here and not within the step, which must not wait for it.
        """
        return [[self._event(mark, clock) for mark in marks] for clock, marks in self._done]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within, steps are recorded; at its end all is as it was."""
        with ExitStack() as stack:
            for stage in self.stages:
                for name, kind in _CALLS.items():
                    _replace(stack, stage, name, self._timed(stage, kind, getattr(stage, name)))
                for name, kind in _OPS.items():
                    _replace(stack, stage, name, self._noted(stage, kind, getattr(stage, name)))
            loss = self.schedule._maybe_compute_loss
            _replace(stack, self.schedule, "_maybe_compute_loss", self._with_loss(loss))
            _replace(stack, self.schedule, "step", self._whole(self.schedule.step))
            _replace(stack, schedules, "_batch_p2p", self._started(schedules._batch_p2p))
            _replace(stack, schedules, "_wait_batch_p2p", self._waited(schedules._wait_batch_p2p))
            yield

    def _whole(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.marks, self.messages = [], {}
            self.clock = clock_of(self.stages[0].device)  # of this step: it counts from here on
            result = step(*args, **kwargs)
            self.clock.finish()
            self._done.append((self.clock, self.marks))
            return result

        return run

    def _event(self, mark: _Mark, clock: DeviceClock) -> Event:
        stage, kind, microbatch = mark.action
        start, end = clock.seconds(mark.start), clock.seconds(mark.end)
        return Event(self.rank, kind, stage, microbatch, start, end, mark.bytes, mark.peer)

    def _timed(self, stage: Any, kind: Kind, call: Callable[..., Any]) -> Callable[..., Any]:
        number = stage.stage_index

        def run(microbatch: int, *args: Any, **kwargs: Any) -> Any:
            start = self.clock.now()
            result = call(microbatch, *args, **kwargs)
            full = kwargs.get("full_backward", args[1] if len(args) >= _FULL_BACKWARD else True)
            done = Kind.I if kind is Kind.B and not full else kind
            self.marks.append(_Mark(Action(number, done, microbatch), start, self.clock.now()))
            return result

        return run

    def _noted(self, stage: Any, kind: Kind, call: Callable[..., Any]) -> Callable[..., Any]:
        number = stage.stage_index

        def run(microbatch: int, *args: Any, **kwargs: Any) -> Any:
            ops = call(microbatch, *args, **kwargs)
            for op in ops:
                self.messages[id(op)] = _Message(Action(number, kind, microbatch), op)
            return ops

        return run

    def _with_loss(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            stage = args[0] if args else kwargs["stage"]
            if stage.is_last and self.marks and self.marks[-1].action.kind is Kind.F:
                self.marks[-1] = self.marks[-1]._replace(end=self.clock.now())
            return result

        return run

    def _started(self, start_all: Callable[..., Any]) -> Callable[..., Any]:
        def run(p2p_ops: list[Any], *args: Any, **kwargs: Any) -> Any:
            found = [m for op in p2p_ops if (m := self.messages.pop(id(op), None))]
            start = self.clock.now()
            works = start_all(p2p_ops, *args, **kwargs)
            end = self.clock.now()
            for action in dict.fromkeys(message.action for message in found):
                own = [message.op for message in found if message.action == action]
                size = sum(op.tensor.nbytes for op in own)
                self.marks.append(_Mark(action, start, end, size, self._peer(own[0])))
            return _Works(works, found) if found else works

        return run

    def _waited(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        def run(work: Any) -> None:
            start = self.clock.now()
            wait(work)
            end = self.clock.now()
            if isinstance(work, _Works):
                received = {m.action: m.op for m in work.messages if m.action.kind in RECEIVES}
                for action, op in received.items():
                    wanted = action._replace(kind=Kind.WAIT)
                    self.marks.append(_Mark(wanted, start, end, 0, self._peer(op)))

        return run

    def _peer(self, op: Any) -> int:
        """The other rank, as the pipeline's group counts."""
        return dist.get_group_rank(op.group or _everyone(), op.peer)


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

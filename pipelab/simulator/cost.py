"""What actions and messages cost: the currency of predict and of paced record."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf, nan
from numbers import Real

from pipelab.action import SENDS, Action, Kind
from pipelab.errors import ScheduleError
from pipelab.simulator import measured
from pipelab.trace import Trace
from pipelab.words import number

Seconds = float | Sequence[float]
Bytes = float | Sequence[float]


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes, each as one number or one per stage; latency and bandwidth as one.

    A full backward B takes ``backward_input + backward_weight``. Each message has its own
    link: however many are in flight, none slows another down (no contention).

    Attributes:
        forward: F, in seconds.
        backward_input: I, in seconds.
        backward_weight: W, in seconds.
        latency: seconds that a message takes between two ranks, however small it is.
        bandwidth: bytes per second of a message.
        message_bytes: size of a stage's output, and of the gradient that comes back for it.
        activation_bytes: what one F keeps for its backward.
        step: the optimizer's step, in seconds.
        reduce: the average of the gradients over replicas, in seconds.

    >>> Cost(forward=1, backward_input=1, backward_weight=1).seconds(Action(0, Kind.B, 0))
    2
    """

    forward: Seconds = 1.0
    backward_input: Seconds = 1.0
    backward_weight: Seconds = 1.0
    latency: float = 0.0
    bandwidth: float = inf
    message_bytes: Bytes = 0
    activation_bytes: Bytes = 0
    step: Seconds = 0.0
    reduce: Seconds = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Sequence) and name not in ("latency", "bandwidth"):
                object.__setattr__(self, name, tuple(value))
                _check(name, value, value)
            else:
                _check(name, value, [value])

    @classmethod
    def from_trace(cls, trace: Trace) -> "Cost":
        """What a trace's actions took: medians per stage, seconds and bytes.

        A stage that ran full backwards alone is taken to spend half of them on I, half on W.
        ``latency`` is what messages took in all, whatever their size (``measured.latency``), so
        ``bandwidth`` is left at infinity.

        Raises:
            TraceError: nothing was computed in it.
        """
        return cls(**measured.stages(trace.events), latency=measured.latency(trace.events))

    def check_stages(self, num_stages: int) -> None:
        """Raise ScheduleError unless there is one number for all stages, or one for each.

        The last stage's output goes nowhere: its ``message_bytes`` may be left out.
        """
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) == num_stages:
                continue
            if name == "message_bytes" and len(value) == num_stages - 1:
                continue
            raise ScheduleError(
                f"Cost({name}=...) has {number(len(value), 'number')}, the schedule has "
                f"{number(num_stages, 'stage')}:\n"
                f"give one number for each stage, or one for all"
            )

    def seconds(self, action: Action) -> float:
        """How long an action takes by itself. Messages have ``message_seconds``, here they are 0.

        Raises:
            ScheduleError: the cost names fewer stages than the schedule has.
        """
        match action.kind:
            case Kind.F:
                return _of(self.forward, action.stage)
            case Kind.I:
                return _of(self.backward_input, action.stage)
            case Kind.W:
                return _of(self.backward_weight, action.stage)
            case Kind.B:
                both = (self.backward_input, self.backward_weight)
                return sum(_of(value, action.stage) for value in both)
            case Kind.STEP:
                return _of(self.step, action.stage)
            case Kind.REDUCE_GRAD:
                return _of(self.reduce, action.stage)
            case _:
                return 0.0

    def message_size(self, send: Action) -> int:
        """Bytes of a SEND's message: its stage's output, or the gradient of the output before it.

        >>> Cost(message_bytes=[400, 0]).message_size(Action(1, Kind.SEND_B, 0))
        400
        """
        if send.kind not in SENDS:
            return 0
        output = send.stage if send.kind is Kind.SEND_F else send.stage - 1
        return round(_of(self.message_bytes, output))

    def message_seconds(self, send: Action) -> float:
        """From the moment that a SEND's message leaves until it arrives, alone on its link.

        >>> Cost(latency=0.5, bandwidth=100, message_bytes=400).message_seconds(
        ...     Action(0, Kind.SEND_F, 0)
        ... )
        4.5
        """
        return self.latency + self.message_size(send) / self.bandwidth

    def kept_bytes(self, action: Action) -> int:
        """Bytes that an action keeps for the backward: those of F; the others keep nothing."""
        return round(_of(self.activation_bytes, action.stage)) if action.kind is Kind.F else 0

    def __str__(self) -> str:
        """For source lines: ``F 10 ms, B 20 ms``, and what else is not free."""
        parts = [f"F {_ms(self.forward)}", f"B {_ms(self.backward_input, self.backward_weight)}"]
        for name in ("latency", "step", "reduce"):
            value: Seconds = getattr(self, name)
            if any(value) if isinstance(value, Sequence) else value:
                parts.append(f"{name} {_ms(value)}")
        if self.bandwidth < inf:
            parts.append(f"{self.bandwidth / 1e6:g} MB/s")
        return ", ".join(parts)


def _check(name: str, value: object, numbers: Sequence[object]) -> None:
    """Refuse what is no number of seconds, bytes, or bytes per second."""
    if not numbers:
        raise ScheduleError(f"Cost({name}={value!r}): give one number for all stages, or one each")
    for given in numbers:
        size = float(given) if isinstance(given, Real) else nan
        if name == "bandwidth":
            if not size > 0:
                raise ScheduleError(f"Cost({name}={value!r}): bytes per second, a number > 0")
        elif not 0 <= size < inf:
            unit = "bytes" if name.endswith("bytes") else "seconds"
            raise ScheduleError(f"Cost({name}={value!r}): {unit} are numbers >= 0")


def _of(value: float | Sequence[float], stage: int) -> float:
    if not isinstance(value, Sequence):
        return value
    if stage >= len(value):
        raise ScheduleError(
            f"the cost names {len(value)} stages, the schedule has a stage {stage}: "
            f"give one number per stage, or one for all"
        )
    return value[stage]


def _ms(*values: Seconds) -> str:
    """The sum of the values, stage by stage, in milliseconds."""
    rows = [list(v) if isinstance(v, Sequence) else [v] for v in values]
    longest = max(len(row) for row in rows)
    sums = [sum(row[i % len(row)] for row in rows) * 1000 for i in range(longest)]
    texts = [f"{value:.2g}" if value < 100 else f"{value:.0f}" for value in sums]
    return (texts[0] if len(set(texts)) == 1 else "/".join(texts)) + " ms"

"""What actions and messages cost: the currency of predict and of paced record."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf, nan
from numbers import Real
from typing import TypeVar

from pipelab.action import SENDS, Action, Kind, Overlap
from pipelab.errors import ScheduleError
from pipelab.simulator import measured
from pipelab.trace import Trace
from pipelab.words import number

# one number; one for each stage; or for some stages, or for all, one for each microbatch
Seconds = float | Sequence[float | Sequence[float]]
Bytes = float | Sequence[float | Sequence[float]]


PER_MICROBATCH = (
    "forward", "backward_input", "backward_weight", "message_bytes", "activation_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes, each as one number or one per stage; latency and bandwidth as one.

    Microbatches of unequal lengths cost unequally: in place of a stage's number stands a row of
    numbers, one per microbatch; a single row, ``[[1, 2, 1]]``, is for all stages. That is so for
    F, I, W and their bytes; ``by_microbatch`` makes the rows from lengths. Replicas are alike.

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
        overlapped: F&B, an F and a B of one rank that overlap, in seconds; by the stage of the F.
            0: as long as one after the other, so nothing is gained.

    >>> Cost(forward=1, backward_input=1, backward_weight=1).seconds(Action(0, Kind.B, 0))
    2
    >>> Cost(forward=[[1, 3], 2]).seconds(Action(0, Kind.F, 1))
    3
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
    overlapped: Seconds = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Sequence) and name not in ("latency", "bandwidth"):
                value = tuple(
                    tuple(row) if name in PER_MICROBATCH and _is_row(row) else row for row in value
                )
                object.__setattr__(self, name, value)
            _check(name, value)

    @classmethod
    def from_trace(cls, trace: Trace, by_microbatch: bool = False) -> "Cost":
        """What a trace's actions took: medians per stage, seconds and bytes.

        With ``by_microbatch``, for each stage and microbatch: what fits unequal lengths.

        A stage that ran full backwards alone is taken to spend half of them on I, half on W.
        ``latency`` is what messages took in all, whatever their size (``measured.latency``), so
        ``bandwidth`` is left at infinity.

        Raises:
            TraceError: nothing was computed in it.
        """
        events, overlapped = measured.taken_apart(trace.events)
        pieces = trace.setting.pieces
        found = measured.by_microbatch(events, pieces) if by_microbatch else measured.stages(events)
        return cls(**found, latency=measured.latency(trace.events), overlapped=overlapped)

    def by_microbatch(self, lengths: Sequence[float]) -> "Cost":
        """Times and bytes of F, I and W in proportion to the microbatches' lengths.

        A length is a factor: this cost is that of a microbatch of length 1. What grows faster than
        the length, as attention does, is written as rows.

        >>> Cost(1, 1, 1).by_microbatch([1, 0.5]).forward
        ((1.0, 0.5),)
        """

        def scaled(value: Seconds) -> Seconds:
            rows = value if isinstance(value, Sequence) else [value]
            if any(isinstance(row, Sequence) for row in rows):
                raise ScheduleError("this cost names its microbatches already: give it numbers")
            return [[row * float(length) for length in lengths] for row in rows]  # type: ignore[operator]

        f, i, w, message, activation = (scaled(getattr(self, name)) for name in PER_MICROBATCH)
        return replace(
            self, forward=f, backward_input=i, backward_weight=w,
            message_bytes=message, activation_bytes=activation,
        )  # fmt: skip

    def for_stages(self, stages_per_rank: int) -> "Cost":
        """This cost of a rank's whole slice, as that of each of its stages: an equal share.

        Messages stay as they are.

        Raises:
            ScheduleError: it has numbers for each stage or microbatch.

        >>> Cost(2, 2, 2).for_stages(2).forward
        1.0
        """
        shared = ("forward", "backward_input", "backward_weight", "overlapped", "activation_bytes")
        values = {name: getattr(self, name) for name in (*shared, "step", "reduce")}
        if stages_per_rank == 1:
            return self
        if any(isinstance(value, tuple) for value in values.values()):
            raise ScheduleError("this cost has a number for each stage: it cannot be shared out")
        return replace(self, **{name: value / stages_per_rank for name, value in values.items()})

    @property
    def varies_by_microbatch(self) -> bool:
        """Whether any number is given per microbatch."""
        values = (getattr(self, name) for name in PER_MICROBATCH)
        return any(isinstance(row, tuple) for v in values if isinstance(v, tuple) for row in v)

    def check_microbatches(self, num_microbatches: int) -> None:
        """Raise ScheduleError unless each row has a number for each microbatch."""
        for name in PER_MICROBATCH:
            value = getattr(self, name)
            for row in value if isinstance(value, tuple) else ():
                if isinstance(row, tuple) and len(row) != num_microbatches:
                    raise ScheduleError(
                        f"Cost({name}=...) has a row of {number(len(row), 'number')}, the schedule "
                        f"has {number(num_microbatches, 'microbatch')}:\n"
                        f"give one number for each microbatch, or one for all"
                    )

    def check_stages(self, num_stages: int) -> None:
        """Raise ScheduleError unless there is one number for all stages, or one for each.

        The last stage's output goes nowhere: its ``message_bytes`` may be left out.
        """
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) == num_stages or _is_for_all(value):
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
                return _of(self.forward, action)
            case Kind.I:
                return _of(self.backward_input, action)
            case Kind.W:
                return _of(self.backward_weight, action)
            case Kind.B:
                both = (self.backward_input, self.backward_weight)
                return sum(_of(value, action) for value in both)
            case Kind.STEP:
                return _of(self.step, action)
            case Kind.REDUCE_GRAD:
                return _of(self.reduce, action)
            case _:
                return 0.0

    def overlap_seconds(self, both: Overlap) -> float:
        """How long an F and a B take that overlap.

        >>> both = Overlap(Action(0, Kind.F, 3), Action(7, Kind.B, 1))
        >>> Cost(1, 1, 1).overlap_seconds(both), Cost(1, 1, 1, overlapped=2).overlap_seconds(both)
        (3, 2)
        """
        return _of(self.overlapped, both.forward) or sum(map(self.seconds, both))

    def message_size(self, send: Action) -> int:
        """Bytes of a SEND's message: its stage's output, or the gradient of the output before it.

        >>> Cost(message_bytes=[400, 0]).message_size(Action(1, Kind.SEND_B, 0))
        400
        """
        if send.kind not in SENDS:
            return 0
        output = send.stage if send.kind is Kind.SEND_F else send.stage - 1
        return round(_of(self.message_bytes, send._replace(stage=output)))

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
        return round(_of(self.activation_bytes, action)) if action.kind is Kind.F else 0

    def __str__(self) -> str:
        """For source lines: ``F 10 ms, B 20 ms``, and what else is not free."""
        parts = [f"F {_ms(self.forward)}", f"B {_ms(self.backward_input, self.backward_weight)}"]
        for name in ("overlapped", "latency", "step", "reduce"):
            value: Seconds = getattr(self, name)
            if any(value) if isinstance(value, tuple) else value:
                parts.append(f"{'F&B' if name == 'overlapped' else name} {_ms(value)}")
        if self.bandwidth < inf:
            parts.append(f"{self.bandwidth / 1e6:g} MB/s")
        return ", ".join(parts)


def _is_for_all(value: Sequence[object]) -> bool:
    """Whether it is a single row, of all stages' microbatches."""
    return len(value) == 1 and isinstance(value[0], tuple)


def _is_row(entry: object) -> bool:
    return isinstance(entry, Sequence) and not isinstance(entry, str)


def _check(name: str, value: object) -> None:
    """Refuse what is no number of seconds, bytes, or bytes per second, and a row of none."""
    rows = value if isinstance(value, tuple) else (value,)
    if not rows or () in rows:
        raise ScheduleError(f"Cost({name}={value!r}): give one number for all stages, or one each")
    for given in (x for row in rows for x in (row if isinstance(row, tuple) else [row])):
        size = float(given) if isinstance(given, Real) else nan
        if name == "bandwidth":
            if not size > 0:
                raise ScheduleError(f"Cost({name}={value!r}): bytes per second, a number > 0")
        elif not 0 <= size < inf:
            unit = "bytes" if name.endswith("bytes") else "seconds"
            raise ScheduleError(f"Cost({name}={value!r}): {unit} are numbers >= 0")


def _of(value: Seconds, action: Action) -> float:
    """The number for an action's stage and microbatch."""
    if not isinstance(value, Sequence):
        return value
    row = value[0] if _is_for_all(value) else _entry(value, action.stage, "stage")
    return _entry(row, action.microbatch or 0, "microbatch") if isinstance(row, Sequence) else row


_T = TypeVar("_T")


def _entry(row: Sequence[_T], place: int, noun: str) -> _T:
    if place < len(row):
        return row[place]
    raise ScheduleError(
        f"the cost names {number(len(row), noun)}, the schedule has a {noun} {place}: "
        f"give one number per {noun}, or one for all"
    )


def _ms(*values: Seconds) -> str:
    """The sum of the values, stage by stage, in milliseconds; least to most of microbatches."""
    rows = [list(v) if isinstance(v, Sequence) else [v] for v in values]
    longest = max(len(row) for row in rows)
    texts = [_range([row[i % len(row)] for row in rows]) for i in range(longest)]
    return (texts[0] if len(set(texts)) == 1 else "/".join(texts)) + " ms"


def _range(parts: Sequence[float | Sequence[float]]) -> str:
    """The sum of some numbers, or of rows of them, in milliseconds.

    >>> _range([0.01, 0.02]), _range([[0.01, 0.03], 0.02])
    ('30', '30 to 50')
    >>> _range([0.00125])  # not 1.2: a learner multiplies it
    '1.25'
    """
    rows = [part if isinstance(part, Sequence) else [part] for part in parts]
    longest = max(map(len, rows))
    sums = [sum(row[i % len(row)] for row in rows) * 1000 for i in range(longest)]
    least, most = (f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in (min(sums), max(sums)))
    return least if least == most else f"{least} to {most}"

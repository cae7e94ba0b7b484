"""What a trace's actions and messages took: the figures from which ``Cost.from_trace`` is made."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median, median_low
from typing import TypedDict

from pipelab.action import COMPUTE, SENDS, Kind
from pipelab.errors import TraceError
from pipelab.overlapping import overlapping_pairs
from pipelab.trace import Event

_ROUNDING = 1e-9  # of what a pair takes

Numbers = Sequence[float | Sequence[float]]


class Stages(TypedDict):
    """Medians, one per stage, or one per stage and microbatch: seconds and bytes."""

    forward: Numbers
    backward_input: Numbers
    backward_weight: Numbers
    step: Sequence[float]
    reduce: Sequence[float]
    message_bytes: Numbers
    activation_bytes: Numbers


def stages(events: Sequence[Event]) -> Stages:
    """Medians of what ran, per stage; 0 for what did not run. Raises TraceError if nothing did.

    A stage with full backwards alone: half of them counts as I, half as W.
    """
    computed = [e for e in events if e.kind in COMPUTE]
    if not computed:
        raise TraceError("the trace holds no computation: record or simulate a step first")
    took: dict[tuple[int, Kind], list[float]] = defaultdict(list)
    kept: dict[int, list[int]] = defaultdict(list)
    sent: dict[int, list[int]] = defaultdict(list)  # by the stage whose output, or its gradient
    for e in events:
        took[e.stage, e.kind].append(e.end - e.start)
        if e.kind is Kind.F:
            kept[e.stage].append(e.bytes)
        elif e.kind in SENDS:
            sent[e.stage if e.kind is Kind.SEND_F else e.stage - 1].append(e.bytes)
    everything = range(max(e.stage for e in computed) + 1)

    def seconds(kind: Kind) -> list[float]:
        return [median(took.get((stage, kind), [0.0])) for stage in everything]

    def halves(kind: Kind) -> list[float]:
        whole = [median(took.get((stage, Kind.B), [0.0])) / 2 for stage in everything]
        return [median(took.get((stage, kind), [whole[stage]])) for stage in everything]

    return Stages(
        forward=seconds(Kind.F),
        backward_input=halves(Kind.I),
        backward_weight=halves(Kind.W),
        step=seconds(Kind.STEP),
        reduce=seconds(Kind.REDUCE_GRAD),
        message_bytes=[median_low(sent.get(stage, [0])) for stage in everything],
        activation_bytes=[median_low(kept.get(stage, [0])) for stage in everything],
    )


def by_microbatch(events: Sequence[Event], count: int) -> Stages:
    """The same with a row per stage: the events of each microbatch alone give its numbers.

    ``count``: microbatches, or all their slices, of one step; those of later steps count too.
    """
    whole = stages(events)
    own: list[list[Event]] = [[] for _ in range(count)]
    for e in events:
        if e.microbatch is not None:
            own[e.microbatch % count].append(e)
    each = [stages(row) for row in own if row]

    def rows(columns: Sequence[Numbers]) -> Numbers:
        return [[*map(float, row)] for row in zip(*columns, strict=True)]

    return Stages(
        forward=rows([found["forward"] for found in each]),
        backward_input=rows([found["backward_input"] for found in each]),
        backward_weight=rows([found["backward_weight"] for found in each]),
        step=whole["step"],
        reduce=whole["reduce"],
        message_bytes=rows([found["message_bytes"] for found in each]),
        activation_bytes=rows([found["activation_bytes"] for found in each]),
    )


def taken_apart(events: Sequence[Event]) -> tuple[list[Event], float | list[float]]:
    """The events with each F and B that overlap as long as one of its stage alone, and F&B.

    F&B: seconds by the stage of the F, medians; 0.0 if pairs took as long as one after the other.
    """
    pairs = overlapping_pairs(events)
    if not pairs:
        return [*events], 0.0
    paired = {event for pair in pairs for event in pair}
    alone: dict[tuple[int, Kind], list[float]] = defaultdict(list)
    for e in events:
        if e not in paired:
            alone[e.stage, e.kind].append(e.end - e.start)
    lasts = {key: median(row) for key, row in alone.items()}
    together: dict[int, list[float]] = defaultdict(list)
    gained = 0.0
    cut: dict[Event, Event] = {}
    for pair in pairs:
        took = max(e.end for e in pair) - min(e.start for e in pair)
        parts = [_alone(lasts, e.stage, e.kind, took / 2) for e in pair]
        cut |= {e: e._replace(end=e.start + s) for e, s in zip(pair, parts, strict=True)}
        together[pair[0].stage].append(took)
        gained = max(gained, abs(sum(parts) - took))
    if gained <= _ROUNDING * max(map(max, together.values())):
        return [cut.get(e, e) for e in events], 0.0
    every = range(max(e.stage for e in events) + 1)
    return [cut.get(e, e) for e in events], [median(together.get(s, [0.0])) for s in every]


def _alone(
    lasts: Mapping[tuple[int, Kind], float], stage: int, kind: Kind, otherwise: float
) -> float:
    """How long an F or a B takes that overlaps with nothing; a B, if need be, as I and W."""
    halves = [lasts[stage, half] for half in (Kind.I, Kind.W) if (stage, half) in lasts]
    if kind is Kind.B and (stage, kind) not in lasts and len(halves) == 2:
        return sum(halves)
    return lasts.get((stage, kind), otherwise)


def latency(events: Sequence[Event]) -> float:
    """Seconds from a SEND's start to the end of its receiver's WAIT; the median, 0 without any.

    Only messages for which the receiver waited already when they left: a rank that came later
    may have found the message already there. One that came before it left, by clocks that differ,
    says nothing.
    """
    forward = {(e.rank, e.stage, e.microbatch): e.start for e in events if e.kind is Kind.F}
    left: dict[tuple[int, int | None, Kind, int, int | None], float] = {
        (e.rank, e.peer, e.kind, e.stage, e.microbatch): e.start for e in events if e.kind in SENDS
    }
    took = []
    for e in events:
        if e.kind is not Kind.WAIT or e.peer is None:
            continue
        # a WAIT does not say for which action: before the stage's F it is that one's
        is_forward = e.end <= forward.get((e.rank, e.stage, e.microbatch), float("inf"))
        send, stage = (Kind.SEND_F, e.stage - 1) if is_forward else (Kind.SEND_B, e.stage + 1)
        start = left.get((e.peer, e.rank, send, stage, e.microbatch))
        if start is not None and e.start <= start <= e.end:
            took.append(e.end - start)
    return median(took) if took else 0.0

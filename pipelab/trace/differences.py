"""Two traces side by side: a prediction and its recording, two schedules, or runs of other sizes.

Messages and waits differ by source: a prediction has a WAIT only where a rank waits, a recording
one for each message; only a recording has RECVs, which take no time.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, Action, Kind
from pipelab.trace.idle import Reason, explain_idle
from pipelab.trace.trace import Trace
from pipelab.words import number, time_unit

_RECEIVES = (Kind.RECV_F, Kind.RECV_B)
_MATCHED = COMPUTE | PER_STAGE | {Kind.SEND_F, Kind.SEND_B}
_SHOWN = 8  # missing events that the text names


class Pair(NamedTuple):
    """One number of both traces."""

    a: float
    b: float

    @property
    def difference(self) -> float:
        """How much larger it is in b."""
        return self.b - self.a

    @property
    def ratio(self) -> float | None:
        """How many times as large it is in b; None where it is 0 in a."""
        return self.b / self.a if self.a else None


_ONE_EACH = Pair(1, 1)


_ONE_EACH = Pair(1, 1)


class KindRow(NamedTuple):
    """All events of one kind on one rank: how many, and their seconds in all and on average.

    0 for a trace without this rank.
    """

    rank: int
    kind: Kind
    number: Pair
    total: Pair

    @property
    def mean(self) -> Pair:
        """Seconds of one event; 0.0 where there is none."""
        return Pair(*(t / n if n else 0.0 for t, n in zip(self.total, self.number, strict=True)))


@dataclass(frozen=True)
class Comparison:
    """Where two traces differ; printed, a table.

    Attributes:
        sources: the source lines of both.
        duration: seconds.
        bubble_fraction: of both.
        ranks: how many.
        microbatches: how many forwards the first stage ran, in all replicas and steps.
        idle: for each reason, the seconds that all ranks together were idle.
        rows: per rank and kind, RECVs left out.
        missing_in_a: (rank, action) of b's that a lacks; kinds and ranks that a has none of are
            left out.
        missing_in_b: (rank, action) of a's that b lacks, likewise.
    """

    sources: tuple[str, str]
    duration: Pair
    bubble_fraction: Pair
    ranks: Pair = _ONE_EACH
    microbatches: Pair = _ONE_EACH
    idle: dict[Reason, Pair] = field(default_factory=dict)
    rows: tuple[KindRow, ...] = ()
    missing_in_a: tuple[tuple[int, Action], ...] = ()
    missing_in_b: tuple[tuple[int, Action], ...] = ()

    @property
    def seconds_per_microbatch(self) -> Pair:
        """What runs with other numbers of microbatches or steps can be compared by; in seconds."""
        pairs = zip(self.duration, self.microbatches, strict=True)
        return Pair(*(seconds / max(1, count) for seconds, count in pairs))

    def __str__(self) -> str:
        """The table: seconds of all events of a line, all in one unit, and the mean of one."""
        return "\n".join(line.rstrip() for line in _lines(self))


def compare(a: Trace, b: Trace) -> Comparison:
    """Where two traces differ; their schedules, ranks, microbatches and steps may be others."""
    return Comparison(
        sources=(a.source_line, b.source_line),
        duration=Pair(a.duration, b.duration),
        bubble_fraction=Pair(a.bubble_fraction, b.bubble_fraction),
        ranks=Pair(a.num_ranks, b.num_ranks),
        microbatches=Pair(_microbatches(a), _microbatches(b)),
        idle=_idle(a, b),
        rows=_rows(a, b),
        missing_in_a=_missing(b, a),
        missing_in_b=_missing(a, b),
    )


def starting_with(trace: Trace, other: Trace) -> Trace:
    """The same trace, moved in time so that its first event starts with the first one of another.

    A step cut out of a longer run starts late; beside another run, what counts is its own time.
    """
    first, aim = (min((e.start for e in t.events), default=0.0) for t in (trace, other))
    if first == aim:
        return trace
    later = aim - first
    events = (e._replace(start=e.start + later, end=e.end + later) for e in trace.events)
    return replace(trace, events=tuple(events))


def _microbatches(trace: Trace) -> int:
    forwards = sum(e.kind is Kind.F and e.stage == 0 for e in trace.events)
    return forwards // trace.setting.slices


def _idle(a: Trace, b: Trace) -> dict[Reason, Pair]:
    sums: list[dict[Reason, float]] = [defaultdict(float), defaultdict(float)]
    for trace, row in zip((a, b), sums, strict=True):
        for idle in explain_idle(trace):
            row[idle.reason] += idle.seconds
    return {reason: Pair(*(row[reason] for row in sums)) for reason in sorted({*sums[0], *sums[1]})}


def _rows(a: Trace, b: Trace) -> tuple[KindRow, ...]:
    count: dict[tuple[int, Kind], list[int]] = defaultdict(lambda: [0, 0])
    total: dict[tuple[int, Kind], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for i, trace in enumerate((a, b)):
        for e in trace.events:
            if e.kind not in _RECEIVES:
                count[e.rank, e.kind][i] += 1
                total[e.rank, e.kind][i] += e.end - e.start
    order = [*Kind]
    keys = sorted(count, key=lambda key: (key[0], order.index(key[1])))
    return tuple(KindRow(*key, Pair(*count[key]), Pair(*total[key])) for key in keys)


def _missing(whole: Trace, other: Trace) -> tuple[tuple[int, Action], ...]:
    """What the first has and the other lacks, of the ranks and kinds that the other has at all."""
    there = {(e.rank, Action(e.stage, e.kind, e.microbatch)) for e in other.events}
    kinds = {action.kind for _, action in there} & _MATCHED
    found = ((e.rank, Action(e.stage, e.kind, e.microbatch)) for e in whole.events)
    return tuple(
        key
        for key in found
        if key[0] < other.num_ranks and key[1].kind in kinds and key not in there
    )


def _lines(c: Comparison) -> Iterator[str]:
    factor, unit = time_unit(max(c.duration))
    yield from (f"{name}: {source}" for name, source in zip("ab", c.sources, strict=True))
    yield ""
    yield f"{'':<19}{'a':>10}{'b':>10}{'b - a':>10}{'b / a':>7}{'mean a':>10}{'mean b':>10}  {unit}"
    yield _line("duration", c.duration, factor)
    yield from (_line(f"idle: {reason}", pair, factor) for reason, pair in c.idle.items())
    yield _line("bubble fraction, %", c.bubble_fraction, 100)
    if c.microbatches.difference:
        yield _line("per microbatch", c.seconds_per_microbatch, factor)
    for row in c.rows:
        means = "".join(f"{factor * mean:>10.2f}" for mean in row.mean)
        number = " and ".join(f"{n:g}" for n in dict.fromkeys(row.number))
        yield f"{_line(f'rank {row.rank} {row.kind}', row.total, factor)}{means}  x {number}"
    yield from _more_ranks(c.ranks)
    for name, missing in (("a", c.missing_in_a), ("b", c.missing_in_b)):
        if missing:
            tokens = ", ".join(
                f"{action.token} of rank {rank}" for rank, action in missing[:_SHOWN]
            )
            more = len(missing) - _SHOWN
            yield f"{name} lacks {tokens}" + (f" and {more} more" if more > 0 else "")


def _more_ranks(ranks: Pair) -> Iterator[str]:
    """Which of the two has ranks that the other lacks."""
    if extra := int(abs(ranks.difference)):
        few, many = ("a", "b") if ranks.difference > 0 else ("b", "a")
        yield f"{many} has {number(extra, 'rank')} more than {few}, which has {int(min(ranks))}"


def _line(name: str, pair: Pair, factor: float) -> str:
    a, b, difference = (factor * value for value in (*pair, pair.difference))
    ratio = "" if pair.ratio is None else f"{pair.ratio:.2f}"
    return f"{name:<19}{a:>10.2f}{b:>10.2f}{difference:>+10.2f}{ratio:>7}"

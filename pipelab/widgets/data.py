"""A trace as its front end reads it: columns of numbers in bytes, and a head of words in JSON.

    bytes   rank kind stage microbatch peer (int32), start end bytes (float32), one column after
            the other, little-endian: 10,000 events are 320 kB and need no parsing
    head    what the numbers are not: sentences, colours, why ranks are idle, memory, the table

All words that a learner reads about a trace are written here, so that they can be tested here.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence

from pipelab.action import COMPUTE, Kind
from pipelab.plots import describe
from pipelab.plots.palette import STYLES, edge, shade, text_on
from pipelab.plots.picture import stages_of
from pipelab.plots.terminal import bubble_text, idle_shares, table
from pipelab.schedules.collector import paused_collector
from pipelab.trace import Event, Trace
from pipelab.trace.idle import Idle, explained, idle_seconds
from pipelab.trace.links import Node, link
from pipelab.trace.memory import memory_curves
from pipelab.widgets.tables import idle_table, rank_table, totals
from pipelab.words import KINDS as WORDS
from pipelab.words import REASONS, number, percent, time_text

Json = dict[str, object]

KINDS = list(Kind)
_PLACE = {kind: place for place, kind in enumerate(KINDS)}


def packed(events: Iterable[Event]) -> bytes:
    """The events as eight columns of four bytes each; -1 where there is no microbatch or peer."""
    rows = list(events)
    integers = (
        [e.rank for e in rows],
        [_PLACE[e.kind] for e in rows],
        [e.stage for e in rows],
        [-1 if e.microbatch is None else e.microbatch for e in rows],
        [-1 if e.peer is None else e.peer for e in rows],
    )
    reals = ([e.start for e in rows], [e.end for e in rows], [float(e.bytes) for e in rows])
    columns = [array("i", column) for column in integers] + [array("f", column) for column in reals]
    if sys.byteorder == "big":
        for column in columns:
            column.byteswap()
    return b"".join(column.tobytes() for column in columns)


@paused_collector()
def head(trace: Trace) -> Json:
    """All that the front end knows of a trace besides its events."""
    links = link(trace)
    pieces = explained(trace, links)
    sums, ranks, memory = idle_seconds(trace, pieces), table(trace), _Memory(trace)
    return {
        **frame(trace),
        "sentence": sentence(trace),
        "alt": describe(trace),
        "idle": _idle(links, pieces),
        "shares": [percent(share) for share in idle_shares(trace)],
        "memory": {"unit": memory.unit, "curves": memory.curves},
        "totals": totals(ranks, sums),
        "tables": [
            rank_table(trace, ranks, memory.peaks if memory.measured else ()),
            idle_table(trace, sums),
        ],
    }


def frame(trace: Trace) -> Json:
    """The part that does not depend on how long anything took: sizes, names, colours."""
    setting = trace.setting
    most = max((len(stages) for stages in stages_of(trace.events).values()), default=1)
    return {
        "kinds": [_kind(kind, most) for kind in KINDS],
        "source": trace.source,
        "sourceLine": trace.source_line,
        "schedule": setting.schedule,
        "ranks": setting.ranks,
        "replicas": setting.replicas,
        "microbatches": setting.microbatches,
    }


def sentence(trace: Trace) -> str:
    """What the learner is looking at."""
    s = trace.setting
    work = f"in one step of {s.schedule} with {number(s.microbatches, 'microbatch')}"
    copies = f", {number(s.replicas, 'replica')} of the pipeline" if s.replicas > 1 else ""
    if trace.source == "recorded":
        pace = f"each action padded to a set time: {s.paced}" if s.paced else "as fast as they can"
        what = (
            f"Recorded: what {number(s.ranks, 'rank')}, real processes, did {work}{copies}, {pace}."
        )
    else:
        what = f"Predicted, nothing ran: what {number(s.ranks, 'rank')} would do {work}{copies}."
    took = "took" if trace.source == "recorded" else "would take"
    return f"{what} It {took} {time_text(trace.duration)}; {bubble_text(trace)}."


def _kind(kind: Kind, stages: int) -> Json:
    """Name, words and looks of one kind; ``tints``: (fill, ink, edge) of a rank's stages."""
    style = STYLES[kind]
    fills = [shade(style.colour, place, stages) for place in range(stages)]
    return {
        "name": kind.value,
        "letter": style.letter,
        "hatch": style.hatch,
        "words": WORDS[kind].legend,
        "does": WORDS[kind].name,
        "bytes": WORDS[kind].bytes,
        "tints": [[fill, text_on(fill), edge(fill)] for fill in fills],
    }


def _idle(links: list[list[Node]], pieces: Sequence[Idle]) -> Json:
    """Each piece of idle time in columns; equal words are told once, in ``texts``."""
    words = _Words(links)
    texts: dict[str, int] = {}
    return {
        "rank": [piece.rank for piece in pieces],
        "start": [_short(piece.start) for piece in pieces],
        "end": [_short(piece.end) for piece in pieces],
        "phase": [piece.phase for piece in pieces],
        "reason": [piece.reason for piece in pieces],
        "words": [texts.setdefault(words.of(piece), len(texts)) for piece in pieces],
        "texts": list(texts),
    }


class _Words:
    """Says of each piece of idle time whom its rank waits for.

    ``pipelab.trace.idle.in_words`` says it for one piece and reads the whole trace each time.
    """

    def __init__(self, links: list[list[Node]]):
        self._rows = links
        self._next = [0] * len(self._rows)  # pieces come in order of time, so each row is read once

    def of(self, piece: Idle) -> str:
        """A few words, without the rank's own name: ``waits for 1F3 of rank 1``."""
        producer = self._producer(piece)
        match piece.reason:
            case "waiting" | "imbalance" if producer is not None:
                text = f"waits for {producer.token} of rank {producer.event.rank}"
                if piece.reason == "imbalance":
                    return f"{text}: rank {piece.root} has more work"
                held = piece.root is not None and piece.root != producer.event.rank
                return f"{text}, held up by rank {piece.root}" if held else text
            case "message" if producer is not None:
                return f"waits for the message with {producer.token} from rank {piece.peer}"
            case reason:
                return REASONS[reason].rank

    def _producer(self, piece: Idle) -> Node | None:
        row, at = self._rows[piece.rank], self._next[piece.rank]
        while at < len(row) and row[at].event.start < piece.end:
            at += 1
        self._next[piece.rank] = at
        return row[at].producer if at < len(row) else None


class _Memory:
    """What each rank holds; activations counted if no bytes are known.

    A prediction without sizes still knows how many activations a rank keeps.

    Attributes:
        curves: for each rank, times in seconds, and what it holds from then on.
        peaks: for each rank, the most that it holds at once.
    """

    def __init__(self, trace: Trace):
        self.measured = any(e.bytes for e in trace.events if e.kind in COMPUTE) or bool(
            trace.memory
        )
        self.unit = "bytes" if self.measured else "activations"
        if not self.measured:
            computing = (e for e in trace.events if e.kind in COMPUTE)
            counted = tuple(Event(*e[:6], int(e.kind is Kind.F)) for e in computing)
            trace = Trace(counted, trace.source, trace.setting)
        points = [list(curve) for curve in memory_curves(trace)]
        held = [[point.total for point in curve] for curve in points]
        times = [[_short(point.time) for point in curve] for curve in points]
        self.curves = [list(curve) for curve in zip(times, held, strict=True)]
        self.peaks = [max(totals) for totals in held]


def _short(seconds: float) -> float:
    """Seconds in the seven digits that the columns have, too."""
    return float(f"{seconds:.7g}")

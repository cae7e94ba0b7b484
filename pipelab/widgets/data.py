"""A trace as its front end reads it: columns of numbers in bytes, and a head of words in JSON.

    bytes   rank kind stage microbatch peer (int32), start end bytes (float32), one column after
            the other, little-endian: 10,000 events are 320 kB and need no parsing
    head    what the numbers are not: sentences, colours, why ranks are idle, memory, the table

All sentences about a whole trace are written here; those about one action are in ``phrases``.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence

from pipelab.action import Kind
from pipelab.collector import paused_collector
from pipelab.errors import TraceError
from pipelab.overlapping import overlapping_pairs
from pipelab.plots.palette import STYLES, edge, shade, text_on
from pipelab.plots.terminal import bubble_text, describe, idle_shares, table
from pipelab.schedules.catalogue import title_of
from pipelab.story import all_reworded
from pipelab.trace import Event, Trace
from pipelab.trace.idle import Idle, IdleText, explained, idle_seconds, idle_texts, seen_reasons
from pipelab.trace.links import Node, link
from pipelab.trace.memory import held_over_time
from pipelab.trace.metrics import stages_of, step_windows
from pipelab.trace.picture_rows import averages_alone, drawn_idle
from pipelab.widgets.overlay import Over, overlay
from pipelab.widgets.tables import Table, idle_table, rank_table, totals
from pipelab.words import KINDS as KIND_WORDS
from pipelab.words import number, percent, time_text, unbroken

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
def head(trace: Trace, tables: Sequence[Table] = ()) -> Json:
    """All that the front end knows of a trace, except its events; ``tables`` come first of all."""
    links = link(trace)
    pieces = explained(trace, links)
    sums, ranks, memory = idle_seconds(trace, pieces), table(trace), _Memory(trace)
    known = {
        **frame(trace),
        "disturbed": trace.warning,
        "sentence": unbroken(sentence(trace)),
        "alt": describe(trace),
        "idle": _idle(trace, links, drawn_idle(trace, pieces)),
        "shares": [percent(share) for share in idle_shares(trace)],
        "memory": {"unit": memory.unit, "curves": memory.curves},
        "totals": totals(ranks, sums),
        **_averages(trace),
        **_pairs(trace),
        **_steps(trace),
        "tables": [
            *tables,
            rank_table(trace, ranks, memory.peaks if memory.measured else ()),
            idle_table(trace, sums),
        ],
    }
    if trace.setting.story:  # which has no memory, no phases and no backwards
        known |= {"memory": None, "tables": list(tables)}
    return known


def _averages(trace: Trace) -> Json:
    """Which events, by their places, are averages over replicas with a box in their rank's row."""
    alone = {*averages_alone(trace.events)}
    places = [i for i, event in enumerate(trace.events) if event in alone] if alone else []
    return {"averages": places} if places else {}


def _pairs(trace: Trace) -> Json:
    """Which events, by their places, overlap and share a row: each F with its B."""
    place = {event: i for i, event in enumerate(trace.events)}
    pairs = [[place[a], place[b]] for a, b in overlapping_pairs(trace.events)]
    return {"pairs": pairs} if pairs else {}


def _steps(trace: Trace) -> Json:
    """Of a trace of several steps: when each rank begins each of them, and when all work on it."""
    steps, pieces = trace.setting.steps, trace.setting.pieces
    if steps == 1:
        return {}
    starts = [[0.0] * steps for _ in range(trace.num_ranks)]
    spans = [[0.0, 0.0] for _ in range(steps)]
    for step in range(steps):
        windows = step_windows(trace.events, trace.num_ranks, step * pieces, (step + 1) * pieces)
        for rank, (start, _) in enumerate(windows):
            starts[rank][step] = start
        spans[step] = [min(start for start, _ in windows), max(end for _, end in windows)]
    return {"steps": {"starts": starts, "spans": spans}}


def frame(trace: Trace) -> Json:
    """The part that does not depend on times: sizes, names, colours."""
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
        "slices": setting.slices,
        **({"story": setting.story} if setting.story else {}),
    }


def ghost_head(trace: Trace) -> Json:
    """What is known of a trace that is drawn over another one."""
    return {**frame(trace), **_averages(trace)}


def sentence(trace: Trace) -> str:
    """What the picture shows, and how long it took."""
    took = "took" if trace.source == "recorded" else "would take"
    if trace.setting.story:
        return f"{subject(trace)} It {took} {time_text(trace.duration)}."
    return f"{subject(trace)} It {took} {time_text(trace.duration)}; {bubble_text(trace)}."


def subject(trace: Trace) -> str:
    """Who did what, and where the times come from."""
    s = trace.setting
    if s.story:
        who, what = number(s.ranks, "rank"), number(s.microbatches, "microbatch")
        did = "real processes, did" if trace.source == "recorded" else "would do"
        return f"{trace.source.capitalize()}: what {who}, {did} with {what}."
    steps = "one step" if s.steps == 1 else f"{s.steps} steps"
    name = "a custom schedule" if s.schedule == "custom" else title_of(s.schedule)
    work = f"in {steps} of {name} with {number(s.microbatches, 'microbatch')}"
    work += f" of {s.slices} slices each" if s.slices > 1 else ""
    copies = f", {number(s.replicas, 'replica')} of the pipeline" if s.replicas > 1 else ""
    if trace.source == "recorded":
        pace = f"each action paced to a set time: {s.paced}" if s.paced else "as fast as they can"
        return (
            f"Recorded: what {number(s.ranks, 'rank')}, real processes, did {work}{copies}, {pace}."
        )
    return f"Predicted, nothing ran: what {number(s.ranks, 'rank')} would do {work}{copies}."


def _kind(kind: Kind, stages: int) -> Json:
    """Name, words and looks of one kind; ``tints``: (fill, ink, edge) of a rank's stages."""
    style = STYLES[kind]
    fills = [shade(style.colour, place, stages) for place in range(stages)]
    return {
        "name": kind.value,
        "letter": style.letter,
        "hatch": style.hatch,
        "words": KIND_WORDS[kind].legend,
        "tints": [[fill, text_on(fill), edge(fill)] for fill in fills],
    }


def _idle(trace: Trace, links: list[list[Node]], pieces: Sequence[Idle]) -> Json:
    """Each piece of idle time in columns; ``words`` is its place in ``texts`` and ``tokens``."""
    place: dict[IdleText, int] = {}
    words = [place.setdefault(text, len(place)) for text in idle_texts(links, pieces)]
    return {
        "rank": [piece.rank for piece in pieces],
        "start": [_short(piece.start) for piece in pieces],
        "end": [_short(piece.end) for piece in pieces],
        "phase": [piece.phase for piece in pieces],
        "reason": [piece.reason for piece in pieces],
        "words": words,
        "texts": [text.sentence for text in place],
        "tokens": [text.token for text in place],
        "seen": sorted(seen_reasons(trace, pieces)),
    }


class _Memory:
    """What each rank holds: bytes, or activations counted if none are known.

    Attributes:
        curves: for each rank, times in seconds, and what it holds from then on.
        peaks: for each rank, the most that it holds at once.
    """

    def __init__(self, trace: Trace):
        found = held_over_time(trace)
        self.unit = found.unit
        self.measured = found.unit == "bytes"
        held = [[point.total for point in curve] for curve in found.curves]
        times = [[_short(point.time) for point in curve] for curve in found.curves]
        self.curves = [list(curve) for curve in zip(times, held, strict=True)]
        self.peaks = [max(totals) for totals in held]


def _short(seconds: float) -> float:
    """Seconds in the seven digits that the columns have, too."""
    return float(f"{seconds:.7g}")


LANES = ("messages", "memory", "prediction")


def lanes(show: Sequence[str]) -> list[str]:
    """What is drawn beside the boxes. Raises TraceError for a name that is none of ``LANES``."""
    names = [show] if isinstance(show, str) else list(show)
    if unknown := [name for name in names if name not in LANES]:
        raise TraceError(f"show={show!r}: {unknown[0]!r} is none of {', '.join(LANES)}")
    return names


def timeline_state(
    trace: Trace,
    over: Over | None = None,
    budget: int | None = None,
    show: Sequence[str] | None = None,
) -> Json:
    """What the front end shows: ``data``, ``head``, ``ghost_data``, ``ghost_head``, ``show``.

    Args:
        trace: predicted or recorded.
        over: what to draw over it, see ``pipelab.widgets.overlay``.
        budget: bytes that a rank may hold, drawn as a line over the memory.
        show: of ``LANES``; None: those that ``over`` and ``budget`` need.

    Raises:
        TraceError: ``over`` cannot be compared with ``trace``, or ``show`` holds another name.
    """
    if show is None:
        show = ["memory"] * (budget is not None) + ["prediction"] * (over is not None)
    above = overlay(trace, over)
    added = {"comparison": above.numbers, "guess": above.guess, "budget": budget}
    state: Json = {
        "data": packed(trace.events),
        "head": {
            **head(trace),
            "alt": f"{describe(trace)} {above.words}".strip(),
            **{name: value for name, value in added.items() if value},
        },
        "ghost_data": packed(above.trace.events) if above.trace else b"",
        "ghost_head": ghost_head(above.trace) if above.trace else {},
        "show": lanes(show),
    }
    return {name: all_reworded(value, trace.setting.story) for name, value in state.items()}

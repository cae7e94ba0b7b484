"""Why ranks are idle: each stretch without computation, its phase, reason and root.

    rank 0  │ 0F0 │ 0F1 │░░░░░░░░░░░░░░░░│ 0B0 │   warmup: waits for 1B0, then for its message
                  └┐             ┌┘
    rank 1  ░░░░░░░░│ 1F0 │  1B0 │                 warmup: waits for 0F0, then for its message

Waiting has a chain: rank 3 waits for rank 2, which itself waits for rank 1, which came to its
action without waiting: rank 1 is the *root*, where a change would help.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import Literal, NamedTuple

from pipelab.action import PER_STAGE, Kind
from pipelab.trace.event import Event
from pipelab.trace.links import RESULT, Node, link
from pipelab.trace.metrics import idle_gaps
from pipelab.trace.trace import Trace
from pipelab.words import REASONS

Phase = Literal["warmup", "steady", "cooldown"]
Reason = Literal["waiting", "imbalance", "message", "step", "blocked", "done", "overhead"]

_SEEN = 0.005  # of the width of a picture of the whole trace: some pixels
LONGER = 1.05  # by how much the root must compute longer in all to be called imbalanced


class Idle(NamedTuple):
    """A stretch in which one rank does not compute; start and end in seconds.

    Attributes:
        phase: ``warmup`` before the rank's first backward, ``cooldown`` after its last forward,
            else ``steady``.
        reason: ``waiting``: a result that it needs was not made yet. ``imbalance``: the same in the
            steady phase, while the root computes: it has more work (5 % or more, in seconds of the
            whole step) than this rank. ``message``: the result was made and in transit. ``step``:
            its REDUCE_GRAD or STEP, or a wait for all ranks before these. ``blocked``: it was in a
            SEND that did not return. ``done``: it had computed all its actions. ``overhead``: the
            rest, between two actions of a recorded run.
        peer: the rank whose result it needs; None where it needs none.
        root: the rank at the end of the chain of waits; None where it needs none.
    """

    rank: int
    start: float
    end: float
    phase: Phase
    reason: Reason
    peer: int | None = None
    root: int | None = None

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.start


class _Claim(NamedTuple):
    """An explanation for a stretch of one rank's time, computing or not."""

    start: float
    end: float
    reason: Reason
    peer: int | None = None
    root: int | None = None


def explain_idle(trace: Trace) -> tuple[Idle, ...]:
    """All idle time between the first start and the last end of a computation, explained.

    In order of rank and time. The pieces of a rank are exactly the time in which it does not
    compute: they sum to duration - busy.
    """
    return explained(trace, link(trace))


def explained(trace: Trace, rows: list[list[Node]]) -> tuple[Idle, ...]:
    """The same from ``link(trace)``, where that is there already."""
    others: list[list[Event]] = [[] for _ in rows]
    for event in trace.events:
        others[event.rank].append(event)
    loads = [_Load(row) for row in rows]
    waits = any(e.kind is Kind.WAIT and e.microbatch is not None for e in trace.events)
    found: list[Idle] = []
    for rank, gaps in enumerate(idle_gaps(trace.events, len(rows))):
        own = [*_claims(rows[rank], others[rank]), *(() if waits else _implied(rows[rank]))]
        claims = [claim for claim in own if claim.start < claim.end]
        claims.sort(key=lambda claim: claim.start)
        found += (_judged(piece, loads) for piece in _pieces(rank, rows[rank], claims, gaps))
    return tuple(found)


def idle_seconds(
    trace: Trace, pieces: Iterable[Idle] | None = None
) -> tuple[dict[tuple[Reason, Phase], float], ...]:
    """For each rank, the seconds that it was idle for each reason in each phase.

    ``pieces``: of ``explain_idle``, where one has them already.
    """
    sums: list[dict[tuple[Reason, Phase], float]] = [
        defaultdict(float) for _ in range(trace.num_ranks)
    ]
    for idle in explain_idle(trace) if pieces is None else pieces:
        sums[idle.rank][idle.reason, idle.phase] += idle.seconds
    return tuple(dict(row) for row in sums)


def seen_reasons(trace: Trace, pieces: Iterable[Idle]) -> set[Reason]:
    """The reasons of which a picture of the whole trace shows some pixels, in all rows together."""
    sums: dict[Reason, float] = defaultdict(float)
    for piece in pieces:
        sums[piece.reason] += piece.seconds
    return {reason for reason, seconds in sums.items() if seconds >= _SEEN * trace.duration}


def _claims(row: list[Node], events: list[Event]) -> Iterator[_Claim]:
    """What the events of one rank say about its time."""
    for node in row:
        if (wait := node.wait) is None:
            continue
        if node.producer is None:
            yield _Claim(wait.start, wait.end, "waiting", wait.peer, wait.peer)
            continue
        made = node.producer.event.end
        peer = node.producer.event.rank
        root = node.producer.root.event.rank
        cut = min(max(made, wait.start), wait.end)
        yield _Claim(wait.start, cut, "waiting", peer, root)
        yield _Claim(cut, wait.end, "message", peer, root)
    known = {node.wait for node in row}
    for wait in events:  # for a result whose use the trace does not hold, as of forwards alone
        if wait.kind is Kind.WAIT and wait.microbatch is not None and wait not in known:
            yield _Claim(wait.start, wait.end, "waiting", wait.peer, wait.peer)
    events = sorted(events, key=lambda e: e.start)
    following = [*(e.start for e in events[1:]), inf]
    for event, then in zip(events, following, strict=False):
        if event.kind in PER_STAGE or (event.kind is Kind.WAIT and event.microbatch is None):
            yield _Claim(event.start, event.end, "step")
        elif event.kind in RESULT and event.end <= then:  # else it continued with another event
            yield _Claim(event.start, event.end, "blocked", event.peer)


def _implied(row: list[Node]) -> Iterator[_Claim]:
    """Where no wait was recorded: a rank waits from its last action until its message comes.

    The action of a late message begins with it; a message that was ready came with its RECV.
    """
    for node in row:
        if node.producer is None:
            if node.recv and node.previous:  # of a rank that the file does not hold
                from_peer = node.recv.peer, node.recv.peer
                yield _Claim(node.previous.event.end, node.event.start, "waiting", *from_peer)
            continue
        peer, root = node.producer.event.rank, node.producer.root.event.rank
        free = node.previous.event.end if node.previous else -inf
        made, start = node.producer.event.end, node.event.start
        came = max((e.end for e in (node.send, node.recv) if e is not None), default=made)
        if node.was_late:
            came = start
        yield _Claim(free, min(made, start), "waiting", peer, root)
        yield _Claim(max(free, made), min(came, start), "message", peer, root)


def _pieces(
    rank: int, row: list[Node], claims: list[_Claim], gaps: Sequence[tuple[float, float]]
) -> Iterator[Idle]:
    """One rank's idle time, cut where a claim begins or ends; claims sorted by their start."""
    finished = max((node.event.end for node in row), default=-inf)
    backward = [n.event.start for n in row if n.event.kind is not Kind.F]
    forward = [n.event for n in row if n.event.kind is Kind.F]
    # of forwards alone, as in an evaluation, warmup is what comes before the first
    warm = min(backward or [e.start for e in forward], default=-inf)
    cool = max((e.end for e in forward), default=-inf)
    skip = 0
    for start, end in gaps:
        phase: Phase = "warmup" if start < warm else "steady" if start < cool else "cooldown"
        rest: Reason = "done" if start >= finished else "overhead"
        while skip < len(claims) and claims[skip].end <= start:
            skip += 1
        at = start
        for i in range(skip, len(claims)):
            claim = claims[i]
            if max(at, claim.start) >= end:
                break
            if claim.end <= at or (rest == "done" and claim.reason != "step"):
                continue
            if at < claim.start:
                yield Idle(rank, at, claim.start, phase, rest)
            begin, at = max(at, claim.start), min(end, claim.end)
            yield Idle(rank, begin, at, phase, *claim[2:])
        if at < end:
            yield Idle(rank, at, end, phase, rest)


class _Load:
    """How long one rank computed up to any time."""

    def __init__(self, row: list[Node]):
        self.starts = [node.event.start for node in row]
        self.lengths = [_alone(node) for node in row]
        self.before = list(accumulate(self.lengths, initial=0.0))
        self.total = self.before[-1]

    def until(self, time: float) -> float:
        """Seconds of computation before this time."""
        i = bisect_right(self.starts, time) - 1
        return self.before[i] + min(time - self.starts[i], self.lengths[i]) if i >= 0 else 0.0


def _alone(node: Node) -> float:
    """Seconds of a computation; of two that overlap, the second one's count with the first's."""
    beside, event = node.beside, node.event
    is_second = beside is not None and (beside.event.kind is Kind.F)
    return 0.0 if is_second else event.end - event.start


def _judged(idle: Idle, loads: list[_Load]) -> Idle:
    """Steady waiting for a busy rank that has more work is imbalance."""
    if idle.phase != "steady" or idle.reason != "waiting" or idle.root is None:
        return idle
    root = loads[idle.root]
    works = root.until(idle.end) - root.until(idle.start) > idle.seconds / 2
    longer = root.total > LONGER * loads[idle.rank].total
    return idle._replace(reason="imbalance") if works and longer else idle


class IdleText(NamedTuple):
    """One piece of idle time in words, without the rank's name.

    Attributes:
        sentence: such as ``"waits for 1F3 of rank 1, held up by rank 0"``.
        token: the action whose result it waits for, such as ``"1F3"``; empty where it needs none.
    """

    sentence: str
    token: str = ""


def idle_texts(rows: Sequence[Sequence[Node]], pieces: Sequence[Idle]) -> list[IdleText]:
    """The text of each piece of ``explained(trace, rows)``, in the same order."""
    following = [0] * len(rows)  # pieces come in order of time, so each row is read once
    texts = []
    for piece in pieces:
        row, at = rows[piece.rank], following[piece.rank]
        while at < len(row) and row[at].event.start < piece.end:
            at += 1
        following[piece.rank] = at
        texts.append(_text(piece, row[at].producer if at < len(row) else None))
    return texts


def _text(piece: Idle, producer: Node | None) -> IdleText:
    if producer is None or piece.reason not in ("waiting", "imbalance", "message"):
        return IdleText(REASONS[piece.reason].rank)
    token, rank = producer.token, producer.event.rank
    if piece.reason == "message":
        return IdleText(f"waits for the message with {token} from rank {piece.peer}", token)
    text = f"waits for {token} of rank {rank}"
    if piece.reason == "imbalance":
        text += f": rank {piece.root} has more work"
    elif piece.root is not None and piece.root != rank:
        text += f", held up by rank {piece.root}"
    return IdleText(text, token)

"""Clocks of several hosts, aligned by the messages themselves.

    rank 0   SEND ─────┐                  a receive cannot end before its send began:
    rank 1          │ RECV end │          so much may rank 1's clock be early, and no more

Each message bounds how far one rank's clock is ahead of another's; messages both ways leave an
interval. All intervals together (shortest paths, as in any system of difference constraints) give
each rank's interval against the first rank: its middle is the offset, half its width the error.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.trace.metrics import step_span
from pipelab.trace.readers.gathered import HOST_TIME, Gathered
from pipelab.words import time_text

_NOISE = 1e-6  # seconds: what a file's own rounding may contradict
_BACKWARD = (Kind.B, Kind.I)


class _Message(NamedTuple):
    """Which rank began to send when, which had received when: seconds by each one's clock."""

    source: int
    sent: float
    destination: int
    received: float


@dataclass(frozen=True)
class Aligned:
    """What was found about the clocks of one replica.

    Attributes:
        offsets: seconds to add to the times of each rank that was recorded.
        error: seconds by which two ranks' clocks may still differ; 0.0 if that is not known.
        note: the same in a sentence.
    """

    offsets: dict[int, float]
    error: float
    note: str


def align(gathered: Gathered) -> dict[int, Aligned]:
    """For each replica, its clocks; the events of ``gathered`` are shifted."""
    found = {}
    for replica in sorted({key.replica for key in gathered.steps}):
        steps = {k: row for k, row in gathered.steps.items() if k.replica == replica}
        there = sorted({e.rank for row in steps.values() for e in row})
        hosts = {rank: gathered.hosts.get((replica, rank), "") for rank in there}
        found[replica] = aligned = _aligned(steps.values(), hosts, gathered.clock == HOST_TIME)
        for key, row in steps.items():
            gathered.steps[key] = [
                e._replace(start=e.start + aligned.offsets[e.rank],
                           end=e.end + aligned.offsets[e.rank])
                for e in row
            ]  # fmt: skip
    return found


def _aligned(
    steps: Iterable[Sequence[Event]], hosts: Mapping[int, str], needs_wait: bool
) -> Aligned:
    """The clocks of one replica; ``hosts``: of each rank, "" where it is not known."""
    still = dict.fromkeys(hosts, 0.0)
    if len(hosts) < 2:
        return Aligned(still, 0.0, "")
    known = all(hosts.values())
    if known and len(set(hosts.values())) == 1:
        return Aligned(still, 0.0, _shared(min(hosts.values()), [*steps], needs_wait))
    clocks = _numbered({rank: host or str(rank) for rank, host in hosts.items()})
    last = max(clocks.values())
    bounds = _bounds(steps, clocks, needs_wait)
    if not bounds:
        return Aligned(still, 0.0, "no messages in the files: the clocks are as they were")
    distance = _shortest(bounds, last + 1)
    if distance is None:
        return Aligned(
            still, 0.0,
            "the messages contradict each other, as if clocks had jumped: they are as they were",
        )  # fmt: skip
    agrees = all(bound >= -_NOISE for bound in bounds.values())
    if agrees and not known:
        return Aligned(
            still, 0.0, "no message was received before it was sent: the clocks are as they were"
        )
    unbound = [c for c in range(1, last + 1) if inf in (distance[0][c], distance[c][0])]
    middle, widths = [], []
    for c, ahead in enumerate(distance[0]):
        behind = distance[c][0]
        middle.append(0.0 if c in unbound else (ahead - behind) / 2)
        widths.append(0.0 if c in unbound else (ahead + behind) / 2)
    error = max(widths)
    offsets = {rank: middle[clock] for rank, clock in clocks.items()}
    return Aligned(offsets, error, _note(offsets, error, len(unbound)))


def _shared(host: str, steps: Sequence[Sequence[Event]], needs_wait: bool) -> str:
    """In words that ranks of one host share its clock. Raises TraceError if they cannot."""
    early = 0.0
    for events in steps:
        span = step_span(events)
        for message in _messages(events, needs_wait):
            early = max(early, message.sent - message.received)
            if span and message.sent - message.received > (span[1] - span[0]) / 2:
                raise TraceError(
                    f"rank {message.destination} used a result of rank {message.source} "
                    f"{time_text(early)} before it was made, on the same clock, that of {host}: "
                    f"these files are of several runs or steps; open those of one run"
                )
    if early > _NOISE:
        return f"all ranks ran on {host}, but results were used {time_text(early)} before their end"
    return f"all ranks ran on {host}: they share its clock"


def _note(offsets: Mapping[int, float], error: float, unbound: int) -> str:
    shifts = ", ".join(
        f"rank {rank} {'+' if offset >= 0 else '−'}{time_text(abs(offset))}"
        for rank, offset in offsets.items()
    )
    first = min(offsets)
    text = f"clocks aligned by the messages, against rank {first}'s: {shifts}; ± {time_text(error)}"
    if unbound:
        text += f"; {unbound} without messages both ways are as they were"
    return text


def _numbered(hosts: Mapping[int, str]) -> dict[int, int]:
    """For each rank, the number of its clock: ranks of one host share it."""
    order = {host: i for i, host in enumerate(dict.fromkeys(hosts.values()))}
    return {rank: order[host] for rank, host in hosts.items()}


def _bounds(
    steps: Iterable[Sequence[Event]], clocks: Mapping[int, int], needs_wait: bool
) -> dict[tuple[int, int], float]:
    """(a, b) -> the least of (end of a receive on b) - (start of its send on a), in seconds.

    So much may a's clock be ahead of b's: offset[a] - offset[b] <= bound.
    """
    found: dict[tuple[int, int], float] = defaultdict(lambda: inf)
    for events in steps:
        for source, sent, destination, received in _messages(events, needs_wait):
            a, b = clocks[source], clocks[destination]
            if a != b:
                found[a, b] = min(found[a, b], received - sent)
    return dict(found)


def _messages(events: Sequence[Event], needs_wait: bool) -> Iterable[_Message]:
    """Each message that bounds a clock.

    A send that is not in the file began after its result was computed; a receive ended before its
    computation began, or when the file says. On a host that only launches what a GPU does, that
    holds where it waited for the message.
    """
    rows = {(e.kind, e.stage, e.microbatch): e for e in events}
    waits = defaultdict(list)
    for e in events:
        if e.kind is Kind.WAIT:
            waits[e.stage, e.microbatch].append(e.end)
    for e in events:
        if e.kind is Kind.F:
            made, sends, recvs, free = [(Kind.F, e.stage - 1)], Kind.SEND_F, Kind.RECV_F, -inf
        elif e.kind in _BACKWARD:
            made, sends, recvs = [(k, e.stage + 1) for k in _BACKWARD], Kind.SEND_B, Kind.RECV_B
            own = rows.get((Kind.F, e.stage, e.microbatch))
            free = own.end if own else -inf
        else:
            continue
        found = [row for kind, stage in made if (row := rows.get((kind, stage, e.microbatch)))]
        waited = any(free <= end <= e.start for end in waits[e.stage, e.microbatch])
        if not found or found[0].rank == e.rank or (needs_wait and not waited):
            continue
        send = rows.get((sends, found[0].stage, e.microbatch))
        recv = rows.get((recvs, e.stage, e.microbatch))
        yield _Message(
            found[0].rank,
            send.start if send else found[0].end,
            e.rank,
            max(e.start, recv.end) if recv else e.start,
        )


def _shortest(bounds: Mapping[tuple[int, int], float], size: int) -> list[list[float]] | None:
    """distance[a][b]: how far b's offset may at most be above a's; None if they contradict.

    offset[a] - offset[b] <= bound of (a, b) is an edge from b to a (Floyd 1962, Warshall 1962).
    """
    distance = [[0.0 if a == b else inf for b in range(size)] for a in range(size)]
    for (a, b), bound in bounds.items():
        distance[b][a] = min(distance[b][a], bound)
    for via in range(size):
        for a in range(size):
            for b in range(size):
                distance[a][b] = min(distance[a][b], distance[a][via] + distance[via][b])
    if any(distance[a][a] < -_NOISE for a in range(size)):
        return None
    return distance

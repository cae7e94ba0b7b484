"""What overlaps, an F and a B of one rank as one action: its price, and its two events.

walk      0F3 ───────── F&B ──────────▶│ 7B1 takes nothing more
events    0F3 ───────────────────────── both start when the messages of both are there,
7B1 ───────────────────────── and both end, and send, together
"""

from collections.abc import Iterable, Sequence

from pipelab.action import Action, Kind, Overlap
from pipelab.simulator.cost import Cost
from pipelab.trace import Event

_SENT_BY = {Kind.F: (Kind.SEND_F, -1), Kind.B: (Kind.SEND_B, +1)}


def prices(overlaps: Iterable[Overlap], cost: Cost) -> dict[Action, float]:
    """Seconds of each action that overlaps: the pair's for its F, none for its B."""
    found: dict[Action, float] = {}
    for both in overlaps:
        found |= {both.forward: cost.overlap_seconds(both), both.backward: 0.0}
    return found


def side_by_side(events: Sequence[Event], overlaps: Iterable[Overlap]) -> list[Event]:
    """The events of a walk in which each B that overlaps has the times of its F.

    The WAIT before them is for the one of the two whose message came last.
    """
    at = {(e.kind, e.stage, e.microbatch): i for i, e in enumerate(events)}
    out = [*events]

    def arrival(action: Action) -> tuple[float, int | None]:
        send, step = _SENT_BY[action.kind]
        i = at.get((send, action.stage + step, action.microbatch))
        return (events[i].end, events[i].rank) if i is not None else (0.0, None)

    for forward, backward in overlaps:
        first, second = at[Kind.F, *forward[::2]], at[Kind.B, *backward[::2]]
        start, end = events[first].start, events[first].end
        out[second] = out[second]._replace(start=start, end=end)
        wait = events[first - 1]
        if wait.kind is Kind.WAIT and wait.end == start and arrival(backward) > arrival(forward):
            stage, _, microbatch = backward
            peer = arrival(backward)[1]
            out[first - 1] = wait._replace(stage=stage, microbatch=microbatch, peer=peer)
    return out

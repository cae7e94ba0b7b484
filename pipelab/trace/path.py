"""The critical path: the chain of computations and messages that the step's length comes from.

rank 0  [0F0][0F1]                     0B0 [0B1]    to shorten the step, shorten one of these:
                 └SEND┐                    ┌┘       all else has slack
rank 1         1F0    [1F1][1B0][1B1]─SEND─┘
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pipelab.trace.event import Event
from pipelab.trace.links import Node, link
from pipelab.trace.trace import Trace

Why = Literal["start", "rank", "sent", "message"]


class Link(NamedTuple):
    """One event of the path.

    Attributes:
        event: a computation (F, B, I, W) or a SEND.
        why: what it had to wait for, the event before it in the path. ``rank``: its rank was busy
            with that one. ``sent``: a SEND takes away what that one made. ``message``: it needed
            that message. ``start``: the path begins here.
    """

    event: Event
    why: Why


def critical_path(trace: Trace) -> tuple[Link, ...]:
    """From the start of the step to its last computation, the events that it had to wait for.

    Followed back from the end: from each computation to the one before it on its rank, or to the
    one whose message it needed, whichever ended last. In a prediction each one starts exactly
    when the one before it ends; in a recording the rank's own overhead comes between.
    """
    nodes = [node for row in link(trace) for node in row]
    if not nodes:
        return ()
    last = max(nodes, key=lambda node: node.event.end)
    return tuple(reversed([*_back(last, len(nodes))]))


def _back(node: Node, limit: int) -> Iterator[Link]:
    """The path from its end; ``limit`` ends it where a damaged file goes round in circles."""
    for _ in range(limit):
        if node.beside and node.beside.was_late and not node.was_late:
            node = node.beside  # both start when the messages of both are there
        late = node.was_late
        before = node.producer if late else node.previous
        if before is None:
            yield Link(node.event, "start")
            return
        yield Link(node.event, "message" if late else "rank")
        if late and node.send is not None:
            yield Link(node.send, "sent")
        node = before

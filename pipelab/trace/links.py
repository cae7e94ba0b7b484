"""Who needed whose result: for each computation, what it came after, and which of it was last.

rank 0  │ 0F0 │ 0F1 │                     1F0 needs the result of 0F0, which comes in a message
              └SEND┐                      and is late: rank 1 was free before it came
rank 1  ░░░░░░░░░░░░│ 1F0 │ 1F1 │         1F1 is not: rank 1 was busy with 1F0 until then
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from weakref import ref

from pipelab.action import COMPUTE, Action, Kind, needs, produces
from pipelab.overlapping import overlapping_pairs
from pipelab.trace.event import Event
from pipelab.trace.trace import Trace

RESULT = {Kind.SEND_F: Kind.F, Kind.SEND_B: Kind.I}  # what a message carries
_RECEIVED = {Kind.RECV_F: Kind.F, Kind.RECV_B: Kind.I}
# Of a computation's own time: a shorter recorded WAIT only checked for a message.
NOTICEABLE = 0.1

_Key = tuple[int, Action]  # a rank, and a result made on it


@dataclass(slots=True, eq=False)
class Node:
    """One computation and what had to be over before it.

    Attributes:
        event: the computation: F, B, I or W.
        previous: the computation before it on its rank; of a pair that overlaps, the one before
            both.
        beside: the other one of such a pair.
        producer: the computation on another rank whose result it needs.
        send: the message that brought this result.
        wait: the event in which its rank waited for the message.
        recv: the event in which its rank received it, or opened the buffer for it.
    """

    event: Event
    previous: "Node | None" = None
    producer: "Node | None" = None
    send: Event | None = None
    wait: Event | None = None
    recv: Event | None = None
    beside: "Node | None" = None
    _root: "Node | None" = None

    @property
    def token(self) -> str:
        """The text form of its action, such as ``2F0``."""
        return _action(self.event).token

    @property
    def was_late(self) -> bool:
        """Whether its rank was free before its message came: others held it up.

        When a message came is not always known; then it came after its result was made, and, where
        the rank waited noticeably, at the end of that.
        """
        if self.producer is None:
            return False
        if self.previous is None:
            return True
        made = self.producer.event.end
        free = self.previous.event.end
        if self.wait is None and self.recv is not None:
            # no wait was recorded, and a SEND may have lasted only since this rank was busy
            return made > free
        came = max(made, self.send.end) if self.send else made
        waited = self.wait.end - self.wait.start if self.wait else 0.0
        return came > free or waited > NOTICEABLE * (self.event.end - self.event.start)

    def chain(self) -> Iterator["Node"]:
        """This one, the one that it waited for, and so on, until one that was not late."""
        node = self
        yield node
        while node.was_late and node.producer is not None:
            node = node.producer
            yield node

    @property
    def root(self) -> "Node":
        """The last of the chain: its rank reached it without waiting, so it delayed all others."""
        passed = []
        for node in self.chain():
            if node._root is not None:
                node = node._root
                break
            passed.append(node)
        for late in passed:
            late._root = node
        return node


def _nothing() -> None:
    """No trace."""


_last: tuple[Callable[[], Trace | None], list[list[Node]]] = (_nothing, [])


def link(trace: Trace) -> list[list[Node]]:
    """For each rank, its computations in order of their start, each with what it came after.

    The answer for the last trace is kept until that trace is gone: whoever shows one asks for its
    idle time, its longest bubble and its critical path, one after the other. Do not change it.
    """
    global _last
    kept, rows = _last
    if kept() is not trace:
        rows = _linked(trace)
        _last = ref(trace, _forget), rows
    return rows


def _forget(dead: object) -> None:
    global _last
    if _last[0] is dead:
        _last = _nothing, []


def _linked(trace: Trace) -> list[list[Node]]:
    rows: list[list[Node]] = [[] for _ in range(trace.num_ranks)]
    computing = (e for e in trace.events if e.kind in COMPUTE)
    for event in sorted(computing, key=lambda e: e.start):
        row = rows[event.rank]
        row.append(Node(event, row[-1] if row else None))
    nodes = [node for row in rows for node in row]
    _join_pairs(nodes, trace.events)
    made = {(n.event.rank, produces(_action(n.event))): n for n in nodes}
    _find_producers(nodes, made, trace.events)
    _find_waits(made, trace.events)
    _find_receives(made, trace.events)
    return rows


def _join_pairs(nodes: list[Node], events: Iterable[Event]) -> None:
    """What overlaps starts together, after the same computation."""
    if not (pairs := overlapping_pairs(events)):
        return
    of_event = {node.event: node for node in nodes}
    for pair in pairs:
        a, b = (of_event[event] for event in pair)
        a.beside, b.beside = b, a
        a.previous = b.previous = min(a, b, key=lambda node: node.event.start).previous


def _action(event: Event) -> Action:
    return Action(event.stage, event.kind, event.microbatch)


def _find_producers(nodes: list[Node], made: dict[_Key, Node], events: Iterable[Event]) -> None:
    """By the SEND that went to this rank (replicas share stages), else by the stage's one rank."""
    sends: dict[tuple[int | None, Action], Event] = {}
    for e in events:
        if e.kind in RESULT:
            sends[e.peer, Action(e.stage, RESULT[e.kind], e.microbatch)] = e
    homes: dict[int, set[int]] = defaultdict(set)
    for node in nodes:
        homes[node.event.stage].add(node.event.rank)
    num_stages = max(homes, default=-1) + 1
    for node in nodes:
        rank = node.event.rank
        for result in needs(_action(node.event), num_stages):
            if (rank, result) in made or result.stage == node.event.stage:
                continue
            node.send = sends.get((rank, result))
            home = {node.send.rank} if node.send else homes[result.stage]
            node.producer = made.get((next(iter(home)), result)) if len(home) == 1 else None


def _find_waits(made: dict[_Key, Node], events: Iterable[Event]) -> None:
    """A WAIT names stage and microbatch; of F and backward it is for the first one after it."""
    for wait in events:
        if wait.kind is Kind.WAIT and wait.microbatch is not None:
            for kind in (Kind.F, Kind.I):
                node = made.get((wait.rank, Action(wait.stage, kind, wait.microbatch)))
                if node and node.wait is None and wait.start <= node.event.start:
                    node.wait = wait
                    break


def _find_receives(made: dict[_Key, Node], events: Iterable[Event]) -> None:
    """A RECV names the stage and the microbatch of the computation that needs it."""
    for recv in events:
        kind = _RECEIVED.get(recv.kind)
        if kind and (node := made.get((recv.rank, Action(recv.stage, kind, recv.microbatch)))):
            node.recv = recv

"""A trace in Chrome's JSON, which opens in ui.perfetto.dev and chrome://tracing.

    process rank + 1   "rank 0"
      thread 1         compute      X events "F 3", "B 3", "STEP"
      thread 2         messages     X events "SEND_F 3", "RECV_B 3"
      thread 3         idle         X events "WAIT 3", and "idle" for the rest
      thread 1000      operators 1  X events "aten::linear", if a profiler recorded them
      counter          "activation bytes"

Times are microseconds with three decimals, so all is rounded to whole nanoseconds first: events
that touch still do. A sender's event has an arrow to the action that used its message. (Not to
the WAIT for it: that began before the SEND, and Perfetto drops arrows that point back in time.)
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from pipelab.action import COMPUTE, MESSAGES, PER_STAGE, Kind
from pipelab.trace.event import Event, Operator, Setting
from pipelab.trace.metrics import held_activations, idle_gaps

_THREADS = ("compute", "messages", "idle")
_COMPUTE, _MESSAGES, _IDLE = range(3)
_PROFILED = 1000  # the first tid of the first row of operators; of the next, twice as much
_USED_BY = {Kind.SEND_F: (+1, (Kind.F,)), Kind.SEND_B: (-1, (Kind.B, Kind.I))}

Json = dict[str, object]


class _Box(NamedTuple):
    """One X event; times in nanoseconds."""

    rank: int
    thread: int
    start: int
    end: int
    name: str
    event: Event | None = None


def chrome_json(
    events: Sequence[Event],
    setting: Setting,
    source_line: str,
    operators: Sequence[Operator] = (),
) -> str:
    """A trace as the text of a ``.json`` file, with a profiler's ``operators`` below.

    Args:
        events: of the whole step, seconds.
        setting: what the trace was made with.
        source_line: where its numbers come from, see ``Trace.source_line``.
        operators: what PyTorch's profiler saw, on the clock of the events.
    """
    rows = _operator_rows(operators)
    boxes = sorted(
        [
            *(_box(event) for event in events),
            *_idle(events, setting.ranks),
            *(_operator(found, len(_THREADS) + rows.index(found.row)) for found in operators),
        ],
        # at equal starts senders before users, and the longer first: the shorter nests in it
        key=lambda b: (b.start, b.thread != _MESSAGES, -b.end),
    )
    lanes = _lanes(boxes)
    arrows = _arrows(boxes)
    data = {
        "traceEvents": [
            *_names(boxes, lanes, setting.ranks, [*_THREADS, *rows]),
            *(_slice(box, lanes[i], arrows.get(i)) for i, box in enumerate(boxes)),
            *_activations(events, setting.ranks),
        ],
        "displayTimeUnit": "ms",
        "otherData": {"source": source_line, **setting.versions},
    }
    return json.dumps(data, ensure_ascii=False)


def _box(event: Event) -> _Box:
    name = event.kind.value if event.microbatch is None else f"{event.kind} {event.microbatch}"
    where = {Kind.WAIT: _IDLE, **dict.fromkeys(MESSAGES, _MESSAGES)}
    thread = where.get(event.kind, _COMPUTE)
    return _Box(event.rank, thread, _ns(event.start), _ns(event.end), name, event)


def _operator(found: Operator, thread: int) -> _Box:
    return _Box(found.rank, thread, _ns(found.start), _ns(found.end), found.name)


def _operator_rows(operators: Iterable[Operator]) -> list[str]:
    """The names of all rows of operators: threads of the CPU first, GPUs last."""
    rows = {operator.row for operator in operators}
    return sorted(rows, key=lambda row: (row.startswith("GPU"), row.startswith("messages"), row))


def _idle(events: Sequence[Event], num_ranks: int) -> Iterator[_Box]:
    """What is left of each rank's time when it neither computes, nor steps, nor waits."""
    covering = COMPUTE | PER_STAGE | {Kind.WAIT}
    for rank, gaps in enumerate(idle_gaps(events, num_ranks, covering)):
        for start, end in gaps:
            if _ns(start) < _ns(end):
                yield _Box(rank, _IDLE, _ns(start), _ns(end), "idle")


def _lanes(boxes: list[_Box]) -> list[int]:
    """For each box its tid: the first of its thread's on which it overlaps none in part.

    A viewer shows one tid as a stack: two events on it are apart, or one is within the other.
    """
    stacks: dict[tuple[int, int], list[int]] = defaultdict(list)  # (rank, tid): ends, inner last
    lanes = []
    for box in boxes:
        for tid in _tids(box.thread):
            stack = stacks[box.rank, tid]
            while stack and stack[-1] <= box.start:
                stack.pop()
            if not stack or box.end <= stack[-1]:
                stack.append(box.end)
                lanes.append(tid)
                break
    return lanes


def _tids(thread: int) -> Iterator[int]:
    """1, 2 or 3 by thread, and 3 more wherever one is taken; far from those, the operators'."""
    ours = len(_THREADS)
    return count(thread + 1, ours) if thread < ours else count(_PROFILED * (thread - ours + 1))


def _arrows(boxes: list[_Box]) -> dict[int, Json]:
    """For each box at an end of an arrow, its fields: one number for both ends of a message."""
    users: dict[tuple[int | None, int, Kind, int | None], int] = {}
    for i, box in enumerate(boxes):
        if (e := box.event) and e.kind in COMPUTE:
            for rank in (e.rank, None):  # None: for a SEND without a peer, whose stage must do
                users[rank, e.stage, e.kind, e.microbatch] = i
    found: dict[int, Json] = {}
    for i, box in enumerate(boxes):
        if (e := box.event) is None or e.kind not in _USED_BY:
            continue
        step, kinds = _USED_BY[e.kind]
        keys = [(e.peer, e.stage + step, kind, e.microbatch) for kind in kinds]
        user = next((users[key] for key in keys if key in users), None)
        if user is not None and i < user and user not in found:
            found[i] = {"bind_id": hex(i + 1), "flow_out": True}
            found[user] = {"bind_id": hex(i + 1), "flow_in": True}
    return found


def _slice(box: _Box, tid: int, arrow: Json | None) -> Json:
    args: Json = {}
    if e := box.event:
        args = {"stage": e.stage, "microbatch": e.microbatch, "bytes": e.bytes, "peer": e.peer}
    return {
        "ph": "X",
        "cat": _THREADS[box.thread] if box.thread < len(_THREADS) else "operators",
        "name": box.name,
        "pid": box.rank + 1,
        "tid": tid,
        "ts": box.start / 1000,
        "dur": (box.end - box.start) / 1000,
        "args": {key: value for key, value in args.items() if value is not None},
        **(arrow or {}),
    }


def _names(
    boxes: Iterable[_Box], lanes: Iterable[int], num_ranks: int, threads: Sequence[str]
) -> Iterator[Json]:
    """The four kinds of metadata that Perfetto reads: names of processes and threads, and order."""
    for rank in range(num_ranks):
        yield _meta("process_name", rank, 1, "name", f"rank {rank}")
        yield _meta("process_sort_index", rank, 1, "sort_index", rank)
    used = {(box.rank, tid): box.thread for box, tid in zip(boxes, lanes, strict=True)}
    for (rank, tid), thread in sorted(used.items()):
        yield _meta("thread_name", rank, tid, "name", threads[thread])
        yield _meta("thread_sort_index", rank, tid, "sort_index", thread * 1000 + tid)


def _meta(what: str, rank: int, tid: int, key: str, value: str | int) -> Json:
    return {"ph": "M", "name": what, "pid": rank + 1, "tid": tid, "args": {key: value}}


def _activations(events: Sequence[Event], num_ranks: int) -> Iterator[Json]:
    """Bytes that each rank holds: up by its own at the end of F, down again at that of B or W."""
    if not any(e.bytes for e in events if e.kind is Kind.F):
        return  # nothing was measured, as in a prediction
    for e, held in held_activations(events, num_ranks):
        yield {
            "ph": "C",
            "name": "activation bytes",
            "pid": e.rank + 1,
            "tid": 1,
            "ts": _ns(e.end) / 1000,
            "args": {"bytes": held},
        }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)

"""Which part of a profiler's range was computation: the range holds the waiting too.

    host    PP:1F0 │ wait for the message │ forward ...     │    gloo:recv ends with the wait
                   ├──────── WAIT ────────┼─────── F ───────┤
    device  PP:1F0 │ launch launch launch │                      what was launched in the range,
                                  └▶│ kernel kernel kernel │     by its correlation number
                                    ├────────── F ─────────┤

Where the calls of ``forward_one_chunk`` are there, they say it exactly. On a GPU the kernels count
that were launched in the range by any thread (a backward is launched by autograd's own); NCCL's
are messages. kineto's ``gpu_user_annotation`` is not used: it is wrong for backwards (kineto#1022).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipelab.action import COMPUTE, MESSAGES, RECEIVES, Action, Kind
from pipelab.trace.event import Event

_CALLED = {
    "forward_one_chunk": Kind.F,
    "backward_one_chunk": Kind.B,
    "backward_weight_one_chunk": Kind.W,
}


class Call(NamedTuple):
    """A call of a function or an operator; microseconds."""

    start: float
    end: float
    name: str


class Range(NamedTuple):
    """A range of a schedule: what runs in it. ``names_stage``: as the runtime's ranges do."""

    start: float
    end: float
    actions: tuple[Action, ...]
    names_stage: bool


class Device:
    """What a GPU ran and who launched it, in few bytes each: there are millions."""

    def __init__(self) -> None:
        self.launch_times = array("d")
        self.launch_numbers = array("l")
        self.numbers = array("l")
        self.starts = array("d")
        self.ends = array("d")
        self.messages = array("b")
        self._ready = False

    def __bool__(self) -> bool:
        return len(self.numbers) > 0

    def launched(self, correlation: int, time: float) -> None:
        """A launch on the host."""
        self.launch_times.append(time)
        self.launch_numbers.append(correlation)

    def ran(self, correlation: int, start: float, end: float, is_message: bool) -> None:
        """What it launched."""
        self.numbers.append(correlation)
        self.starts.append(start)
        self.ends.append(end)
        self.messages.append(is_message)

    def _sort(self) -> None:
        order = sorted(range(len(self.launch_times)), key=self.launch_times.__getitem__)
        self.launch_times = array("d", (self.launch_times[i] for i in order))
        self.launch_numbers = array("l", (self.launch_numbers[i] for i in order))
        ran = sorted(range(len(self.numbers)), key=self.numbers.__getitem__)
        self.numbers = array("l", (self.numbers[i] for i in ran))
        self.starts = array("d", (self.starts[i] for i in ran))
        self.ends = array("d", (self.ends[i] for i in ran))
        self.messages = array("b", (self.messages[i] for i in ran))
        self._ready = True

    def span(self, start: float, end: float, messages: bool) -> tuple[float, float] | None:
        """When ran what was launched between ``start`` and ``end``: messages, or all else."""
        if not self._ready:
            self._sort()
        first, last = bisect_left(self.launch_times, start), bisect_right(self.launch_times, end)
        ran = [
            i
            for launch in self.launch_numbers[first:last]
            for i in range(bisect_left(self.numbers, launch), bisect_right(self.numbers, launch))
            if bool(self.messages[i]) == messages  # a launch of a graph runs many kernels
        ]
        if not ran:
            return None
        return min(self.starts[i] for i in ran), max(self.ends[i] for i in ran)


def events_of(
    ranges: Sequence[Range],
    calls: Sequence[Call],
    receives: Sequence[Call],
    sends: Sequence[Call],
    device: Device,
) -> tuple[list[Event], set[str]]:
    """One rank's events, in microseconds of its file's clock, and what is to be said of them.

    Their rank is 0 and their peer unknown: placement.py knows the other files.
    """
    notes: set[str] = set()
    if ranges:
        rows = [*_of_ranges(ranges, _Within(calls), _Within(receives), _Within(sends), notes)]
        if not any(r.names_stage for r in ranges):
            rows += _sent(rows, sends)
    else:
        rows = _numbered(calls)
        rows += _sent(rows, sends) + _waited(rows, receives)
    if device:
        rows = _on_device(rows, device, notes)
    return rows, notes


class _Within:
    """Calls, to be asked for those that end within a range."""

    def __init__(self, calls: Iterable[Call]):
        self.calls = sorted(calls, key=lambda call: call.end)
        self.ends = [call.end for call in self.calls]

    def ending(self, start: float, end: float) -> list[Call]:
        return self.calls[bisect_left(self.ends, start) : bisect_right(self.ends, end)]


def _of_ranges(
    ranges: Iterable[Range], calls: _Within, receives: _Within, sends: _Within, notes: set[str]
) -> Iterable[Event]:
    for r in ranges:
        computing = [action for action in r.actions if action.kind in COMPUTE]
        if not computing:
            yield from (_event(action, r.start, r.end) for action in r.actions)
            continue
        start, end = r.start, r.end
        waited = receives.ending(start, end)
        if waited:
            start = max(call.end for call in waited)
        inside = [call for call in calls.ending(r.start, r.end) if call.name in _CALLED]
        if inside:
            start = max(start, min(call.start for call in inside))
        if not r.names_stage:  # GPipe's ranges hold the sends too
            end = min((s.start for s in sends.calls if start < s.start < end), default=end)
        if waited:
            yield _event(computing[0]._replace(kind=Kind.WAIT), r.start, max(r.start, start))
        if len(computing) == 1:
            yield _event(computing[0], start, max(start, end))
        else:
            yield from _overlapping(computing, start, end, inside, notes)


def _overlapping(
    actions: Sequence[Action], start: float, end: float, inside: Sequence[Call], notes: set[str]
) -> Iterable[Event]:
    """F and B in one range: apart where their calls are there."""
    by_kind = {(_CALLED[call.name] is Kind.F): call for call in inside}
    if len(by_kind) == len(actions):
        for action in actions:
            call = by_kind[action.kind is Kind.F]
            yield _event(action, call.start, call.end)
        return
    notes.add("F and B of OVERLAP_F_B share one range: both are given all of it")
    for action in actions:
        yield _event(action, start, end)


def _event(action: Action, start: float, end: float) -> Event:
    return Event(0, action.kind, action.stage, action.microbatch, start, end)


def _numbered(calls: Sequence[Call]) -> list[Event]:
    """Calls alone, numbered by order. The loss belongs to the forward just before it."""
    rows: list[Event] = []
    count: dict[Kind, int] = defaultdict(int)
    for call in sorted(calls, key=lambda call: call.start):
        if kind := _CALLED.get(call.name):
            rows.append(Event(0, kind, 0, count[kind], call.start, call.end))
            count[kind] += 1
        elif rows and rows[-1].kind is Kind.F and call.start >= rows[-1].end:
            rows[-1] = rows[-1]._replace(end=call.end)
    return rows


def _sent(rows: Sequence[Event], sends: Sequence[Call]) -> list[Event]:
    """A send carries the result of the last computation before it."""
    done = sorted((e for e in rows if e.kind in COMPUTE), key=lambda e: e.start)
    starts = [e.start for e in done]
    found: dict[tuple[int, Kind], Event] = {}
    for send in sorted(sends):
        at = bisect_right(starts, send.start) - 1
        if at >= 0:
            e = done[at]
            kind = Kind.SEND_F if e.kind is Kind.F else Kind.SEND_B
            found.setdefault((at, kind), e._replace(kind=kind, start=send.start, end=send.end))
    return [*found.values()]


def _waited(rows: Sequence[Event], receives: Sequence[Call]) -> list[Event]:
    """A receive that is waited for at once is the wait of the computation after it."""
    computing = sorted((e for e in rows if e.kind in COMPUTE), key=lambda e: e.start)
    starts = [e.start for e in computing]
    found = {}
    for call in sorted(receives, key=lambda call: call.end):
        at = bisect_left(starts, call.end)
        if at < len(computing):
            free = computing[at - 1].end if at else call.start
            start = max(call.start, free)
            if start <= call.end:
                e = computing[at]
                found[at] = e._replace(kind=Kind.WAIT, start=start, end=call.end)
    return [*found.values()]


def _on_device(rows: Iterable[Event], device: Device, notes: set[str]) -> list[Event]:
    """The same on the GPU's time; the host's waits are not the GPU's."""
    found = []
    for e in rows:
        if e.kind not in COMPUTE | MESSAGES:
            continue
        span = device.span(e.start, e.end, messages=e.kind in MESSAGES)
        if span is not None:
            found.append(e._replace(start=span[0], end=span[1]))
        elif e.kind in COMPUTE:
            notes.add("some actions launched no kernel: they have the host's time")
            found.append(e)
        elif e.kind not in RECEIVES:
            notes.add("some messages launched no kernel of NCCL's: left out")
    return found

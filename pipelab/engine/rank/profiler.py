"""PyTorch's profiler around one step of a rank, with its times on the clock of our events.

The profiler counts from another zero. A mark that it records shows how far apart the clocks are:
we read ours just before, within and just after.

    ours          a ──── b ──────── c         the mark starts between a and b, ends between b and c:
    profiler's       start ──── end           a - start <= offset <= b - start, and so on

All marks together leave a narrow gap for the offset; half of that gap is the error.
"""

import os
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function, supported_activities

from pipelab.engine.protocol.commands import Seen
from pipelab.engine.protocol.device import DeviceClock

_MARK = "pipelab: clock"
_MARKS = 8  # at either end: the first are slow


class _Read(NamedTuple):
    """Our clock before a mark, within it and after it, in seconds."""

    before: float
    within: float
    after: float


@dataclass(eq=False)
class StepProfiler:
    """Profiles what runs within ``with``, if it ``is_on``.

    Attributes:
        path: where the profiler's own file goes; empty for nowhere.
        found: every operator that ran, and every kernel, on our clock.
        clock_error: by how many seconds these times may be wrong, all by the same.
    """

    is_on: bool = True
    clock: DeviceClock = field(default_factory=DeviceClock)
    path: str = ""
    found: list[Seen] = field(default_factory=list)
    clock_error: float = 0.0
    marks: list[_Read] = field(default_factory=list)

    def __enter__(self) -> None:
        if self.is_on:
            # it would print that it has started, at a level above that of errors
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
            self.profiler = profile(activities=supported_activities())  # type: ignore[no-untyped-call]
            self.profiler.__enter__()  # type: ignore[no-untyped-call]
            self._mark()

    def __exit__(self, *error: object) -> None:
        if not self.is_on:
            return
        if error[0] is None:
            self.clock.finish()  # what a GPU still does belongs to the step
            self._mark()
        self.profiler.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if error[0] is None:
            self._take([*self.profiler.events()])  # type: ignore[no-untyped-call]
            if self.path:
                self.profiler.export_chrome_trace(self.path)

    def _mark(self) -> None:
        for _ in range(_MARKS):
            before = time.monotonic()
            with record_function(_MARK):
                within = time.monotonic()
            self.marks.append(_Read(before, within, time.monotonic()))

    def _take(self, events: list[FunctionEvent]) -> None:
        marks = [event for event in events if event.name == _MARK]
        offset, self.clock_error = _offset(self.marks, [_times(event) for event in marks])
        for event in events:
            if event.name == _MARK:
                continue
            start, end = _times(event)
            device = event.device_type.name.lower()
            thread = event.thread if device == "cpu" else event.device_resource_id
            if event.is_async:  # begun in one thread, ended in another: a message of gloo's
                device = "under way"
            self.found.append((event.name, device, thread, start + offset, end + offset))


def _times(event: FunctionEvent) -> tuple[float, float]:
    """Start and end in seconds from the profiler's zero; it has microseconds."""
    return event.time_range.start / 1e6, event.time_range.end / 1e6


def _offset(ours: list[_Read], theirs: list[tuple[float, float]]) -> tuple[float, float]:
    """What to add to the profiler's times, and the error of that; seconds.

    >>> _offset([_Read(10.0, 11.0, 12.0)], [(0.5, 1.5)])
    (10.0, 0.5)
    """
    pairs = [*zip(ours, theirs, strict=True)]
    lows = [max(r.before - start, r.within - end) for r, (start, end) in pairs]
    highs = [min(r.within - start, r.after - end) for r, (start, end) in pairs]
    low, high = max(lows), min(highs)
    return (low + high) / 2, abs(high - low) / 2

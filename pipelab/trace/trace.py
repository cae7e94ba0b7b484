"""A trace says WHEN: events with start and end, predicted or recorded, one type for both."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelab.action import COMPUTE, PER_STAGE, Kind, Slice, numbered_on
from pipelab.errors import TraceError
from pipelab.files import beginning, check_format, check_plain, replace_packed, replace_text
from pipelab.story import STORIES, reworded
from pipelab.trace import metrics
from pipelab.trace.chrome import chrome_json
from pipelab.trace.disturbance import Disturbance
from pipelab.trace.event import LARGEST, Event, Memory, Setting
from pipelab.words import number

if TYPE_CHECKING:
    from pipelab.trace.readers.stream import Place

VERSION = 1
MAX_BYTES = 1 << 29  # a million events take about a tenth of that
_FEW = 0.05  # of a run's actions: if more are late, the run is no measure, however short the delays
_MATTERS = 0.01  # of a bubble fraction: delays that move it by less are no reason to run again


@dataclass(frozen=True)
class Trace:
    """All events of one step, or of several, in order of rank and start.

    Attributes:
        events: what happened, or would.
        source: ``"recorded"`` (real ranks did it) or ``"predicted"`` (it ran nowhere).
        setting: what it was made with.
        memory: one entry per rank; empty where nothing was measured.
        began: the moment of its time 0, in seconds on the clock that its ranks share.
    """

    events: tuple[Event, ...]
    source: Literal["predicted", "recorded"]
    setting: Setting = Setting()
    memory: tuple[Memory, ...] = ()
    began: float = 0.0

    @classmethod
    def joined(cls, traces: Iterable["Trace"]) -> "Trace":
        """Steps that followed each other, on one axis of time.

        Microbatch ``i`` of step ``s`` has the number ``s * m + i``. Steps may overlap, as those of
        ``Pipeline.train(..., in_flight=k)`` do.

        Raises:
            TraceError: none, or traces of different schedules, sizes or sources.
        """
        steps = sorted(traces, key=lambda trace: trace.began)
        if not steps or any(not _are_alike(steps[0], step) for step in steps):
            raise TraceError(
                "join the traces of steps of one pipeline: one or more, with the same schedule, "
                "sizes and pace"
            )
        setting, number_of_steps, events = steps[0].setting, 0, list[Event]()
        for step in steps:
            first = number_of_steps * setting.pieces
            events += _later(step.events, step.began - steps[0].began, first)
            number_of_steps += step.setting.steps
        setting = replace(setting, steps=number_of_steps, **_delays(steps))
        memory, began = steps[-1].memory, steps[0].began
        return cls(_sorted(events), steps[0].source, setting, memory, began)

    def step(self, number: int) -> "Trace":
        """One of the steps of a trace of several; its first computation begins at 0.

        What ranks waited for it before is left out.

        Raises:
            TraceError: it has no such step.
        """
        steps = self.setting.steps
        if not 0 <= number < steps:
            raise TraceError(f"there is no step {number}: the trace has steps 0 to {steps - 1}")
        m = self.setting.pieces
        pairs = zip(self.events, self._steps_of_events, strict=True)
        found = [event for event, step in pairs if step == number]
        zero = min((e.start for e in found if e.kind in COMPUTE), default=0.0)
        found = [e._replace(start=max(e.start, zero)) for e in found if e.end >= zero]
        setting = replace(self.setting, steps=1)
        events = _sorted(_later(found, -zero, -number * m))
        return Trace(events, self.source, setting, self.memory, self.began + zero)

    @cached_property
    def _steps_of_events(self) -> list[int]:
        """The step of each event; REDUCE_GRAD, STEP and the WAIT before it follow the others."""
        m = self.setting.pieces
        now = [0] * self.num_ranks
        found = []
        for e in self.events:
            if e.microbatch is not None and e.kind in COMPUTE:
                now[e.rank] = max(now[e.rank], e.microbatch // m)
            found.append(now[e.rank] if e.microbatch is None else e.microbatch // m)
        return found

    def bubble_of_steps(self, first: int, last: int | None = None) -> float:
        """The bubble fraction of steps ``first`` to ``last``, both included (None: that one alone).

        Each rank has its own window: from its first computation in the first of these steps to its
        first computation after them, or to its own last one where the trace ends there. So time in
        which a rank is ahead of another is idle only if the rank does nothing in it: this is what
        papers on zero bubble mean (Qi et al. 2023, arXiv 2401.10241, section 2).

        Raises:
            TraceError: it has no such steps.
        """
        last = first if last is None else last
        steps, m = self.setting.steps, self.setting.microbatches
        if not 0 <= first <= last < steps:
            raise TraceError(
                f"there are no steps {first} to {last}: the trace has steps 0 to {steps - 1}"
            )
        windows = metrics.step_windows(self.events, self.num_ranks, first * m, (last + 1) * m)
        return metrics.bubble_within(self.events, windows)

    @property
    def num_ranks(self) -> int:
        """How many ranks took part."""
        return self.setting.ranks

    @cached_property
    def duration(self) -> float:
        """Seconds from the first start to the last end of a computation (F, B, I, W)."""
        first, last = metrics.step_span(self.events) or (0.0, 0.0)
        return last - first

    @cached_property
    def bubble_fraction(self) -> float:
        """Idle rank-time over ranks x duration: 1 - mean utilisation.

        (p-1)/(m+p-1) for GPipe and 1F1B.
        """
        return 1.0 - sum(self.utilisation) / self.num_ranks if self.duration else 0.0

    @cached_property
    def bubble_overhead(self) -> float:
        """Idle rank-time over computing rank-time: (p-1)/m for GPipe and 1F1B.

        Papers also call this the bubble fraction.
        """
        fraction = self.bubble_fraction
        return fraction / (1.0 - fraction) if fraction < 1.0 else 0.0

    @cached_property
    def utilisation(self) -> tuple[float, ...]:
        """For each rank, the share of the duration in which it computed."""
        computed = metrics.busy(self.events, self.num_ranks)
        return tuple(seconds / self.duration if self.duration else 0.0 for seconds in computed)

    @cached_property
    def peak_activation_bytes(self) -> tuple[int, ...]:
        """For each rank, the most bytes of activations that it held at once."""
        peak = [0] * self.num_ranks
        if not any(event.bytes for event in self.events):
            return tuple(peak)  # as in most predictions
        for event, held in metrics.held_activations(self.events, self.num_ranks):
            peak[event.rank] = max(peak[event.rank], held)
        return tuple(peak)

    @property
    def disturbance(self) -> Disturbance:
        """How much the machine's other work disturbed a paced run; false where it did not."""
        return Disturbance(self.setting.late, self.setting.timed, self.setting.lost)

    @property
    def warning(self) -> str:
        """What to say first of all about a disturbed run; empty if it lost too little to matter.

        That is, if few of its actions were late, and its delays, each of them in the way of all
        ranks, would add less than a point to its bubble fraction: 1 - busy/T with T longer by
        ``lost`` is larger by busy/T x lost/T. What such a run lost stands in ``source_line``.
        """
        late, timed, lost = self.disturbance
        if late <= _FEW * timed and self.duration:
            moved = (1.0 - self.bubble_fraction) * lost / self.duration
            if moved < _MATTERS:
                return ""
        return self.disturbance.sentence

    @property
    def source_line(self) -> str:
        """The line under every picture: where its numbers come from."""
        s = self.setting
        if s.story:
            parts = [self.source, number(s.ranks, "rank"), number(s.microbatches, "microbatch")]
            parts += ["real processes, paced"] if s.paced and self.source == "recorded" else []
            parts += [self.disturbance.fact] if self.disturbance else []
            return reworded(" · ".join(parts), s.story)
        parts = [
            self.source,
            s.schedule,
            number(s.ranks, "rank"),
            number(s.microbatches, "microbatch") + (f" of {s.slices} slices" * (s.slices > 1)),
        ]
        parts += [number(s.steps, "step")] if s.steps > 1 else []
        parts += [number(s.replicas, "replica")] if s.replicas > 1 else []
        if s.origin:
            parts += [f"step {s.step}", f"replica {s.replica}", s.origin]
        elif self.source == "recorded":
            parts += [f"{s.backend}/{s.device}", f"paced {s.paced}" if s.paced else "unpaced"]
            parts += [self.disturbance.fact] if self.disturbance else []
        else:  # it ran nowhere, so nothing was paced either
            parts += ["simulator", s.paced]
        parts += [number(s.cpus, "core")] if s.cpus else []
        parts += [f"clocks ± {s.clock_error * 1e3:.2g} ms"] if s.clock_error > 0 else []
        return " · ".join(part for part in parts if part)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON, packed if the name ends in ``.gz``.

        An existing file is replaced only when the new one is complete.
        """
        data = {
            "format": "pipelab-trace",
            "version": VERSION,
            "source": self.source,
            "setting": asdict(self.setting),
            "memory": [list(m) for m in self.memory],
            "began": self.began,
            "fields": list(Event._fields),
            "events": [list(e) for e in self.events],
        }
        write = replace_packed if Path(path).suffix == ".gz" else replace_text
        return write(Path(path), json.dumps(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trace":
        """Read what ``save`` wrote, plain or gzip: data, never code.

        Raises:
            TraceError: it is anything else.
        """
        try:
            check_plain(Path(path), MAX_BYTES)
            text = beginning(Path(path), MAX_BYTES + 1)
            if len(text) > MAX_BYTES:  # unpacked
                raise ValueError(f"it holds more than {MAX_BYTES:,} bytes")
            data = json.loads(text.decode("utf-8-sig"))  # an editor may put a mark in front
            check_format(data, "trace", [VERSION])
        except (OSError, ValueError, RecursionError) as error:
            raise TraceError(f"{path}: cannot be read as a trace ({error})") from None
        try:
            setting = _setting(data["setting"])
            return cls(
                tuple(_event(row, setting) for row in data["events"]),
                {"predicted": "predicted", "recorded": "recorded"}[data["source"]],  # type: ignore[arg-type]
                setting,
                tuple(_memory(row) for row in data["memory"]),
                _seconds(data.get("began", 0.0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TraceError(f"{path}: the trace is damaged ({error!r})") from None

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        progress: Callable[["Place"], None] | None = None,
    ) -> "tuple[Trace, ...]":
        """Somebody's recording of a pipeline, one trace for each step and replica.

        Reads ndtimeline's files (veScale, StragglerAnalysis), torch.profiler's of
        torch.distributed.pipelining, Megatron's OpenTelemetry spans, and pipelab's own; plain or
        gzip, whatever their names are. Clocks of several hosts are aligned by the messages
        themselves. ``setting.notes`` says what the files do not hold.

        Args:
            paths: files, or folders of them: one file a rank, or one for all.
            progress: called now and then while large files are read.

        Raises:
            TraceError: a file is damaged, of another form, or not of the same form as the others.
        """
        from pipelab.trace.readers.reading import read_files  # its parser is no part of Python

        steps, own = read_files(paths, progress)
        found = [cls.load(path) for path in own]
        found += [cls(step.events, step.source, step.setting) for step in steps]
        return tuple(found)

    def to_chrome(self, path: str | os.PathLike[str]) -> Path:
        """Write as Chrome trace JSON, which opens in Perfetto."""
        text = chrome_json(self.events, self.setting, self.source_line)
        return replace_text(Path(path), text)


def _setting(row: dict[str, object]) -> Setting:
    """The setting from JSON; raises TypeError or ValueError on a wrong value."""
    setting = Setting(**row)  # type: ignore[arg-type]
    for name, default in asdict(Setting()).items():
        if type(getattr(setting, name)) is not type(default):
            raise ValueError(f"setting {name} is {getattr(setting, name)!r}")
    counts = setting.ranks, setting.microbatches, setting.replicas, setting.steps, setting.slices
    least = min(counts)
    if least < 1 or setting.ranks > LARGEST or setting.cpus < 0:
        raise ValueError(f"{setting}: at least 1 of each, at most {LARGEST} ranks")
    if setting.step < 0 or setting.replica < 0 or not all(type(n) is str for n in setting.notes):
        raise ValueError(f"{setting}: step and replica are whole numbers, notes are texts")
    for name, seconds in (("clock_error", setting.clock_error), ("lost", setting.lost)):
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"{name} is {seconds}: seconds, at least 0")
    if setting.story and setting.story not in STORIES:
        raise ValueError(f"story {setting.story!r} is not known: choose {', '.join(STORIES)}")
    if not 0 <= setting.late <= setting.timed:
        raise ValueError(f"{setting.late} actions of {setting.timed} were late")
    return setting


def _seconds(value: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"began is {value!r}: seconds")
    return float(value)


def _memory(row: list[int]) -> Memory:
    memory = Memory(*row)
    if not all(type(n) is int and n >= 0 for n in memory):
        raise ValueError(f"memory {row}: bytes are whole numbers")
    return memory


def _event(row: list[object], setting: Setting) -> Event:
    """One event from a JSON row; raises TypeError or ValueError on a wrong value."""
    rank, kind, stage, microbatch, start, end, size, peer = row
    numbers = (rank, stage, size, *(n for n in (microbatch, peer) if n is not None))
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"event {row}: ranks, stages, microbatches and bytes are whole numbers")
    if stage > LARGEST or (microbatch is not None and microbatch > LARGEST):  # type: ignore[operator]
        raise ValueError(f"event {row}: at most {LARGEST} stages and microbatches")
    if not all(type(t) in (int, float) and math.isfinite(t) for t in (start, end)) or start > end:  # type: ignore[arg-type, operator]
        raise ValueError(f"event {row}: start and end are seconds, in this order")
    if rank >= setting.ranks:  # type: ignore[operator]
        raise ValueError(f"event {row}: the trace has {setting.ranks} ranks")
    whole = Kind(str(kind)) in PER_STAGE
    if whole != (microbatch is None) and kind != Kind.WAIT:
        raise ValueError(f"event {row}: all but REDUCE_GRAD, STEP and WAIT have a microbatch")
    if setting.slices > 1 and isinstance(microbatch, int):
        microbatch = Slice(*divmod(microbatch, setting.slices), setting.slices)
    return Event(rank, Kind(str(kind)), stage, microbatch, start, end, size, peer)  # type: ignore[arg-type]


def _delays(steps: Iterable[Trace]) -> dict[str, Any]:
    """How many actions of all these steps had a set time and were late, and what they lost."""
    settings = [step.setting for step in steps]
    return {name: sum(getattr(s, name) for s in settings) for name in ("timed", "late", "lost")}


def _are_alike(one: Trace, other: Trace) -> bool:
    """Whether both can be steps of one training; what was late in one step may differ."""
    settings = [
        replace(
            trace.setting, clock_error=0.0, steps=1, step=0, notes=[], timed=0, late=0, lost=0.0
        )
        for trace in (one, other)
    ]
    return one.source == other.source and settings[0] == settings[1]


def _later(events: Iterable[Event], seconds: float, pieces: int) -> Iterator[Event]:
    """Events so many seconds, and microbatches or slices, later."""
    for e in events:
        number = None if e.microbatch is None else numbered_on(e.microbatch, pieces)
        yield e._replace(start=e.start + seconds, end=e.end + seconds, microbatch=number)


def _sorted(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(sorted(events, key=lambda e: (e.rank, e.start, e.end)))


def least_disturbed(traces: Iterable[Trace]) -> Trace:
    """The one whose actions lost the fewest seconds to delays; of equal ones, the shortest.

    All are of the same schedule and pace. Raises ValueError if there is none.
    """
    return min(traces, key=lambda trace: (trace.setting.lost, trace.duration))


def in_order(rows: Iterable[Event]) -> tuple[Event, ...]:
    """Events in order of rank and start, shifted so that the first one starts at 0."""
    events = _sorted(rows)
    zero = min((e.start for e in events), default=0.0)
    return tuple(_later(events, -zero, 0))

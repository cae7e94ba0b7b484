"""A trace says WHEN: events with start and end, predicted or recorded, one type for both."""

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipelab.action import PER_STAGE, Kind
from pipelab.errors import TraceError
from pipelab.files import check_format, check_plain, replace_text
from pipelab.trace import metrics
from pipelab.trace.chrome import chrome_json
from pipelab.trace.event import Event, Memory, Setting
from pipelab.trace.readers.reading import read_files
from pipelab.trace.readers.stream import Place
from pipelab.words import number

VERSION = 1
MAX_BYTES = 1 << 29  # a million events take about a tenth of that
MAX_RANKS = 100_000  # a damaged file that names more must not eat the memory


@dataclass(frozen=True)
class Trace:
    """All events of one step, in order of rank and start.

    Attributes:
        events: what happened, or would.
        source: ``"recorded"`` (real ranks did it) or ``"predicted"`` (it ran nowhere).
        setting: what it was made with.
        memory: one entry per rank; empty where nothing was measured.
    """

    events: tuple[Event, ...]
    source: Literal["predicted", "recorded"]
    setting: Setting = Setting()
    memory: tuple[Memory, ...] = ()

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
        for event, held in metrics.held_activations(self.events, self.num_ranks):
            peak[event.rank] = max(peak[event.rank], held)
        return tuple(peak)

    @property
    def source_line(self) -> str:
        """The line under every picture: where its numbers come from."""
        s = self.setting
        parts = [
            self.source,
            s.schedule,
            number(s.ranks, "rank"),
            number(s.microbatches, "microbatch"),
        ]
        parts += [number(s.replicas, "replica")] if s.replicas > 1 else []
        if s.origin:
            parts += [f"step {s.step}", f"replica {s.replica}", s.origin]
        elif self.source == "recorded":
            parts += [f"{s.backend}/{s.device}", f"paced {s.paced}" if s.paced else "unpaced"]
        else:  # it ran nowhere, so nothing was paced either
            parts += ["simulator", s.paced]
        parts += [number(s.cpus, "cpu")] if s.cpus else []
        parts += [f"clocks ± {s.clock_error * 1e3:.2g} ms"] if s.clock_error > 0 else []
        return " · ".join(part for part in parts if part)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON. An existing file is replaced only when the new one is complete."""
        data = {
            "format": "pipelab-trace",
            "version": VERSION,
            "source": self.source,
            "setting": asdict(self.setting),
            "memory": [list(m) for m in self.memory],
            "fields": list(Event._fields),
            "events": [list(e) for e in self.events],
        }
        return replace_text(Path(path), json.dumps(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trace":
        """Read what ``save`` wrote: data, never code. Raises TraceError on anything else."""
        try:
            check_plain(Path(path), MAX_BYTES)
            text = Path(path).read_text("utf-8-sig")  # an editor may put a mark in front
            data = json.loads(text)
            check_format(data, "trace", [VERSION])
        except (OSError, ValueError, RecursionError) as error:
            raise TraceError(f"{path}: cannot be read as a trace ({error})") from None
        try:
            setting = _setting(data["setting"])
            return cls(
                tuple(_event(row, setting.ranks) for row in data["events"]),
                {"predicted": "predicted", "recorded": "recorded"}[data["source"]],  # type: ignore[arg-type]
                setting,
                tuple(_memory(row) for row in data["memory"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TraceError(f"{path}: the trace is damaged ({error!r})") from None

    @classmethod
    def read(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        progress: Callable[[Place], None] | None = None,
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
    least = min(setting.ranks, setting.microbatches, setting.replicas)
    if least < 1 or setting.ranks > MAX_RANKS or setting.cpus < 0:
        raise ValueError(f"{setting}: at least 1 of each, at most {MAX_RANKS} ranks")
    if setting.step < 0 or setting.replica < 0 or not all(type(n) is str for n in setting.notes):
        raise ValueError(f"{setting}: step and replica are whole numbers, notes are texts")
    if not 0.0 <= setting.clock_error < math.inf:
        raise ValueError(f"clock_error is {setting.clock_error}: seconds, at least 0")
    return setting


def _memory(row: list[int]) -> Memory:
    memory = Memory(*row)
    if not all(type(n) is int and n >= 0 for n in memory):
        raise ValueError(f"memory {row}: bytes are whole numbers")
    return memory


def _event(row: list[object], num_ranks: int) -> Event:
    """One event from a JSON row; raises TypeError or ValueError on a wrong value."""
    rank, kind, stage, microbatch, start, end, size, peer = row
    numbers = (rank, stage, size, *(n for n in (microbatch, peer) if n is not None))
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"event {row}: ranks, stages, microbatches and bytes are whole numbers")
    if not all(type(t) in (int, float) and math.isfinite(t) for t in (start, end)) or start > end:  # type: ignore[arg-type, operator]
        raise ValueError(f"event {row}: start and end are seconds, in this order")
    if rank >= num_ranks:  # type: ignore[operator]
        raise ValueError(f"event {row}: the trace has {num_ranks} ranks")
    whole = Kind(str(kind)) in PER_STAGE
    if whole != (microbatch is None) and kind != Kind.WAIT:
        raise ValueError(f"event {row}: all but REDUCE_GRAD, STEP and WAIT have a microbatch")
    return Event(rank, Kind(str(kind)), stage, microbatch, start, end, size, peer)  # type: ignore[arg-type]


def in_order(rows: Iterable[Event]) -> tuple[Event, ...]:
    """Events in order of rank and start, shifted so that the first one starts at 0."""
    events = sorted(rows, key=lambda e: (e.rank, e.start, e.end))
    zero = min((e.start for e in events), default=0.0)
    return tuple(e._replace(start=e.start - zero, end=e.end - zero) for e in events)

"""Megatron's OpenTelemetry spans (2026, by NeMo Lens): host time, a span for each microbatch.

    first form                         core 0.20                      what it says
    megatron.microbatch.forward        nv.mcore.microbatch.forward    first form: its microbatch_id
    megatron.microbatch.backward       nv.mcore.microbatch.backward   no number: by order
    megatron.train_step                nv.dl.training.iteration       the step around them
    megatron.evaluate                  nv.dl.training.evaluate        what is within is no training
    megatron.grad_sync.finish          nv.mcore.grad_sync.finish      a step ends, if none is around
    megatron.pp.recv_forward.linked    -                              dl.pipeline_parallel.rank

A file is OTLP's JSON, whole or one text a line (as the OpenTelemetry Collector writes files), or
one span a line (the SDK's console exporter). A span's resource says which process it is of,
``dl.rank``, later ``nv.dl.rank``, and may say the sizes of the job: Megatron counts its ranks
tensor-parallel ones first, then context-parallel, data-parallel, and the pipeline's.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.trace.readers.gathered import HOST_TIME, Gathered, StepKey
from pipelab.trace.readers.stream import EventFile, Json, brief, first_whole

_PREFIXES = ("megatron.", "nv.mcore.", "nv.dl.training.", "nv.mlm.")
_COMPUTED = {
    "megatron.microbatch.forward": Kind.F,
    "nv.mcore.microbatch.forward": Kind.F,
    "megatron.microbatch.backward": Kind.B,
    "nv.mcore.microbatch.backward": Kind.B,
}
_STEP_SPANS = ("megatron.train_step", "nv.dl.training.iteration")
_EVALUATIONS = ("megatron.evaluate", "nv.dl.training.evaluate")
_FINISHES = ("megatron.grad_sync.finish", "nv.mcore.grad_sync.finish")
_LINKED = "megatron.pp.recv_forward.linked"
_READ = frozenset({*_COMPUTED, *_STEP_SPANS, *_EVALUATIONS, *_FINISHES, _LINKED})
_RANKS = ("megatron.pipeline_rank", "megatron.pp_rank", "pipeline_parallel_rank",
          "dl.pipeline_parallel.rank")  # fmt: skip
_REPLICAS = ("megatron.data_parallel_rank", "megatron.dp_rank", "data_parallel_rank",
             "dl.data_parallel.rank")  # fmt: skip
_JOB_RANKS = ("dl.rank", "nv.dl.rank", "megatron.rank", "rank", "process.rank")
_INSTANCE = re.compile(r".*-rank(\d{1,6})")  # service.instance.id
_STEPS = ("megatron.iteration", "nv.dl.training.step", "dl.iteration", "iteration",
          "megatron.step")  # fmt: skip
_WORLDS = ("dl.world_size", "nv.dl.world_size")
_SIZES = {  # of the job's dimensions
    "pipeline": ("dl.pipeline_parallel.size", "nv.dl.topology.size.pp"),
    "data": ("dl.data_parallel.size", "nv.dl.topology.size.dp"),
    "tensor": ("dl.tensor_parallel.size", "nv.dl.topology.size.tp"),
}
_MICROBATCHES = ("megatron.microbatch_id", "dl.microbatch_id")


class _Place(NamedTuple):
    replica: int
    rank: int
    tensor: int = 0


@dataclass
class _Process:
    """What is kept of one process; seconds since the first span."""

    about: Json
    rows: list[tuple[int, Event]] = field(default_factory=list)  # with the iteration, or -1
    steps: list[tuple[float, float, int]] = field(default_factory=list)
    evaluations: list[tuple[float, float]] = field(default_factory=list)
    finishes: list[float] = field(default_factory=list)
    linked: int = 0  # its rank in the pipeline, by what it received


class Megatron:
    """Collects what the files of this form hold."""

    form = "Megatron's OpenTelemetry"
    expected = (
        "Megatron's spans (megatron.microbatch.forward or nv.mcore.microbatch.forward) in OTLP's "
        "JSON, or one a line"
    )

    def __init__(self) -> None:
        self.processes: dict[tuple[int, int, int], _Process] = {}
        self.others: Counter[str] = Counter()
        self.found = 0
        self.zero: int | None = None

    def __len__(self) -> int:
        return self.found

    def take(self, name: str, event: Json) -> None:
        """One resource with its spans, as OTLP has them, or one span alone."""
        resource = event.get("resource")
        about = _attributes(resource) if isinstance(resource, dict) else {}
        if name.startswith(_PREFIXES):
            self._take_span(event, about)
        for span in _spans(event):
            self._take_span(span, about)

    def _take_span(self, span: Json, resource: Json) -> None:
        name = str(span.get("name"))
        if not name.startswith(_PREFIXES):
            return
        if name not in _READ:
            self.others[name] += 1
            return
        own = {**resource, **_attributes(span)}
        start, end = self._times(span)
        process = self._process(own if name != _LINKED else resource)
        if name in _STEP_SPANS:
            process.steps.append((start, end, first_whole(own, _STEPS)))
        elif name in _EVALUATIONS:
            process.evaluations.append((start, end))
        elif name in _FINISHES:
            process.finishes.append(end)
        elif name == _LINKED:
            process.linked = first_whole(own, _RANKS, 0)
        else:
            number = first_whole(own, _MICROBATCHES)
            kind = _COMPUTED[name]
            event = Event(0, kind, 0, number if number >= 0 else None, start, end)
            process.rows.append((first_whole(own, _STEPS), event))
            self.found += 1

    def _times(self, span: Json) -> tuple[float, float]:
        begun, ended = (_nanoseconds(span, edge) for edge in ("start", "end"))
        if self.zero is None:
            self.zero = begun  # nanoseconds since 1970 fill a float
        return (begun - self.zero) / 1e9, (max(begun, ended) - self.zero) / 1e9

    def _process(self, own: Json) -> _Process:
        instance = _INSTANCE.fullmatch(str(own.get("service.instance.id")))
        job = first_whole(own, _JOB_RANKS, int(instance[1]) if instance else -1)
        key = job, first_whole(own, _REPLICAS), first_whole(own, _RANKS)
        return self.processes.setdefault(key, _Process(own))

    def end_file(self, file: EventFile) -> None:
        """Spans name their process themselves."""

    def gathered(self) -> Gathered:
        """All steps of all replicas."""
        steps: dict[StepKey, list[Event]] = defaultdict(list)
        hosts: dict[tuple[int, int], str] = {}
        others = 0
        places = [*self._placed()]
        ranks = 1 + max((place.rank for _, place in places), default=0)
        for process, place in places:
            if place.tensor:
                others += 1
                continue
            if isinstance(host := process.about.get("host.name"), str):
                hosts[place.replica, place.rank] = host
            rows = _numbered(_in_steps(process), process.finishes)
            for step, event in _with_stages(rows, place.rank, ranks):
                steps[StepKey(step, place.replica)].append(event._replace(rank=place.rank))
        notes = [f"not read: {count} {name}" for name, count in sorted(self.others.items())]
        if others:
            notes.append(
                f"{others} further tensor- or context-parallel ranks are there: one of each is read"
            )
        notes.append("the spans hold no memory and no waits; backwards are numbered by order")
        replicas = len({key.replica for key in steps})
        return Gathered(self.form, HOST_TIME, dict(steps), notes, hosts, replicas)

    def _placed(self) -> Iterator[tuple[_Process, _Place]]:
        """Each process that computed, and what it is: said, by the job's sizes, or by messages."""
        there = sorted((key, p) for key, p in self.processes.items() if p.rows)
        is_linked = any(process.linked for _, process in there)
        copies: Counter[int] = Counter()
        for (job, replica, rank), process in there:
            if rank < 0 and (by_size := _by_sizes(job, process.about)):
                yield process, by_size
                continue
            if rank < 0:
                rank = process.linked if is_linked else max(0, job)
            if replica < 0 and is_linked:
                replica = copies[rank]
            copies[rank] += 1
            yield process, _Place(max(0, replica), rank)


def _by_sizes(job: int, about: Json) -> _Place | None:
    """The place of a rank of the whole job, where the sizes of the job are known."""
    sizes = {name: first_whole(about, names) for name, names in _SIZES.items()}
    pipeline, world = sizes["pipeline"], first_whole(about, _WORLDS)
    if min(job, pipeline - 1, world - 1) < 0 or world % pipeline:
        return None
    rank, rest = divmod(job, world // pipeline)
    inner = max(1, sizes["tensor"])
    if sizes["data"] > 0 and world // pipeline % sizes["data"] == 0:
        inner = world // pipeline // sizes["data"]  # context-parallel ranks as well
    return _Place(rest // inner, rank, rest % inner)


def _in_steps(process: _Process) -> list[tuple[int, Event]]:
    """Its computations with the iteration that they are within; without those of evaluations."""
    found = []
    for step, event in process.rows:
        if any(start <= event.start <= end for start, end in process.evaluations):
            continue
        if step < 0:
            within = (n for start, end, n in process.steps if start <= event.start <= end)
            step = next(within, -1)
        found.append((step, event))
    return found


def _spans(event: Json) -> Iterator[Json]:
    """Each span of a resource."""
    scopes = event.get("scopeSpans")
    for scope in scopes if isinstance(scopes, list) else []:
        spans = scope.get("spans") if isinstance(scope, dict) else None
        for span in spans if isinstance(spans, list) else []:
            if isinstance(span, dict):
                yield span


def _attributes(holder: Json) -> Json:
    """``[{"key": "a", "value": {"intValue": "3"}}]`` as ``{"a": "3"}``."""
    rows = holder.get("attributes")
    if isinstance(rows, dict):
        return rows
    found: Json = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(value := row.get("value"), dict):
            found[str(row.get("key"))] = next(iter(value.values()), None)
    return found


def _nanoseconds(span: Json, edge: str) -> int:
    """When it started or ended: OTLP's number, or the date and time of the console exporter."""
    value = span.get(f"{edge}TimeUnixNano")
    if isinstance(value, str | int) and str(value).isdigit() and len(str(value)) < 25:
        return int(value)
    text = span.get(f"{edge}_time")
    try:
        if value is None and isinstance(text, str):
            since = datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z")
            return 1000 * ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds)
    except (ValueError, TypeError):  # no date, or one without a zone
        value = text
    what = brief(value)
    raise TraceError(f"the span {span.get('name')} has {edge} {what}: nanoseconds expected")


def _numbered(
    rows: Iterable[tuple[int, Event]], finishes: Iterable[float]
) -> Iterator[tuple[int, Event]]:
    """Each event with its step and microbatch, in order.

    Where no step is around it, the next one begins with the first forward after the gradients were
    reduced, or where that was not recorded, with a forward that comes again.
    """
    count: dict[tuple[int, Kind], int] = defaultdict(int)
    seen: set[int] = set()
    ends = sorted(finishes)
    later = passed = 0
    for step, event in sorted(rows, key=lambda row: row[1].start):
        if step < 0:
            now = bisect_right(ends, event.start)
            comes_again = not ends and event.microbatch in seen
            if event.kind is Kind.F and seen and (comes_again or now > passed):
                later, seen = later + 1, set()
            if event.kind is Kind.F:
                seen.add(-1 if event.microbatch is None else event.microbatch)
                passed = now
            step = later
        number = event.microbatch
        if number is None:
            number = count[step, event.kind]
        count[step, event.kind] += 1
        yield step, event._replace(microbatch=number)


def _with_stages(
    rows: Iterable[tuple[int, Event]], rank: int, ranks: int
) -> Iterator[tuple[int, Event]]:
    """With the stage of each: a forward that comes again within a step is the next chunk's.

    Then backwards have Megatron's interleaved order, as many microbatches at once as there are
    ranks (Narayanan et al. 2021, arXiv 2104.04473, section 2.2).
    """
    rows = [*rows]
    times: dict[tuple[int, Kind, int | None], int] = defaultdict(int)
    placed = []
    for step, event in rows:
        key = step, event.kind, event.microbatch
        placed.append((step, event, times[key]))
        times[key] += 1
    chunks = max((number for (_, kind, _), number in times.items() if kind is Kind.F), default=1)
    for step, event, chunk in placed:
        if event.kind is Kind.B and chunks > 1 and event.microbatch is not None:
            turn, place = divmod(event.microbatch, ranks)
            group, turn = divmod(turn, chunks)
            chunk, event = chunks - 1 - turn, event._replace(microbatch=group * ranks + place)
        yield step, event._replace(stage=chunk * ranks + rank)

"""Megatron's OpenTelemetry spans (2026), in OTLP's JSON: host time, a span for each microbatch.

    megatron.microbatch.forward     attribute megatron.microbatch_id
    megatron.microbatch.backward    no number: by order
    megatron.p2p.*                  sends and receives, with the computation that they follow

A span's resource says which process it is of: its attributes, or the order of the processes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from pipelab.action import COMPUTE, Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.trace.readers.gathered import HOST_TIME, Gathered, StepKey
from pipelab.trace.readers.stream import EventFile, Json, brief, first_whole, whole

_PREFIX = "megatron."
_COMPUTED = {
    "megatron.microbatch.forward": Kind.F,
    "megatron.microbatch.backward": Kind.B,
}
_RANKS = ("megatron.pipeline_rank", "megatron.pp_rank", "pipeline_parallel_rank")
_REPLICAS = ("megatron.data_parallel_rank", "megatron.dp_rank", "data_parallel_rank")
_JOB_RANKS = ("megatron.rank", "rank", "process.rank")
_STEPS = ("megatron.iteration", "iteration", "megatron.step")


class Megatron:
    """Collects what the files of this form hold."""

    form = "Megatron's OpenTelemetry"
    expected = "Megatron's spans (megatron.microbatch.forward) in OTLP's JSON"

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], list[tuple[int, Event]]] = defaultdict(list)
        self.others: Counter[str] = Counter()
        self.found = 0
        self.zero: int | None = None

    def __len__(self) -> int:
        return self.found

    def take(self, name: str, event: Json) -> None:
        """One resource with its spans, as OTLP has them, or one span alone."""
        if name.startswith(_PREFIX):
            self._take_span(event, {})
        for span, resource in _spans(event):
            self._take_span(span, resource)

    def _take_span(self, span: Json, resource: Json) -> None:
        name = str(span.get("name"))
        if not name.startswith(_PREFIX):
            return
        kind = _COMPUTED.get(name)
        if kind is None:
            self.others[name] += 1
            return
        own = {**resource, **_attributes(span)}
        begun, ended = (_nanoseconds(span, f"{edge}TimeUnixNano") for edge in ("start", "end"))
        if self.zero is None:
            self.zero = begun  # nanoseconds since 1970 fill a float
        start, end = ((time - self.zero) / 1e9 for time in (begun, max(begun, ended)))
        place = first_whole(own, _REPLICAS, 0), first_whole(own, (*_RANKS, *_JOB_RANKS), 0)
        number = whole(own.get("megatron.microbatch_id"))
        event = Event(place[1], kind, place[1], number if number >= 0 else None, start, end)
        self.rows[place].append((first_whole(own, _STEPS, -1), event))
        self.found += 1

    def end_file(self, file: EventFile) -> None:
        """Spans name their process themselves."""

    def gathered(self) -> Gathered:
        """All steps of all replicas."""
        steps: dict[StepKey, list[Event]] = defaultdict(list)
        for (replica, _), rows in self.rows.items():
            for step, event in _numbered(rows):
                steps[StepKey(step, replica)].append(event)
        notes = [f"not read: {count} {name}" for name, count in sorted(self.others.items())]
        notes.append("the spans hold no memory and no waits; backwards are numbered by order")
        replicas = len({key.replica for key in steps})
        return Gathered(self.form, HOST_TIME, dict(steps), notes, replicas=replicas)


def _spans(event: Json) -> Iterator[tuple[Json, Json]]:
    """Each span of a resource, with the resource's attributes."""
    resource = event.get("resource")
    about = _attributes(resource) if isinstance(resource, dict) else {}
    scopes = event.get("scopeSpans")
    for scope in scopes if isinstance(scopes, list) else []:
        spans = scope.get("spans") if isinstance(scope, dict) else None
        for span in spans if isinstance(spans, list) else []:
            if isinstance(span, dict):
                yield span, about


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


def _nanoseconds(span: Json, name: str) -> int:
    value = span.get(name)
    if isinstance(value, str | int) and str(value).isdigit() and len(str(value)) < 25:
        return int(value)
    raise TraceError(f"the span {span.get('name')} has {name} {brief(value)}: nanoseconds expected")


def _numbered(rows: list[tuple[int, Event]]) -> Iterator[tuple[int, Event]]:
    """Each event with its step and microbatch; a forward that comes again begins the next step."""
    count: dict[tuple[int, Kind], int] = defaultdict(int)
    seen: set[int] = set()
    later = 0
    for step, event in sorted(rows, key=lambda row: row[1].start):
        if step < 0:
            if event.kind is Kind.F and event.microbatch in seen:
                later, seen = later + 1, set()
            if event.kind is Kind.F and event.microbatch is not None:
                seen.add(event.microbatch)
            step = later
        number = event.microbatch
        if number is None and event.kind in COMPUTE:
            number = count[step, event.kind]
        count[step, event.kind] += 1
        yield step, event._replace(microbatch=number)

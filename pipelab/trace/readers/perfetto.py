"""What ``Trace.to_chrome`` wrote, for Perfetto: read back, to the nanosecond."""

import re
from collections import Counter

from pipelab.action import PER_STAGE, Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.trace.readers.gathered import HOST_TIME, Gathered, StepKey
from pipelab.trace.readers.stream import EventFile, Json, arguments, number, whole

_NAME = re.compile(r"([A-Z_]+)(?: \d{1,9})?")
_KINDS = {kind.value: kind for kind in Kind}
_CATEGORIES = frozenset({"compute", "messages", "idle"})


class Perfetto:
    """Collects what the files of this form hold."""

    form = "pipelab's Perfetto file"
    expected = "a file that pipelab wrote (a trace, or its .perfetto.json)"

    def __init__(self) -> None:
        self.files: list[list[Event]] = []
        self.sources: list[str] = []
        self.rows: list[Event] = []

    def __len__(self) -> int:
        return len(self.rows) + sum(map(len, self.files))

    def take(self, name: str, event: Json) -> None:
        """One event of a file."""
        args = arguments(event)
        match = _NAME.fullmatch(name)
        kind = _KINDS.get(match[1]) if match else None
        if kind is None or event.get("cat") not in _CATEGORIES or "stage" not in args:
            return
        start = number(event, "ts") / 1e6
        microbatch, peer = args.get("microbatch"), args.get("peer")
        if (microbatch is None) != (kind in PER_STAGE) and kind is not Kind.WAIT:
            raise TraceError(f"the event {name!r} has microbatch {microbatch!r}")
        self.rows.append(
            Event(
                max(0, whole(event.get("pid"), 1) - 1),
                kind,
                whole(args["stage"], 0),
                None if microbatch is None else whole(microbatch, 0),
                start,
                start + number(event, "dur", 0.0) / 1e6,
                whole(args.get("bytes"), 0),
                None if peer is None else whole(peer, 0),
            )
        )

    def end_file(self, file: EventFile) -> None:
        """Each file is one step."""
        about = file.value("otherData")
        source = about.get("source") if isinstance(about, dict) else ""
        if self.rows:
            self.files.append(self.rows)
            self.sources.append(source if isinstance(source, str) else "")
        self.rows = []

    def gathered(self) -> Gathered:
        """One step a file."""
        steps = {StepKey(i, 0): rows for i, rows in enumerate(self.files)}
        notes = [f"its source: {text}" for text in Counter(self.sources) if text]
        notes.append("the file holds no memory of parameters")
        predicted = any(text.startswith("predicted") for text in self.sources)
        clock = "predicted" if predicted else HOST_TIME
        return Gathered(self.form, clock, steps, notes)

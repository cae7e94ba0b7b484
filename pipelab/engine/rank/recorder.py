"""Record what a rank does: start and end of each action, on a clock that all ranks share.

``time.monotonic`` counts from the machine's start, so times of ranks on one machine compare.
Between machines, torchrun/clocks.py measures what to add.

Whatever else belongs to an action but is not its work is called around it:

    before   affinity   let gloo's threads use this core first (where they carry the messages)
             pace       wait until it is time to begin the action's real work
             [start]
    THE ACTION
    after    pace       stay until a device of that speed would be ready
             memory     count its bytes: over the budget, the action fails here
             affinity   after a SEND, let gloo's threads use this core
             [end]
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import Head, Row
from pipelab.engine.protocol.device import DeviceClock, Moment
from pipelab.engine.protocol.progress import Progress, Wanted, packed
from pipelab.trace import Event

_KINDS = list(Kind)
_PLACE = {kind: place for place, kind in enumerate(_KINDS)}
_NONE: Mapping[Any, Any] = {}

_Marks = tuple[Head, Moment, Moment, int, int | None]
"""A ``Row`` whose times are still marks of the device's clock."""


class Found:
    """What the running action finds out about itself.

    Attributes:
        start: when it began.
        bytes: that it keeps, sends or opens a buffer for; see ``Event.bytes``.
        peer: the rank at the other end of its message.
        until: what it started in the background, a paced message, lasts until then; 0.0: it ends
            when the action ends.
    """

    start: Moment = 0.0
    bytes: int = 0
    peer: int | None = None
    until: float = 0.0


Before = Callable[[Action], None]
After = Callable[[Action, Found], None]


class _Event(Found):
    """An event of the row, and all that is known of it before it happens; the same in each step.

    Attributes:
        head: of its ``Row``.
        unreported: its bytes, peer and ``until``, as long as the action says nothing else.
        shown: what the progress page says of it; b"": it is left out there.
        before, after: what is called around it.
    """

    def __init__(
        self, recorder: "Recorder", action: Action, peer: int | None, shown: bytes,
        before: Sequence[Before], after: Sequence[After],
    ):  # fmt: skip
        stage, kind, microbatch = self.action = action
        self.recorder = recorder
        self.head: Head = recorder.rank, _PLACE[kind], stage, microbatch
        self.unreported = 0, peer, 0.0
        self.shown, self.before, self.after = shown, before, after

    def __enter__(self) -> "Recorder":
        for before in self.before:
            before(self.action)
        recorder = self.recorder
        recorder.action, recorder.found = self.action, self
        self.bytes, self.peer, self.until = self.unreported
        self.start = start = recorder.clock.now()
        if self.shown:
            # a GPU's mark is no time yet
            since = start if type(start) is float else time.monotonic()
            recorder.progress.write_packed(recorder.rank, self.shown, since)
        return recorder

    def __exit__(self, error: object, *where: object) -> None:
        if error is not None:
            return
        recorder = self.recorder
        for after in self.after:
            after(self.action, self)
        if recorder.keeps:
            self.end = recorder.clock.now()
            if self.until:
                self.end = recorder.not_before(self.end, self.until)
            recorder.events.append(_marks_of(self))
        recorder.action = None


_marks_of: Callable[[_Event], _Marks] = attrgetter("head", "start", "end", "bytes", "peer")


class _Events(dict[Action | tuple[Action, Wanted], _Event]):
    """Each is made when it happens for the first time; a wait's key says what it waits for."""

    def __init__(self, make: Callable[[Action, Wanted | None], _Event]):
        super().__init__()
        self._make = make

    def __missing__(self, key: Action | tuple[Action, Wanted]) -> _Event:
        self[key] = made = self._make(key, None) if isinstance(key, Action) else self._make(*key)
        return made


class Recorder:
    """The events of one step, as they happen: ``with recorder.record(action):`` is one event."""

    def __init__(self, rank: int, progress: Progress):
        self.rank = rank
        self.keeps = True  # False: only show where the rank is, keep no events
        self.progress = progress
        self.clock = DeviceClock()
        self.events: list[_Marks] = []
        self.action: Action | None = None  # the running one, for error messages
        self.found = Found()
        self.follow()

    def follow(
        self, before: Mapping[Before, Collection[Kind]] = _NONE,
        after: Mapping[After, Collection[Kind]] = _NONE, hidden: Collection[Kind] = (),
        blocks: Mapping[Action, Wanted] = _NONE,
    ) -> None:  # fmt: skip
        """From now on, record a schedule's actions so.

        Args:
            before: called with each action of these kinds, waits included, that is about to begin;
                this is not part of its time.
            after: called when its work is done; this is the end of its time. May raise: then it
                failed.
            hidden: kinds that the progress page leaves out.
            blocks: for each SEND what it waits for, if its receiver does not take it.
        """

        def event(action: Action, wanted: Wanted | None) -> _Event:
            wanted = wanted or blocks.get(action)
            return _Event(
                self,
                action,
                wanted and wanted.peer,
                b"" if action.kind in hidden else packed(action, wanted),
                [call for call, kinds in before.items() if action.kind in kinds],
                [call for call, kinds in after.items() if action.kind in kinds],
            )

        # Time one action with what this gives as a context manager; for a wait, (action, wanted)
        # says what it waits for. No function of ours: it is called for each.
        self.record: Callable[[Action | tuple[Action, Wanted]], _Event] = _Events(event).__getitem__

    def report(self, bytes: int, peer: int | None = None) -> None:
        """Add to the running action's event what it found out about itself."""
        self.found.bytes = bytes
        self.found.peer = peer

    def blocked_on(self, send: Action, peer: int) -> None:
        """Show that the rank waits until another one takes a message; this is no event."""
        self.progress.write(self.rank, send, Wanted(send, peer))

    def end_at(self, place: int, end: Moment, until: float) -> None:
        """What the event at ``place`` started in the background ended then.

        If paced, not before ``until``.
        """
        if self.keeps:
            row = self.events[place]
            self.events[place] = (*row[:2], self.not_before(end, until), *row[3:])

    def not_before(self, end: Moment, until: float) -> Moment:
        """An end, or if it is given and later, the moment until which it lasts."""
        return max(self.clock.seconds(end), until) if until else end

    def take(self) -> list[Row]:
        """The events so far; the next step starts with none."""
        events, self.events = self.events, []
        self.clock.finish()
        if self.clock.marks_are_seconds:
            return events  # type: ignore[return-value]
        seconds = self.clock.seconds
        return [(head, seconds(a), seconds(b), *rest) for head, a, b, *rest in events]  # type: ignore[misc]


def event_of(row: Row) -> Event:
    """What a rank recorded, as an event of a trace."""
    (rank, kind, *what), *found = row
    return Event(rank, _KINDS[kind], *what, *found)  # type: ignore[arg-type]


def shifted(row: Row, seconds: float) -> Row:
    """What a rank recorded, on a clock that shows so many seconds more."""
    head, start, end, size, peer = row
    return head, start + seconds, end + seconds, size, peer


def waiting_for(action: Action) -> Action:
    """The event of waiting for what an action needs from other ranks."""
    return action._replace(kind=Kind.WAIT)

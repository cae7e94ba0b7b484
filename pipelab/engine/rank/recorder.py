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
from typing import Any, NamedTuple

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import Row
from pipelab.engine.protocol.device import DeviceClock, Moment
from pipelab.engine.protocol.progress import Progress, Wanted, packed
from pipelab.trace import Event

_KINDS = list(Kind)
_PLACE = {kind: place for place, kind in enumerate(_KINDS)}
_NONE: Mapping[Any, Any] = {}

_Marks = tuple[int, int, int, int | None, Moment, Moment, int, int | None]
"""A ``Row`` whose times are still marks of the device's clock."""


class Found:
    """What the running action finds out about itself. Has no ``__init__``: each event makes one.

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


class _Known(NamedTuple):
    """What is known of an event before it happens, and is the same in each step.

    Attributes:
        action: that is recorded.
        head: the first fields of its ``Row``.
        shown: what the progress page says of it; b"": it is left out there.
        before, after: what is called around it.
    """

    action: Action
    head: tuple[int, int, int, int | None]
    shown: bytes
    before: Sequence[Before]
    after: Sequence[After]


class Recorder:
    """The events of one step, as they happen: ``with recorder.record(action):`` is one event."""

    def __init__(self, rank: int, progress: Progress):
        self.rank = rank
        self.keeps = True  # False: only show where the rank is, keep no events
        self.progress = progress
        self.clock = DeviceClock()
        self.events: list[_Marks] = []
        self.running: _Known | None = None
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
        self._before, self._after, self._hidden, self._blocks = before, after, hidden, blocks
        self._known: dict[tuple[Action, Wanted | None], _Known] = {}

    def _learn(self, action: Action, wanted: Wanted | None) -> _Known:
        stage, kind, microbatch = action
        known = self._known[action, wanted] = _Known(
            action,
            (self.rank, _PLACE[kind], stage, microbatch),
            b"" if kind in self._hidden else packed(action, wanted or self._blocks.get(action)),
            [before for before, kinds in self._before.items() if kind in kinds],
            [after for after, kinds in self._after.items() if kind in kinds],
        )
        return known

    def record(self, action: Action, wanted: Wanted | None = None) -> "Recorder":
        """Time one action with this as a context manager; a wait says what it waits for."""
        known = self._known.get((action, wanted)) or self._learn(action, wanted)
        for before in known.before:
            before(action)
        self.running, self.found = known, Found()
        self.found.start = start = self.clock.now()
        if known.shown:
            # a GPU's mark is no time yet
            since = start if type(start) is float else time.monotonic()
            self.progress.write_packed(self.rank, known.shown, since)
        return self

    @property
    def action(self) -> Action | None:
        """The running one, for error messages."""
        return self.running and self.running.action

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
            self.events[place] = (*row[:5], self._not_before(end, until), *row[6:])

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, error: object, *where: object) -> None:
        known, found = self.running, self.found
        if error is not None or known is None:
            return
        for after in known.after:
            after(known.action, found)
        if self.keeps:
            end = self.clock.now()
            if found.until:
                end = self._not_before(end, found.until)
            self.events.append((*known.head, found.start, end, found.bytes, found.peer))
        self.running = None

    def _not_before(self, end: Moment, until: float) -> Moment:
        return max(self.clock.seconds(end), until) if until else end

    def take(self) -> list[Row]:
        """The events so far; the next step starts with none."""
        events, self.events = self.events, []
        self.clock.finish()
        if self.clock.marks_are_seconds:
            return events  # type: ignore[return-value]
        seconds = self.clock.seconds
        return [(*row[:4], seconds(row[4]), seconds(row[5]), *row[6:]) for row in events]


def event_of(row: Row) -> Event:
    """What a rank recorded, as an event of a trace."""
    return Event(row[0], _KINDS[row[1]], *row[2:])


def shifted(row: Row, seconds: float) -> Row:
    """What a rank recorded, on a clock that shows so many seconds more."""
    return (*row[:4], row[4] + seconds, row[5] + seconds, *row[6:])


def waiting_for(action: Action) -> Action:
    """The event of waiting for what an action needs from other ranks."""
    return action._replace(kind=Kind.WAIT)

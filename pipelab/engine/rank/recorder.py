"""Record what a rank does: start and end of each action, on a clock that all ranks share.

``time.monotonic`` counts from the machine's start, so times of ranks on one machine compare.
Between machines, ``clocks`` measures what to add.
"""

import time
from collections.abc import Callable

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import Row
from pipelab.engine.protocol.device import HostWatch, Moment, Watch
from pipelab.engine.protocol.progress import Progress, Wanted
from pipelab.trace import Event

_KINDS = list(Kind)
_PLACE = {kind: place for place, kind in enumerate(_KINDS)}


_Marks = tuple[int, int, int, int | None, Moment, Moment, int, int | None]
"""A ``Row`` whose times are marks still."""


class Recorder:
    """The events of one step, as they happen.

    ``with recorder.record(action):`` is one event. What an action finds out about itself on its
    way, its bytes and its peer, it tells with ``note``.
    """

    def __init__(self, rank: int, progress: Progress):
        self.rank = rank
        self.keeps = True  # False: only say where the rank is, keep no events
        self.progress = progress
        self.watch: Watch = HostWatch()
        self.clock: Callable[[], float] = time.monotonic  # of the progress page
        self.untold: frozenset[Kind] = frozenset()  # kinds that the progress page leaves out
        self.events: list[_Marks] = []
        self.action: Action | None = None  # the one under way, for error messages
        self.start: Moment = 0.0
        self.bytes = 0
        self.peer: int | None = None
        self.until = 0.0

    def record(self, action: Action, wanted: Wanted | None = None) -> "Recorder":
        """Time one action with this as a context manager; a wait says what it waits for."""
        self.action, self.bytes, self.peer, self.until = action, 0, None, 0.0
        if action.kind not in self.untold:
            self.progress.write(self.rank, action, wanted, self.clock())
        return self

    def held_by(self, send: Action, peer: int) -> None:
        """Say that the rank waits until another one takes a message; this is no event."""
        self.progress.write(self.rank, send, Wanted(send, peer))

    def note(self, bytes: int = 0, peer: int | None = None, until: float = 0.0) -> None:
        """What the action under way found out: bytes kept or sent, and the other rank.

        ``until``: what it started, a paced message, goes on in the background until then.
        """
        self.bytes, self.peer, self.until = bytes, peer, until

    def end_at(self, place: int, end: Moment, until: float) -> None:
        """What the event at ``place`` started in the background ended then.

        If paced, not before ``until``.
        """
        if self.keeps:
            row = self.events[place]
            self.events[place] = (*row[:5], self._not_before(end, until), *row[6:])

    def __enter__(self) -> None:
        self.start = self.watch.now()

    def __exit__(self, *error: object) -> None:
        end = self._not_before(self.watch.now(), self.until)
        if error[0] is not None or self.action is None:
            return
        if self.keeps:
            stage, kind, microbatch = self.action
            self.events.append((self.rank, _PLACE[kind], stage, microbatch, self.start, end,
                                self.bytes, self.peer))  # fmt: skip
        self.action = None

    def _not_before(self, end: Moment, until: float) -> Moment:
        return max(self.watch.seconds(end), until) if until else end

    def take(self) -> list[Row]:
        """The events so far; the next step starts with none."""
        events, self.events = self.events, []
        self.watch.finish()
        seconds = self.watch.seconds
        return [(*row[:4], seconds(row[4]), seconds(row[5]), *row[6:]) for row in events]


def event_of(row: Row) -> Event:
    """What a rank recorded, as an event of a trace."""
    return Event(row[0], _KINDS[row[1]], *row[2:])


def shifted(row: Row, seconds: float) -> Row:
    """What a rank recorded on a clock that is late by so much."""
    return (*row[:4], row[4] + seconds, row[5] + seconds, *row[6:])


def waiting_for(action: Action) -> Action:
    """The event of waiting for the message that a computing action needs."""
    return action._replace(kind=Kind.WAIT)

"""Bars of a step that has not ended yet.

Ranks send their events when the step has ended. Until then a shared page says which action each
rank is in, and since when. Read often enough, that gives a timeline; only actions that began and
ended between two readings are guessed. It is provisional: the recorded trace replaces it.
"""

from collections import deque
from collections.abc import Callable, Sequence

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine.protocol.progress import Begun
from pipelab.schedules import Schedule
from pipelab.trace import Event

_Read = Callable[[], Sequence[Begun]]


class _Row:
    """One rank: its actions in order, how many have ended, and since when the current one runs."""

    def __init__(self, rank: int, actions: Sequence[Action]):
        self.rank = rank
        self.actions = [a for a in actions if a.kind in COMPUTE]
        self.place = {action: i for i, action in enumerate(self.actions)}
        self.bars: list[Event] = []
        self.begun_at: float | None = None  # seconds; None between actions
        self.seen = 0.0  # when it was last read
        self.ahead: deque[tuple[Action, float]] = deque()  # read, but its device is not there yet

    def read(self, action: Action, since: float, now: float) -> None:
        """Take what the rank is in. A paced rank says so before its device begins with it."""
        if not self.ahead or self.ahead[-1] != (action, since):
            self.ahead.append((action, since))
        while self.ahead and self.ahead[0][1] <= now:
            self.update(*self.ahead.popleft(), now)

    def update(self, action: Action, since: float, now: float) -> None:
        """The rank is in this action, and since when; all actions before it have ended."""
        begun = self.place.get(action)
        over = begun if begun is not None else self._over_before(action)
        if over > len(self.bars):
            self._end(over, since)
        if begun is not None and self.begun_at is None:
            self.begun_at = since
        self.seen = now

    def _over_before(self, action: Action) -> int:
        """How many actions have ended when the rank waits, sends or steps."""
        stage, kind, microbatch = action
        done = len(self.bars) + (self.begun_at is not None)
        if kind is Kind.WAIT and microbatch is not None:
            ahead = range(done, len(self.actions))
            same = (i for i in ahead if self.actions[i][::2] == (stage, microbatch))
            return next(same, done)
        made = {Kind.SEND_F: (Kind.F,), Kind.SEND_B: (Kind.B, Kind.I)}.get(kind, ())
        sent = [self.place.get(Action(stage, k, microbatch), -1) + 1 for k in made]
        return max([done, *sent])

    def _end(self, over: int, until: float) -> None:
        """Actions up to there have ended; those between two readings share the time."""
        begin = self.seen if self.begun_at is None else self.begun_at
        first = len(self.bars)
        share = (until - begin) / (over - first)
        if self.begun_at is not None and begin + share < self.seen:  # it ran then
            self._bar(begin, self.seen)
            begin, first = self.seen, first + 1
            share = (until - begin) / max(1, over - first)
        for k in range(over - first):
            self._bar(begin + k * share, begin + (k + 1) * share)
        self.begun_at = None

    def _bar(self, start: float, end: float) -> None:
        stage, kind, microbatch = self.actions[len(self.bars)]
        self.bars.append(Event(self.rank, kind, stage, microbatch, start, end))

    def so_far(self, now: float) -> list[Event]:
        """All bars; the current one lasts until now."""
        if self.begun_at is None:
            return self.bars
        stage, kind, microbatch = self.actions[len(self.bars)]
        return [*self.bars, Event(self.rank, kind, stage, microbatch, self.begun_at, now)]


class LiveBars:
    """The bars of one step, from repeated readings of the action that each rank is in.

    Args:
        read: what each rank began last; empty once the ranks are gone. See ``Pipeline.begun``.
        schedule: that of one replica.
        replicas: how many copies of the pipeline run.
    """

    def __init__(self, read: _Read, schedule: Schedule, replicas: int = 1):
        self._read = read
        p = schedule.num_ranks
        self._rows = [_Row(rank, schedule.ranks[rank % p]) for rank in range(p * replicas)]
        self._before = [begun.number for begun in read()]
        self._zero: float | None = None  # when the first rank began

    def update(self, clock: float) -> None:
        """Read what each rank is in; ``clock``: seconds now, on the clock of ``Begun.since``."""
        seen = [
            (row, begun.action, begun.since)
            for row, begun, before in zip(self._rows, self._read(), self._before, strict=False)
            if begun.action is not None and begun.number != before
        ]
        if seen and self._zero is None:
            self._zero = min(since for _, _, since in seen)
        zero = self._zero or 0.0
        for row, action, since in seen:
            row.read(action, since - zero, clock - zero)

    def bars(self, clock: float) -> tuple[tuple[Event, ...], float]:
        """All bars so far, and the time of the step: 0.0 before it began."""
        now = 0.0 if self._zero is None else max(0.0, clock - self._zero)
        return tuple(bar for row in self._rows for bar in row.so_far(now)), now

"""Watch ranks at work: bars of a step that is not over yet.

Ranks tell what they did when the step is over. Until then a shared page says what each is in at
this moment, and since when; looked at often enough, that is a timeline. Only what began and ended
between two looks is guessed. It is provisional: the recorded trace takes its place.
"""

from collections.abc import Callable, Sequence

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine.protocol.progress import Begun
from pipelab.schedules import Schedule
from pipelab.trace import Event

Read = Callable[[], Sequence[Begun]]


class _Row:
    """One rank: its actions in order, how many are over, and which is under way since when."""

    def __init__(self, rank: int, actions: Sequence[Action]):
        self.rank = rank
        self.actions = [a for a in actions if a.kind in COMPUTE]
        self.place = {action: i for i, action in enumerate(self.actions)}
        self.bars: list[Event] = []
        self.under_way: float | None = None  # since when
        self.seen = 0.0  # when it was last looked at

    def look(self, action: Action, since: float, now: float) -> None:
        """What the rank is in now, and since when; what came before it is over."""
        begun = self.place.get(action)
        over = begun if begun is not None else self._over_before(action)
        if over > len(self.bars):
            self._end(over, since)
        if begun is not None and self.under_way is None:
            self.under_way = since
        self.seen = now

    def _over_before(self, action: Action) -> int:
        """How many actions are over when the rank waits, sends or steps."""
        stage, kind, microbatch = action
        done = len(self.bars) + (self.under_way is not None)
        if kind is Kind.WAIT and microbatch is not None:
            ahead = range(done, len(self.actions))
            same = (i for i in ahead if self.actions[i][::2] == (stage, microbatch))
            return next(same, done)
        made = {Kind.SEND_F: (Kind.F,), Kind.SEND_B: (Kind.B, Kind.I)}.get(kind, ())
        sent = [self.place.get(Action(stage, k, microbatch), -1) + 1 for k in made]
        return max([done, *sent])

    def _end(self, over: int, until: float) -> None:
        """Actions up to there are over; those that nobody saw share the time since a look."""
        begin = self.seen if self.under_way is None else self.under_way
        first = len(self.bars)
        share = (until - begin) / (over - first)
        if self.under_way is not None and begin + share < self.seen:  # then it still went on
            self._bar(begin, self.seen)
            begin, first = self.seen, first + 1
            share = (until - begin) / max(1, over - first)
        for k in range(over - first):
            self._bar(begin + k * share, begin + (k + 1) * share)
        self.under_way = None

    def _bar(self, start: float, end: float) -> None:
        stage, kind, microbatch = self.actions[len(self.bars)]
        self.bars.append(Event(self.rank, kind, stage, microbatch, start, end))

    def so_far(self, now: float) -> list[Event]:
        """All bars, the one under way up to now."""
        if self.under_way is None:
            return self.bars
        stage, kind, microbatch = self.actions[len(self.bars)]
        return [*self.bars, Event(self.rank, kind, stage, microbatch, self.under_way, now)]


class Watch:
    """The bars of one step, from looks at what each rank is in.

    Args:
        read: what each rank began last; empty once nobody knows. See ``Pipeline.begun``.
        schedule: what the ranks of one replica follow.
        replicas: how many copies of the pipeline are at work.
    """

    def __init__(self, read: Read, schedule: Schedule, replicas: int = 1):
        self._read = read
        p = schedule.num_ranks
        self._rows = [_Row(rank, schedule.ranks[rank % p]) for rank in range(p * replicas)]
        self._before = [begun.number for begun in read()]
        self._zero: float | None = None  # when the first rank began

    def look(self, clock: float) -> None:
        """See what each rank is in; ``clock``: seconds now, on the clock of ``Begun.since``."""
        seen = [
            (row, begun.action, begun.since)
            for row, begun, before in zip(self._rows, self._read(), self._before, strict=False)
            if begun.action is not None and begun.number != before
        ]
        if seen and self._zero is None:
            self._zero = min(since for _, _, since in seen)
        for row, action, since in seen:
            # a paced rank tells when its device will begin, a moment before it does
            row.look(action, min(since, clock) - (self._zero or 0.0), clock - (self._zero or 0.0))

    def bars(self, clock: float) -> tuple[tuple[Event, ...], float]:
        """All bars so far, and the time of the step: 0.0 before it began."""
        now = 0.0 if self._zero is None else clock - self._zero
        return tuple(bar for row in self._rows for bar in row.so_far(now)), now

"""Keep a rank to the times of a ``Cost``, as a device and links of that speed would.

Each action has a due time: the later of the rank's last due time and its message's arrival, plus
what the action costs. The rank does its real work, then stays in the action until it is due. Due
times follow from due times (a message carries its own as a stamp), so the machine's small delays,
a late wake-up or a slow hand-over, are made up for instead of piling up: by at most a tenth of an
action, so no action is ever much shorter than its cost. Work that takes longer than its cost is an
*overrun*: it is counted, and the clock goes on from where the rank really is.
"""

import time
from collections.abc import Callable

from pipelab.action import Action, Kind
from pipelab.simulator import Cost

_TOLERANCE = 0.1  # of an action's cost: what it may make up for, or be late by, uncounted


class Pace:
    """The due times of one rank; without a cost, nothing is ever held."""

    def __init__(self, cost: Cost | None, finish: Callable[[], None] = lambda: None):
        self.cost = cost
        self.finish = finish  # blocks until the rank's device is through
        self.due = 0.0  # of the last action; on the clock of ``time.monotonic``
        self.overruns = 0

    def begin(self) -> None:
        """A step starts now."""
        self.due, self.overruns = time.monotonic(), 0

    def hold_message(self, send: Action, left: float) -> None:
        """Wait until a message that left at ``left`` has been under way for its time."""
        if self.cost is not None:
            self.hold_until(left + self.cost.message_seconds(send))

    def hold(self, action: Action, start: float) -> None:
        """Stay in an action that began at ``start`` until it is due."""
        if self.cost is None:
            return
        self.finish()
        seconds = self.cost.seconds(action)
        self.due = max(self.due + seconds, start + seconds * (1 - _TOLERANCE))
        now = time.monotonic()
        if now > self.due + _TOLERANCE * seconds:
            self.overruns += seconds > 0
            self.due = now
        else:
            _sleep_until(self.due)

    def under_way(self, action: Action) -> float:
        """Until when what a SEND or REDUCE_GRAD starts now is under way; 0.0 if unpaced."""
        if self.cost is None:
            return 0.0
        if action.kind is Kind.REDUCE_GRAD:
            return self.due + self.cost.seconds(action)
        return self.due + self.cost.message_seconds(action)

    def hold_until(self, due: float) -> None:
        """Wait for something that is under way until then."""
        if self.cost is not None:
            self.due = max(self.due, due)
            _sleep_until(due)

    def hold_send(self, send: Action) -> None:
        """With blocking sends: stay in the send until the message has arrived."""
        if self.cost is not None:
            self.due += self.cost.message_seconds(send)
            _sleep_until(self.due)


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)

"""Keep a rank to the times of a ``Cost``, as a device and links of that speed would.

A rank drives its device as with a GPU: it does an action's real work, goes on to send the result
and to open the next buffer, and waits for the device only before the next action. The device is
busy until the action is due: the later of its last due time and the message's arrival, plus what
the action costs. Due times follow from due times (a message carries its own as a stamp).

The machine's small delays, a late wake-up or a slow hand-over, are not the device's. So a rank
takes a message, and begins an action's real work, a little before the device is free for it, as a
GPU's driver lays the next work into the queue; what comes later than that is made up for, by at
most a tenth of an action, so none is ever much shorter than its cost. Work that takes longer than
its cost is an *overrun*: it is counted, and the clock goes on from where the rank really is.
"""

import time

from pipelab.action import Action, Kind
from pipelab.engine.protocol.device import HostWatch, Moment, Watch
from pipelab.simulator import Cost

_TOLERANCE = 0.1  # of an action's cost: what it may make up for, or be late by, uncounted
_AHEAD = 0.5  # of an action's cost: how long before the device is free its real work may begin,
_AT_MOST = 0.003  # but not more seconds than this


class Pace:
    """The due times of one rank; without a cost, nothing is ever held."""

    def __init__(self, cost: Cost | None, watch: Watch | None = None):
        self.cost = cost
        self.watch = watch or HostWatch()  # of the rank's real device
        self.due = 0.0  # when the device is through; on the clock of ``time.monotonic``
        self.overruns = 0

    def begin(self) -> None:
        """A step starts now."""
        self.due, self.overruns = time.monotonic(), 0

    def now(self) -> float:
        """The paced device's clock: what it is given now starts when all before it is through."""
        return max(time.monotonic(), self.due)

    def seconds(self, moment: Moment) -> float:
        """A mark of the real device, such as an all-reduce of NCCL's gives, on the host's clock."""
        return self.watch.seconds(moment)

    def finish(self) -> None:
        """Block until the real device is through: with this, too, a pace is a ``Watch``."""
        self.watch.finish()

    def settle(self) -> None:
        """Wait until the device is through with what it has."""
        if self.cost is not None:
            _sleep_until(self.due)

    def make_ready(self, action: Action) -> None:
        """Wait until it is time to begin an action's real work, which the device does next."""
        if self.cost is not None:
            _sleep_until(self.due - min(_AHEAD * self.cost.seconds(action), _AT_MOST))

    def message_came(self, send: Action, left: float) -> None:
        """The device has to wait until a message that left at ``left`` was under way its time."""
        if self.cost is not None:
            self.due = max(self.due, left + self.cost.message_seconds(send))

    def keep_busy(self, action: Action, start: float) -> None:
        """An action began at ``start``, and its real work is done: say until when it lasts."""
        if self.cost is None:
            return
        seconds = self.cost.seconds(action)
        self.due = max(self.due + seconds, start + seconds * (1 - _TOLERANCE))
        self.finish()
        now = time.monotonic()
        if now > self.due + _TOLERANCE * seconds:
            self.overruns += seconds > 0
            self.due = now

    def under_way(self, action: Action) -> float:
        """Until when what a SEND or REDUCE_GRAD starts now is under way; 0.0 if unpaced."""
        if self.cost is None:
            return 0.0
        if action.kind is Kind.REDUCE_GRAD:
            return self.due + self.cost.seconds(action)
        return self.due + self.cost.message_seconds(action)

    def wait_until(self, moment: float) -> None:
        """Wait for something that is under way until then."""
        if self.cost is not None:
            self.due = max(self.due, moment)
            _sleep_until(self.due)

    def block(self, send: Action) -> None:
        """With blocking sends: the device does nothing else until the message has arrived."""
        if self.cost is not None:
            self.due += self.cost.message_seconds(send)


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)

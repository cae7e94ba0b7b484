"""Keep a rank to the times of a ``Cost``, as a device and links of that speed would.

A rank drives its device as it would a GPU: it does an action's real work, starts to send the result
and to receive the next message, and waits for the device only before the next action. The device
is busy until the action is due: the later of its last due time and the message's arrival, plus
what the action costs. Due times follow from due times (a message carries its own as a stamp).

The machine's small delays, a late wake-up or a slow hand-over, are not the device's. So a rank
takes a message, and begins an action's real work, a little before the device is free for it, as a
GPU's driver queues work ahead. What comes later than that is made up for, by at most a tenth of an
action, so none is ever much shorter than its cost. Work that takes longer than its cost is an
*overrun*: it is counted, and the device's clock is set to where the rank really is.
"""

import time
from collections.abc import Mapping

from pipelab.action import BUSY, SENDS, Action, Kind, Overlap
from pipelab.engine.protocol.device import DeviceClock, Moment
from pipelab.engine.rank.recorder import Found
from pipelab.simulator import Cost

_TOLERANCE = 0.1  # of an action's cost: what it may make up for, or be late by, uncounted
_AHEAD = 0.5  # of an action's cost: how long before the device is free its real work may begin,
_MAX_AHEAD = 0.003  # but not more seconds than this


class Pace(DeviceClock):
    """Observer: the due times of one rank's device. Without a cost, it never waits.

    It is also the ``DeviceClock`` of that device, for the recorder.
    """

    def __init__(self, cost: Cost | None, clock: DeviceClock | None = None, overlap: bool = True):
        self.cost = cost
        self.overlap = overlap
        self.clock = clock or DeviceClock()  # of the rank's real device
        self.due = 0.0  # when the device is ready; on the clock of ``time.monotonic``
        self.overruns = 0
        self.together: Mapping[Action, Overlap] = {}  # the pair of each action that overlaps
        self._pair_began: Moment = 0.0
        self._is_idle = True  # it has done all that it was given

    @property
    def is_on(self) -> bool:
        """Whether actions take the time of a cost."""
        return self.cost is not None

    def before(self, action: Action) -> None:
        """Sleep until it is time to begin the action's real work, or to wait for its message."""
        if self.cost is None:
            return
        if action.kind in BUSY:
            ahead = min(_AHEAD * self._lasts(action), _MAX_AHEAD)
            _sleep_until(self.due - ahead)
        elif action.kind is Kind.WAIT:
            _sleep_until(self.due - _MAX_AHEAD)

    def after(self, action: Action, found: Found) -> None:
        """Keep the device busy with the action, or the link with the message."""
        if self.cost is None:
            return
        if action.kind in BUSY:
            self._keep_busy(self._lasts_from_now(action, found), self.seconds(found.start))
        elif action.kind in SENDS:
            seconds = self.cost.message_seconds(action)
            found.until = self.due + seconds
            if not self.overlap:  # the device does nothing else until the message has arrived
                self.due += seconds

    def begin(self) -> None:
        """A step starts: now, or where the device is busy with the one before, when that ends."""
        self.overruns = 0
        if self._is_idle:
            self.due, self._is_idle = time.monotonic(), False

    def now(self) -> float:
        """The paced device's clock: work given to it now starts when all before it is done."""
        return max(time.monotonic(), self.due)

    def seconds(self, moment: Moment) -> float:
        """A mark of the real device, such as NCCL's all-reduce gives, on the host's clock."""
        return self.clock.seconds(moment)

    def finish(self) -> None:
        """Block until the real device is ready."""
        self.clock.finish()

    def settle(self) -> None:
        """Wait until the paced device has done what it was given; nothing else is there to do."""
        if self.cost is not None:
            _sleep_until(self.due)
        self._is_idle = True

    def message_came(self, send: Action, left: float) -> None:
        """The device waits until a message that left at ``left`` has travelled long enough."""
        if self.cost is not None:
            self.due = max(self.due, left + self.cost.message_seconds(send))

    def reduced_at(self, reduce: Action) -> float:
        """When an all-reduce that starts now is due; 0.0 if unpaced."""
        return 0.0 if self.cost is None else self.due + self.cost.seconds(reduce)

    def wait_until(self, moment: float) -> None:
        """Wait for something in the background that lasts until then."""
        if self.cost is not None:
            self.due = max(self.due, moment)
            _sleep_until(self.due)

    def _lasts(self, action: Action) -> float:
        """Seconds of an action, or of the pair that it is in."""
        if self.cost is None:
            return 0.0
        both = self.together.get(action)
        return self.cost.overlap_seconds(both) if both else self.cost.seconds(action)

    def _lasts_from_now(self, action: Action, found: Found) -> float:
        """The same; but the B of a pair began with its F, and is over when that is."""
        both = self.together.get(action)
        if both and action == both.backward:
            found.start = self._pair_began
            return 0.0
        self._pair_began = found.start
        return self._lasts(action)

    def _keep_busy(self, seconds: float, start: float) -> None:
        """The real work of an action that began at ``start`` is done: when is the device?"""
        self.due = max(self.due + seconds, start + seconds * (1 - _TOLERANCE))
        self.finish()
        now = time.monotonic()
        if now > self.due + _TOLERANCE * seconds:
            self.overruns += seconds > 0
            self.due = now


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)

"""Keep a rank to the times of a ``Cost``, as a device and links of that speed would.

A rank drives its device as it would a GPU: it does an action's real work, starts to send the result
and to receive the next message, and waits for the device only before the next action. The device
is busy until the action is due: the later of its last due time and the message's arrival, plus
what the action costs. Due times follow from due times (a message carries its own as a stamp).

The machine's delays, a late wake-up or a slow message, are not the device's. So a rank takes its
messages, and does its real work, some hundredths of a second before the device begins with it, as
a GPU's driver queues work ahead:

    device    │ F0        │ F1        │ F2        │
    rank      F0 F1 F2 ──sleeps── F3 F4 ──sleeps──
              at most 40 ms ahead │    │ at least 20 ms: it works again

An action whose work begins only after its device was free still ends when it is due: its delay is
not handed on. It is recorded as it was, with a later start. Only if the work itself is not done
when it is due, the action is *late*: it is counted (trace/disturbance.py), and the device's clock
is set to where the rank really is.
"""

import time
from collections.abc import Mapping

from pipelab.action import BUSY, SENDS, Action, Kind, Overlap
from pipelab.engine.protocol.device import DeviceClock, Moment
from pipelab.engine.rank.recorder import Found
from pipelab.simulator import Cost
from pipelab.trace import UNDISTURBED, Disturbance

_TOLERANCE = 0.1  # of an action's cost: what it may be late by, uncounted
_MOST_AHEAD = 0.04  # seconds before its device: a rank farther ahead sleeps
_LEAST_AHEAD = 0.02  # until it is no more than this ahead


class Pace(DeviceClock):
    """The due times of one rank's device. Without a cost, it never waits.

    It is also the ``DeviceClock`` of that device, for the recorder.
    """

    def __init__(self, cost: Cost | None, clock: DeviceClock | None = None, overlap: bool = True):
        self.cost = cost
        self.overlap = overlap
        self.clock = clock or DeviceClock()  # of the rank's real device
        self.marks_are_seconds = self.clock.marks_are_seconds
        self.due = 0.0  # when the device is ready; on the clock of ``time.monotonic``
        self.is_first = True  # nothing has begun in this step, and no message has come
        self.is_idle = True  # it has done all that it was given
        self.disturbance = UNDISTURBED
        self.together: Mapping[Action, Overlap] = {}  # the pair of each action that overlaps
        self._pair_began: Moment = 0.0

    @property
    def is_on(self) -> bool:
        """Whether actions take the time of a cost."""
        return self.cost is not None

    def before(self, action: Action) -> None:
        """Sleep until it is time to begin the action's real work, or to wait for its message."""
        begins = self.cost is not None and (action.kind in BUSY or action.kind is Kind.WAIT)
        if begins and self.due - time.monotonic() > _MOST_AHEAD:
            _sleep_until(self.due - _LEAST_AHEAD)

    def after(self, action: Action, found: Found) -> None:
        """Keep the device busy with the action, or the link with the message."""
        if self.cost is None:
            return
        if action.kind in BUSY:
            self._keep_busy(action, found)
        elif action.kind in SENDS:
            seconds = self.cost.message_seconds(action)
            found.until = self.due + seconds
            if not self.overlap:  # the device does nothing else until the message has arrived
                self.due += seconds

    def begin_step(self, asked: float) -> None:
        """A step starts that was asked for at ``asked``; ranks need a moment to get ahead.

        Where the device is still busy with the step before, it starts when that has ended.
        """
        self.disturbance = UNDISTURBED
        if self.is_idle:
            self.due = max(self.due, time.monotonic(), asked + _LEAST_AHEAD)
            self.is_first, self.is_idle = True, False

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
        """Wait until the paced device has done what it was given."""
        if self.cost is not None:
            _sleep_until(self.due)

    def message_came(self, send: Action, left: float) -> None:
        """The device waits until a message that left at ``left`` has travelled long enough."""
        if self.cost is not None:
            self.due = max(self.due, left + self.cost.message_seconds(send))
            self.is_first = False

    def reduced_at(self, reduce: Action) -> float:
        """When an all-reduce that starts now is due; 0.0 if unpaced."""
        return 0.0 if self.cost is None else self.due + self.cost.seconds(reduce)

    def wait_until(self, moment: float) -> None:
        """Wait for something in the background that lasts until then."""
        if self.cost is not None:
            self.due = max(self.due, moment)
            _sleep_until(self.due)

    def _keep_busy(self, action: Action, found: Found) -> None:
        """The real work of an action is done: when is the device?"""
        assert self.cost is not None
        both = self.together.get(action)
        if both and action == both.backward:  # it began with its F, and is over when that is
            found.start = self._pair_began
            self._count(action, self.cost.overlap_seconds(both), delay=0.0)
            return
        seconds = self.cost.overlap_seconds(both) if both else self.cost.seconds(action)
        self._pair_began = found.start
        start = self.seconds(found.start)
        if self.is_first:  # a step lasts from here, however late that is
            self.due, self.is_first = start, False
        delay = start - self.due
        self.due += seconds
        self._count(action, seconds, delay)

    def _count(self, action: Action, seconds: float, delay: float) -> None:
        """Whether the action is late, and what it lost."""
        self.finish()
        now = time.monotonic()
        if seconds == 0:  # of no device: what follows begins later, and may make up for it
            return
        if is_late := now > self.due + _TOLERANCE * seconds:
            delay += now - self.due
            self.due = now
        late, timed, lost = self.disturbance
        self.disturbance = Disturbance(late + is_late, timed + 1, lost + delay)


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)

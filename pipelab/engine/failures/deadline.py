"""How long to wait for the answers of ranks."""

import math
import time
from collections.abc import Sequence

from pipelab.engine.protocol.progress import Begun


class Deadline:
    """A time limit that is put off whenever a rank begins an action.

    So ``timeout`` limits one wait or one action, never a whole step.

    Args:
        timeout: seconds in which no rank begins anything.
    """

    def __init__(self, timeout: float):
        self.timeout = timeout
        self._numbers: list[int] | None = None
        self._end = math.inf
        self._last_end = math.inf

    def note(self, begun: Sequence[Begun]) -> None:
        """What each rank began last; any change puts the end off."""
        if (now := [each.number for each in begun]) != self._numbers:
            self._numbers = now
            self._end = time.monotonic() + self.timeout

    def end_within(self, seconds: float) -> None:
        """A rank failed: whatever the others do, they have only so many seconds to say why."""
        self._last_end = min(self._last_end, time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, min(self._end, self._last_end) - time.monotonic())

    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.left() == 0.0

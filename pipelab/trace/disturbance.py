"""Was a paced run disturbed? Other work of the machine makes its actions longer than set.

What such a run took is a fact about that machine in that moment, not about its schedule.
"""

from typing import NamedTuple

from pipelab.words import number


class Disturbance(NamedTuple):
    """How many actions of a paced run took longer than set; false if none did.

    Attributes:
        late: as many actions took longer than set, counted from when their device was free.
        timed: of all those with a set time.
        seconds: of delay: how much later actions began than their device was free for them, and
            late ones ended than they were due.
    """

    late: int
    timed: int
    seconds: float

    def __bool__(self) -> bool:
        return self.late > 0

    @property
    def fact(self) -> str:
        """Such as ``22 of 48 actions took longer than set``."""
        return f"{self.late} of {number(self.timed, 'action')} took longer than set"

    @property
    def sentence(self) -> str:
        """What to say first of all about such a run; empty if it was not disturbed.

        >>> Disturbance(22, 48, 0.4).sentence
        'Your machine was busy: 22 of 48 actions took longer than set. Run again.'
        """
        if not self:
            return ""
        if self.late < self.timed:
            return f"Your machine was busy: {self.fact}. Run again."
        return f"{self.fact}: set a slower pace, or run again on a machine that is less busy."


UNDISTURBED = Disturbance(0, 0, 0.0)

"""The two ends of a schedule: warmup and cooldown, where a repeated pattern leaves ranks idle.

    warmup     a rank waits, and an F whose input is there stands further back: it runs now
    cooldown   no F is left, and an I, for which others wait, is ready: W waits

Peaks stay as they are: an F moves up only past actions at which its rank holds less than its peak.
"""

from collections.abc import Callable
from itertools import accumulate

from pipelab.action import Action, Kind, needs, produces
from pipelab.schedules.schedule import Schedule

_HOLDS = {Kind.F: 1, Kind.B: -1, Kind.W: -1}


def fill_ends(schedule: Schedule) -> Schedule:
    """The same schedule with fewer idle slots at its ends, if every action takes one slot.

    It holds no more activations on any rank, and keeps the order of microbatches.
    """
    ranks = [_Rank(row) for row in schedule.ranks]
    ended: dict[Action, int] = {}  # results, and the slot from which on they can be used
    slot = 0
    while any(rank.left for rank in ranks):

        def is_ready(action: Action, now: int = slot) -> bool:
            results = needs(action, schedule.num_stages)
            return all(ended.get(result, now + 1) <= now for result in results)

        for action in [action for rank in ranks if (action := rank.choose(is_ready))]:
            ended[produces(action)] = slot + 1
        slot += 1
    return Schedule(tuple(tuple(rank.row) for rank in ranks), schedule.name)


class _Rank:
    """One rank: what it has run, what is left, and how much it may hold."""

    def __init__(self, row: tuple[Action, ...]):
        self.row: list[Action] = []
        self.left = list(row)
        self.held = 0
        self.peak = max(accumulate(_HOLDS.get(a.kind, 0) for a in row), default=0)

    def choose(self, is_ready: Callable[[Action], bool]) -> Action | None:
        """Move the action of this slot from what is left to the row; None: the rank is idle."""
        if not self.left:
            return None
        place = self._place(is_ready)
        if place is None:
            return None
        action = self.left.pop(place)
        self.held += _HOLDS.get(action.kind, 0)
        self.row.append(action)
        return action

    def _place(self, is_ready: Callable[[Action], bool]) -> int | None:
        """Where among what is left the action of this slot stands."""
        head = self.left[0]
        if head.kind is Kind.W and all(action.kind is not Kind.F for action in self.left):
            at = next((i for i, a in enumerate(self.left) if a.kind is Kind.I), None)
            if at is not None and is_ready(self.left[at]):
                return at
        return 0 if is_ready(head) else self._early_forward(is_ready)

    def _early_forward(self, is_ready: Callable[[Action], bool]) -> int | None:
        """The first F that is ready, if one more activation fits until its own place."""
        held = self.held
        for place, action in enumerate(self.left):
            if held >= self.peak:
                return None
            if action.kind is Kind.F and is_ready(action):
                return place
            held += _HOLDS.get(action.kind, 0)
        return None

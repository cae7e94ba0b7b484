"""What a rank holds at this moment, in bytes, and how much it may hold: its memory budget.

A device without room for one more tensor fails in the middle of an action. So does a rank with a
budget: after each action the bytes that it really holds are added up.
"""

from pipelab.accounting import GIVES_BACK, IN_FLIGHT, TAKES, Accounts, Part
from pipelab.action import Action, Kind
from pipelab.engine.rank.recorder import Found
from pipelab.trace import Memory


class OverBudget(MemoryError):
    """More bytes than the rank may hold; the text lists them."""


class MemoryBudget(Accounts):
    """Counts the bytes of one rank, and fails if they exceed its budget.

    Args:
        parameters: bytes of the parameters of its stages.
        budget: bytes that it may hold, or None for no limit.
    """

    def __init__(self, parameters: int, budget: int | None):
        super().__init__(parameters)
        self.budget = budget
        self._check()

    @property
    def counted(self) -> set[Kind]:
        """The actions to count: without a budget, those alone that take what lasts."""
        if self.budget is not None:
            return {*TAKES, *GIVES_BACK}
        return {kind for kind, part in TAKES.items() if part not in IN_FLIGHT}

    def after(self, action: Action, found: Found) -> None:
        """Count what the action took and gave back.

        Raises:
            OverBudget: the rank holds more than its budget.
        """
        if found.bytes or self.budget is not None:
            self.count(action, found.bytes)
        if found.bytes:
            self._check()

    @property
    def lasting(self) -> Memory:
        """What the rank holds between steps."""
        held = self.held
        return Memory(held[Part.PARAMETERS], held[Part.GRADIENTS], held[Part.OPTIMIZER])

    def _check(self) -> None:
        if self.budget is not None and self.total > self.budget:
            parts = ", ".join(f"{n:,} of {part}" for part, n in self.held.items() if n)
            raise OverBudget(f"{self.total:,} bytes of a budget of {self.budget:,}: {parts}")

"""What a rank holds at this moment, in bytes, and what it may hold: its memory budget.

A device that has no room for one more tensor fails in the middle of an action. So does a rank
with a budget: after each action its sum is taken, of things that really lie in its memory.
"""

from pipelab.action import Action, Kind

_FREES = {Kind.F: Kind.RECV_F, Kind.B: Kind.RECV_B, Kind.I: Kind.RECV_B}
_BECOMES = {
    Kind.F: "activations",
    Kind.RECV_F: "receive buffers",
    Kind.RECV_B: "receive buffers",
    Kind.B: "gradients",
    Kind.W: "gradients",
    Kind.STEP: "optimizer state",
}


class OverBudget(MemoryError):
    """More bytes than the rank may hold; the text says of what."""


class Ledger:
    """The bytes of one rank by what they are.

    Args:
        parameters: bytes of the parameters of its stages.
        budget: bytes that it may hold, or None for no limit.
    """

    def __init__(self, parameters: int, budget: int | None):
        self.budget = budget
        self.held = {
            "parameters": parameters,
            "gradients": 0,
            "optimizer state": 0,
            "activations": 0,
            "receive buffers": 0,
        }
        self._kept: dict[Action, int] = {}  # by the F or RECV that made them
        self._check()

    def begin(self, gradients: int) -> None:
        """A batch starts with these bytes of gradients, from a step that was not finished."""
        self._kept.clear()
        self.held |= {"gradients": gradients, "activations": 0, "receive buffers": 0}

    def note(self, action: Action, bytes: int) -> None:
        """An action is through; ``bytes`` came into being in it. What it used up is free now.

        Raises:
            OverBudget: the rank holds more than its budget.
        """
        kind = action.kind
        if kind in _FREES:
            self._free(action._replace(kind=_FREES[kind]), "receive buffers")
        if kind in (Kind.B, Kind.W):
            self._free(action._replace(kind=Kind.F), "activations")
        if bytes and kind in _BECOMES:
            self.held[_BECOMES[kind]] += bytes
            if kind in (Kind.F, Kind.RECV_F, Kind.RECV_B):
                self._kept[action] = bytes
            self._check()

    def _free(self, made_by: Action, what: str) -> None:
        self.held[what] -= self._kept.pop(made_by, 0)

    def _check(self) -> None:
        total = sum(self.held.values())
        if self.budget is not None and total > self.budget:
            parts = ", ".join(f"{n:,} of {what}" for what, n in self.held.items() if n)
            raise OverBudget(f"{total:,} bytes of a budget of {self.budget:,}: {parts}")

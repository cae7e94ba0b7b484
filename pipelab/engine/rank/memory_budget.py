"""What a rank holds at this moment, in bytes, and what it may hold: its memory budget.

A device that has no room for one more tensor fails in the middle of an action. So does a rank
with a budget: after each action its sum is taken, of things that really lie in its memory.
"""

from pipelab.action import Action, Kind

_ACTIVATIONS, _BUFFERS, _REDUCED = "activations", "receive buffers", "all-reduce buffers"
_FREES = {
    Kind.F: ((Kind.RECV_F, _BUFFERS),),
    Kind.I: ((Kind.RECV_B, _BUFFERS),),
    Kind.B: ((Kind.RECV_B, _BUFFERS), (Kind.F, _ACTIVATIONS)),
    Kind.W: ((Kind.F, _ACTIVATIONS),),
    Kind.STEP: ((Kind.REDUCE_GRAD, _REDUCED),),
}
_BECOMES = {
    Kind.F: _ACTIVATIONS,
    Kind.RECV_F: _BUFFERS,
    Kind.RECV_B: _BUFFERS,
    Kind.B: "gradients",
    Kind.W: "gradients",
    Kind.REDUCE_GRAD: _REDUCED,
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
            _ACTIVATIONS: 0,
            _BUFFERS: 0,
            _REDUCED: 0,
        }
        self._kept: dict[tuple[Kind, int, int | None], int] = {}  # by the action that made them
        self._check()

    def begin(self, gradients: int) -> None:
        """A batch starts with these bytes of gradients, from a step that was not finished."""
        self._kept.clear()
        self.held |= {"gradients": gradients, _ACTIVATIONS: 0, _BUFFERS: 0, _REDUCED: 0}

    def note(self, action: Action, bytes: int) -> None:
        """An action is through; ``bytes`` came into being in it. What it used up is free now.

        Raises:
            OverBudget: the rank holds more than its budget.
        """
        stage, kind, microbatch = action
        for made_by, what in _FREES.get(kind, ()):
            self.held[what] -= self._kept.pop((made_by, stage, microbatch), 0)
        if bytes and kind in _BECOMES:
            self.held[_BECOMES[kind]] += bytes
            self._kept[kind, stage, microbatch] = bytes
            self._check()

    def _check(self) -> None:
        if self.budget is None:
            return
        total = sum(self.held.values())
        if total > self.budget:
            parts = ", ".join(f"{n:,} of {what}" for what, n in self.held.items() if n)
            raise OverBudget(f"{total:,} bytes of a budget of {self.budget:,}: {parts}")

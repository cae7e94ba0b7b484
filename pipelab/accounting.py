"""Memory accounting: which bytes an action takes, and which it gives back. The one table of it.

    F             takes activations; gives back the buffer of its input, which counts in them now
    B             takes gradients, the first time; gives back activations, and its gradient's buffer
    I, W          the halves of a B: I gives back the buffer, W the activations
    RECV          takes a buffer
    REDUCE_GRAD   takes the buffer of an all-reduce, as large as its gradients, and those of weights
                  that are tied to other ranks
    STEP          takes the optimizer's state, the first time; gives back the all-reduce's buffer

A rank's memory budget counts with it while it works, a trace's memory curve and the activations
that a schedule holds are counted with it afterwards.
"""

from enum import StrEnum

from pipelab.action import Action, Kind


class Part(StrEnum):
    """What the bytes of a rank are."""

    PARAMETERS = "parameters"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer state"
    ACTIVATIONS = "activations"
    BUFFERS = "receive buffers"
    REDUCED = "all-reduce buffers"

    __hash__ = str.__hash__  # Enum's own is a Python function, and an action looks up several


TAKES = {
    Kind.F: Part.ACTIVATIONS,
    Kind.B: Part.GRADIENTS,
    Kind.I: Part.GRADIENTS,
    Kind.W: Part.GRADIENTS,
    Kind.RECV_F: Part.BUFFERS,
    Kind.RECV_B: Part.BUFFERS,
    Kind.REDUCE_GRAD: Part.REDUCED,
    Kind.STEP: Part.OPTIMIZER,
}

GIVES_BACK = {  # what these earlier actions of the same stage and microbatch took
    Kind.F: (Kind.RECV_F,),
    Kind.B: (Kind.RECV_B, Kind.F),
    Kind.I: (Kind.RECV_B,),
    Kind.W: (Kind.F,),
    Kind.STEP: (Kind.REDUCE_GRAD,),
}

IN_FLIGHT = (Part.ACTIVATIONS, Part.BUFFERS, Part.REDUCED)  # all given back by the end of a step


class Accounts:
    """The bytes that one rank holds, by what they are."""

    def __init__(self, parameters: int = 0, gradients: int = 0, optimizer: int = 0):
        self.held = dict.fromkeys(Part, 0)
        self.held[Part.PARAMETERS] = parameters
        self.held[Part.GRADIENTS] = gradients
        self.held[Part.OPTIMIZER] = optimizer
        self._taken: dict[tuple[Kind, int, int | None], int] = {}

    def begin_step(self, gradients: int) -> None:
        """Start a step with the gradients that earlier ones left, and nothing in flight."""
        self._taken.clear()
        self.held |= dict.fromkeys(IN_FLIGHT, 0)
        self.held[Part.GRADIENTS] = gradients

    def count(self, action: Action, bytes: int) -> None:
        """An action has ended and took ``bytes``.

        >>> accounts = Accounts()
        >>> accounts.count(Action(0, Kind.F, 0), 100)
        >>> accounts.held[Part.ACTIVATIONS]
        100
        >>> accounts.count(Action(0, Kind.B, 0), 0)
        >>> accounts.held[Part.ACTIVATIONS]
        0
        """
        stage, kind, microbatch = action
        for taker in GIVES_BACK.get(kind, ()):
            self.held[TAKES[taker]] -= self._taken.pop((taker, stage, microbatch), 0)
        if bytes and kind in TAKES:
            self.held[TAKES[kind]] += bytes
            self._taken[kind, stage, microbatch] = bytes

    @property
    def total(self) -> int:
        """All bytes together."""
        return sum(self.held.values())

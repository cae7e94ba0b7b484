"""An action is one thing that one rank does for one microbatch, with its text form, the token.

    2F0      stage 2, forward, microbatch 0
    2B0      ... full backward: gradients of the input and of the weights
    2I0 2W0  ... the two halves of a backward (zero-bubble papers write B for our I)
    2SEND_F0 ... hand the output to stage 3          2RECV_F0 ... get the input from stage 2-1
    2SEND_B0 ... hand the input's gradient to 2-1    2RECV_B0 ... get the output's gradient from 3
    2F0.1    ... of slice 1 of microbatch 0, where its sequence is cut in slices
    (0F3;7B1)OVERLAP_F_B  an F and a B of one rank at the same time, see ``Overlap``
    2REDUCE_GRAD, 2STEP   once per stage: average over replicas, step of the optimizer
                          (a tied weight's gradients are added up in REDUCE_GRAD too)

The letters and the text form are those of torch.distributed.pipelining, so that schedules paste
across.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from pipelab.errors import ScheduleError


class Kind(StrEnum):
    """What an action does. ``WAIT`` stands in traces only: time spent until a message is there."""

    F = "F"
    B = "B"
    I = "I"  # noqa: E741 - the field's letter
    W = "W"
    SEND_F = "SEND_F"
    RECV_F = "RECV_F"
    SEND_B = "SEND_B"
    RECV_B = "RECV_B"
    REDUCE_GRAD = "REDUCE_GRAD"
    STEP = "STEP"
    WAIT = "WAIT"

    __hash__ = str.__hash__  # Enum's own is a Python function: actions are hashed by the million


COMPUTE = frozenset({Kind.F, Kind.B, Kind.I, Kind.W})
MESSAGES = frozenset({Kind.SEND_F, Kind.RECV_F, Kind.SEND_B, Kind.RECV_B})
SENDS = frozenset({Kind.SEND_F, Kind.SEND_B})
RECEIVES = MESSAGES - SENDS
BUSY = COMPUTE | {Kind.STEP}  # what keeps a device busy; everything else happens beside it
PER_STAGE = frozenset({Kind.REDUCE_GRAD, Kind.STEP})

_NUMBER = "(0|[1-9][0-9]{0,8})"
_TOKEN = re.compile(
    rf"{_NUMBER}(F|B|I|W|SEND_F|RECV_F|SEND_B|RECV_B){_NUMBER}(?:\.(0|[1-9][0-9]{{0,3}}))?"
)
_FSDP = re.compile(r"\d+(UNSHARD|RESHARD)\d*")  # in what torch writes as "compute_comms"
_OVERLAP = re.compile(r"\(\s*([^;()]+);([^;()]+)\)OVERLAP_F_B")
_STAGE_TOKEN = re.compile(f"{_NUMBER}(REDUCE_GRAD|STEP)")


class Slice(int):
    """The number of a slice: a microbatch whose sequence is cut in ``of`` slices, and its place.

    As an integer it counts all slices, so that everything that is kept per microbatch is kept per
    slice. Slices of one microbatch are bound to each other: see ``pipelab.schedules.sliced``.

    >>> Slice(3, 1, of=2), int(Slice(3, 1, of=2))
    (3.1, 7)
    """

    of: int

    def __new__(cls, microbatch: int, place: int, of: int) -> "Slice":
        """Slice ``place`` (0 is the first) of a microbatch."""
        number = super().__new__(cls, microbatch * of + place)
        number.of = of
        return number

    @property
    def microbatch(self) -> int:
        """The number of its microbatch."""
        return int(self) // self.of

    @property
    def place(self) -> int:
        """Which slice of the microbatch it is; 0 is the first."""
        return int(self) % self.of

    def __repr__(self) -> str:
        return f"{self.microbatch}.{self.place}"

    __str__ = __repr__

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self.microbatch, self.place, self.of


def numbered_on(number: int, pieces: int) -> int:
    """The number of the same microbatch, or slice, in a later step, after so many of either.

    >>> numbered_on(1, 8), numbered_on(Slice(0, 1, of=2), 8)
    (9, 4.1)
    """
    if not pieces:
        return number
    if isinstance(number, Slice):
        return Slice(number.microbatch + pieces // number.of, number.place, number.of)
    return number + pieces


class Action(NamedTuple):
    """One action: ``Action(2, Kind.F, 0)`` is the token ``2F0``."""

    stage: int
    kind: Kind
    microbatch: int | None = None

    @property
    def token(self) -> str:
        """The text form.

        >>> Action(2, Kind.SEND_F, 0).token, Action(1, Kind.STEP).token
        ('2SEND_F0', '1STEP')
        """
        return f"{self.stage}{self.kind}{'' if self.microbatch is None else self.microbatch}"

    @classmethod
    def parse(cls, token: str, slices: int | None = None) -> "Action":
        """The action that a token stands for. Raises ScheduleError on anything but a token.

        ``slices``: of each microbatch, for a token such as ``2F0.1``; else as many as it shows.

        >>> Action.parse("2F0") == Action(2, Kind.F, 0)
        True
        """
        if match := _TOKEN.fullmatch(token):
            number = int(match[3])
            if match[4] is not None:
                number = Slice(number, int(match[4]), slices or int(match[4]) + 1)
            return cls(int(match[1]), Kind(match[2]), number)
        if match := _STAGE_TOKEN.fullmatch(token):
            return cls(int(match[1]), Kind(match[2]))
        if _FSDP.fullmatch(token):
            raise ScheduleError(
                f"{token!r}: UNSHARD and RESHARD are FSDP's: leave them out\n"
                f"(here each rank holds the whole weights of its stages)"
            )
        raise ScheduleError(
            f"{token!r} is no token: write stage, letter, microbatch, such as 2F0 "
            f"(letters F, B, I, W)"
        )


class Overlap(NamedTuple):
    """An F and a B of one rank that run as one action: both start, and both end, together.

    In a schedule's row the two stand one after the other, F first. They are of two microbatches
    (DeepSeek-V3, arXiv 2412.19437, section 3.2): on a device that waits for messages in the middle
    of one, the other computes.

    >>> Overlap(Action(0, Kind.F, 3), Action(7, Kind.B, 1)).token
    '(0F3;7B1)OVERLAP_F_B'
    """

    forward: Action
    backward: Action

    @property
    def token(self) -> str:
        """The text form, torch's."""
        return f"({self.forward.token};{self.backward.token})OVERLAP_F_B"

    @classmethod
    def parse(cls, token: str) -> "Overlap | None":
        """The two actions of a token; None for a token of one action.

        Raises ScheduleError for two that are not an F and a B.
        """
        if "OVERLAP" not in token:
            return None
        if match := _OVERLAP.fullmatch(token):
            both = cls(Action.parse(match[1].strip()), Action.parse(match[2].strip()))
            if (both.forward.kind, both.backward.kind) == (Kind.F, Kind.B):
                return both
        raise ScheduleError(f"{token!r}: what overlaps is one F and one B: (0F3;7B1)OVERLAP_F_B")


# Looked up once: in Python 3.11 each ``Kind.F`` is a function call, and these run by the million.
_F, _B, _I, _W = Kind.F, Kind.B, Kind.I, Kind.W


def produces(action: Action) -> Action:
    """The result that others wait for. A full backward gives what its first half, I, gives.

    >>> produces(Action(1, Kind.B, 0)).token
    '1I0'
    """
    stage, kind, microbatch = action
    return Action(stage, _I, microbatch) if kind is _B else action


def needs(action: Action, num_stages: int) -> list[Action]:
    """The results that a computing action waits for, messages left aside.

    >>> [a.token for a in needs(Action(1, Kind.B, 0), num_stages=3)]
    ['1F0', '2I0']
    """
    stage, kind, microbatch = action
    if kind is _F:
        return [Action(stage - 1, _F, microbatch)] if stage > 0 else []
    if kind is _B or kind is _I:
        own = [Action(stage, _F, microbatch)]
        return own + [Action(stage + 1, _I, microbatch)] * (stage + 1 < num_stages)
    return [Action(stage, _I, microbatch)] if kind is _W else []

"""What a rank's row of the schedule implies: which message an action needs, and who sends it."""

from pipelab.action import MESSAGES, Action, Kind

_NEEDS = {Kind.F: Kind.RECV_F, Kind.B: Kind.RECV_B, Kind.I: Kind.RECV_B}
_SENT_AS = {Kind.RECV_F: (-1, Kind.SEND_F), Kind.RECV_B: (+1, Kind.SEND_B)}


class Route:
    """One rank's row, for training or for evaluation.

    Attributes:
        needs_message: for each computing action that needs a message, the RECV that posts it.
        home: the rank of each stage.
    """

    def __init__(self, row: tuple[Action, ...], home: dict[int, int]):
        self.row = row
        self.home = home
        posted = set(row)
        pairs = ((a, a._replace(kind=_NEEDS[a.kind])) for a in row if a.kind in _NEEDS)
        self.needs_message = {action: recv for action, recv in pairs if recv in posted}

    def actions(self, num_microbatches: int, update: bool) -> list[Action]:
        """The row for a batch that may have fewer microbatches, or no update at its end."""
        return [
            a
            for a in self.row
            if (update if a.microbatch is None else a.microbatch < num_microbatches)
        ]

    def channels(self, rank: int) -> set[tuple[int, int]]:
        """The ways from rank to rank that this rank's messages take."""
        found = set()
        for action in self.row:
            if action.kind in MESSAGES:
                ends = (rank, self.peer(action))
                sends = action.kind in (Kind.SEND_F, Kind.SEND_B)
                found.add(ends if sends else ends[::-1])
        return found

    def peer(self, message: Action) -> int:
        """The rank at the other end of a message."""
        forward = message.kind in (Kind.SEND_F, Kind.RECV_B)
        return self.home[message.stage + (1 if forward else -1)]


def sent_as(recv: Action) -> Action:
    """The SEND at the other end of a RECV.

    >>> sent_as(Action(2, Kind.RECV_F, 0)).token
    '1SEND_F0'
    """
    step, kind = _SENT_AS[recv.kind]
    return recv._replace(stage=recv.stage + step, kind=kind)
